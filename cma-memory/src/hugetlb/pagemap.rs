//! Physical addresses of this process's memory, as far as the kernel shows them
//! (`Documentation/admin-guide/mm/pagemap.rst`).

use super::file::PoolFile;
use super::pool::Pool;
use crate::mapping::Mapping;
use crate::system::{errno, with_raised_limit};
use cma_framework::MemoryError;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// `/proc/self/pagemap`. The kernel checks the permission when the file is opened, not when it is
/// read.
#[derive(Debug)]
pub(super) struct Pagemap(File);

impl Pagemap {
    /// Opens it, if it shows physical addresses to this process.
    ///
    /// # Errors
    ///
    /// Why it doesn't, and what to do.
    pub(super) fn open() -> Result<Self, String> {
        let open = || File::open("/proc/self/pagemap").map_err(|error| errno(&error));
        let file = with_raised_limit(open)
            .map_err(|error| format!("/proc/self/pagemap: {error}; {REMEDY}"))?;
        let local = 1_u8;
        match Pagemap(file) {
            pagemap if pagemap.frame((&raw const local).addr()).is_ok_and(|frame| frame != 0) => {
                Ok(pagemap)
            }
            _ => Err(format!("physical addresses are hidden from this process; {REMEDY}")),
        }
    }

    /// The number of the physical page behind `address`; 0 where nothing is mapped, or where it is
    /// hidden from this process.
    pub(super) fn frame(&self, address: usize) -> io::Result<u64> {
        let mut entry = [0; 8];
        self.0.read_exact_at(&mut entry, (address / PAGE * size_of::<u64>()) as u64)?;
        let entry = u64::from_ne_bytes(entry);
        Ok(if entry & PRESENT != 0 { entry & FRAME } else { 0 })
    }

    /// The number of the first physical page of the huge page at `offset` of a file.
    pub(super) fn frame_of(
        &self,
        file: &PoolFile,
        offset: u64,
        pool: Pool,
    ) -> Result<u64, MemoryError> {
        let mapping = Mapping::of_huge_pages(file, offset, pool.size as usize)?;
        mapping.populate(0..mapping.len())?;
        self.frame(mapping.address()).map_err(|source| MemoryError::System {
            call: "/proc/self/pagemap",
            source,
            remedy: None,
        })
    }
}

const REMEDY: &str = "run it as root (CAP_SYS_ADMIN) to verify contiguity";

const PAGE: usize = cma_framework::PAGE_SIZE as usize;

/// The bit of an entry that is set when a page is mapped.
const PRESENT: u64 = 1 << 63;

/// The bits of an entry that are the page's number: the lowest 55.
const FRAME: u64 = (1 << 55) - 1;
