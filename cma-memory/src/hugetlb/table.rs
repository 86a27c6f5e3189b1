//! What a process needs to know of a region's home that it did not make: a small sealed file beside
//! it.
//!
//! Words of 64 bits, in the byte order of the machine:
//!
//! | word | content |
//! | --- | --- |
//! | 0 | [`MAGIC`], which has the version |
//! | 1 | 1 if the region's addresses are physical ones, 0 if those were hidden |
//! | 2 | the number of the region's first page |
//! | 3 | the size of a huge page in bytes |
//! | 4 | the number of huge pages |
//! | 5.. | for each huge page its offset in the home, in bytes |

use crate::restored::{self, Expected, Size};
use crate::sealed::SIZE_SEALS;
use crate::system::{system_error, with_raised_limit};
use cma_framework::{MemoryError, PAGE_SIZE, PageRange};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// The layout of a region's home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Whether the region's addresses are physical ones.
    pub(super) physical: bool,
    pub(super) range: PageRange,
    /// The size of a huge page in bytes, a power of two.
    pub(super) step: u64,
    /// The offset of each huge page in the home, in bytes.
    pub(super) offsets: Vec<u64>,
}

/// `CMAHOME` and the version of the layout.
const MAGIC: u64 = u64::from_be_bytes(*b"CMAHOME\x01");

/// The words before the offsets.
const HEAD: usize = 5;

const SEALS: SealFlags = SIZE_SEALS.union(SealFlags::WRITE);

impl Table {
    /// The table as a sealed file.
    pub(super) fn to_file(&self, label: &str) -> Result<OwnedFd, MemoryError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = with_raised_limit(|| memfd_create(label, flags))
            .map_err(system_error("memfd_create"))?;
        let file = File::from(file);
        let head =
            [MAGIC, self.physical.into(), self.range.first_page(), self.step, self.count() as u64];
        let words = head.iter().chain(&self.offsets);
        let bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
        file.write_all_at(&bytes, 0).map_err(failed("write"))?;
        fcntl_add_seals(&file, SEALS).map_err(system_error("fcntl(F_ADD_SEALS)"))?;
        Ok(file.into())
    }

    /// Reads the table of a region at `range`.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(super) fn read(file: OwnedFd, label: &str, range: PageRange) -> Result<Self, String> {
        let expected = Expected { label, huge_page: None, seals: SEALS, size: Size::Any };
        let (size, _sole_use) = restored::verify(file.as_fd(), expected)?;
        let file = File::from(file);
        let most = HEAD as u64 + range.pages().get();
        if size % 8 != 0 || !(HEAD as u64..=most).contains(&(size / 8)) {
            return Err(format!("the table of its home has {size} bytes"));
        }
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, 0).map_err(|error| error.to_string())?;
        let words: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let (head, offsets) = words.split_at(HEAD);
        Table::of(head, offsets.to_vec(), range)
            .ok_or_else(|| format!("the table of its home is not that of a region at {range}"))
    }

    /// The table of these words, if it is one for `range`.
    fn of(head: &[u64], offsets: Vec<u64>, range: PageRange) -> Option<Self> {
        let &[MAGIC, physical @ 0..=1, first, step, count] = head else { return None };
        let frames = Some(step / PAGE_SIZE).filter(|_| step.is_power_of_two())?;
        let fits = frames > 0
            && first == range.first_page()
            && first.is_multiple_of(frames)
            && count == offsets.len() as u64
            && count.checked_mul(frames) == Some(range.pages().get());
        let distinct: HashSet<u64> = offsets.iter().copied().collect();
        let in_order = |offset: &u64| offset.is_multiple_of(step) && *offset < MAX_HOME;
        let valid = fits && distinct.len() == offsets.len() && offsets.iter().all(in_order);
        valid.then_some(Table { physical: physical == 1, range, step, offsets })
    }

    fn count(&self) -> usize {
        self.offsets.len()
    }

    /// The length of the home in bytes, up to the end of its last page.
    pub(super) fn end(&self) -> u64 {
        self.offsets.iter().max().map_or(0, |last| last + self.step)
    }
}

/// No home is longer, in bytes.
const MAX_HOME: u64 = 1 << 45;

fn failed(call: &'static str) -> impl Fn(io::Error) -> MemoryError {
    move |source| MemoryError::System { call, source, remedy: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn table() -> Table {
        let range = PageRange::from_pages(0x40000, 3 * 512);
        Table { physical: true, range, step: 2 << 20, offsets: vec![4 << 20, 0, 10 << 20] }
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        for physical in [true, false] {
            let table = Table { physical, ..table() };
            let file = table.to_file("cma:t").unwrap();
            assert_eq!(Table::read(file, "cma:t", table.range), Ok(table.clone()));
            assert_eq!(table.end(), 12 << 20);
        }
    }

    #[test]
    fn a_table_of_another_region_or_with_any_wrong_word_is_refused() {
        let right = table();
        let read =
            |table: &Table, range| Table::read(table.to_file("cma:t").unwrap(), "cma:t", range);
        for range in [
            PageRange::from_pages(0x40200, 3 * 512),
            PageRange::from_pages(0x40000, 2 * 512),
            PageRange::from_pages(0x40000, 1 << 30),
        ] {
            assert!(read(&right, range).is_err(), "{range}");
        }
        for wrong in [
            Table { step: 3 << 20, ..table() },
            Table { step: 1 << 20, ..table() },
            Table { step: 0, ..table() },
            Table { offsets: vec![0, 0, 2 << 20], ..table() },
            Table { offsets: vec![0, 4096, 2 << 20], ..table() },
            Table { offsets: vec![0, 2 << 20], ..table() },
            Table { offsets: vec![0, 2 << 20, 1 << 62], ..table() },
            Table { offsets: vec![], ..table() },
        ] {
            assert!(read(&wrong, right.range).is_err(), "{wrong:?}");
        }
        let file = right.to_file("cma:t").unwrap();
        assert!(file.as_raw_fd() > 0 && Table::read(file, "cma:u", right.range).is_err());
    }
}
