//! The pinned pages of a region.

use crate::system::{system_error, with_raised_limit};
use cma_framework::MemoryError;
use cma_pin::{Page, Ring};

/// Pins pages as long as it lives, each separately, so that unpinning one never unpins another. A
/// page may be unmapped before it is unpinned.
#[derive(Debug)]
pub(super) struct Pin {
    /// All but the last have [`Ring::MAX_SLOTS`] pages.
    rings: Vec<Ring>,
    /// The size of a page in bytes.
    page: usize,
}

impl Pin {
    /// Pins the pages of `page` bytes that are mapped at these addresses.
    pub(super) fn new(
        addresses: impl Iterator<Item = usize>,
        page: usize,
    ) -> Result<Self, MemoryError> {
        let pages: Vec<_> = addresses.map(|address| Some(Page { address, len: page })).collect();
        Pin::of(&pages, page)
    }

    /// Room for `count` pages of `page` bytes, of which none is pinned yet.
    pub(super) fn none(count: usize, page: usize) -> Result<Self, MemoryError> {
        Pin::of(&vec![None; count], page)
    }

    fn of(pages: &[Option<Page>], page: usize) -> Result<Self, MemoryError> {
        let rings = pages.chunks(Ring::MAX_SLOTS).map(ring_of).collect::<Result<_, _>>()?;
        Ok(Pin { rings, page })
    }

    /// Unpins page number `index`.
    pub(super) fn unpin(&self, index: usize) -> Result<(), MemoryError> {
        self.set(index, None)
    }

    /// Pins the page that is mapped at `address` now, as number `index`.
    pub(super) fn pin(&self, index: usize, address: usize) -> Result<(), MemoryError> {
        self.set(index, Some(Page { address, len: self.page }))
    }

    fn set(&self, index: usize, page: Option<Page>) -> Result<(), MemoryError> {
        let ring = &self.rings[index / Ring::MAX_SLOTS];
        ring.set(index % Ring::MAX_SLOTS, page).map_err(system_error("io_uring_register"))
    }
}

fn ring_of(pages: &[Option<Page>]) -> Result<Ring, MemoryError> {
    let ring = with_raised_limit(Ring::new).map_err(system_error("io_uring_setup"))?;
    ring.register(pages.iter().copied()).map_err(system_error("io_uring_register"))?;
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hugetlb::machine::Machine;
    use crate::mapping::Mapping;
    use crate::sealed::SealedFile;
    use rustix::fs::MemfdFlags;
    use std::io::Write;

    const PAGE: usize = cma_framework::PAGE_SIZE as usize;

    /// The bytes that this process has pinned. Other tests pin some while they have the machine.
    fn pinned() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmPin:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    fn skipped(why: &MemoryError) {
        writeln!(std::io::stderr(), "skipped: {why}").unwrap();
    }

    /// Above 16,384 pages several were unpinned together, so that a failed exchange left neighbours
    /// unpinned.
    #[test]
    fn each_of_many_pages_is_pinned_separately() {
        let _machine = Machine::lock();
        let pages = Ring::MAX_SLOTS + 2;
        let file =
            SealedFile::create("pinned", (pages * PAGE) as u64, MemfdFlags::empty()).unwrap();
        let mapping = Mapping::of(&file, pages * PAGE).unwrap();
        mapping.populate(0..mapping.len()).unwrap();
        let address = |page: usize| mapping.address() + page * PAGE;
        let pin = match Pin::new((0..pages).map(address), PAGE) {
            Ok(pin) => pin,
            Err(why) => return skipped(&why),
        };
        assert_eq!(pinned(), pages * PAGE);
        for page in [0, 1, Ring::MAX_SLOTS - 1, Ring::MAX_SLOTS, Ring::MAX_SLOTS + 1] {
            pin.unpin(page).unwrap();
            assert_eq!(pinned(), (pages - 1) * PAGE, "page {page} alone is unpinned");
            pin.pin(page, address(page)).unwrap();
            assert_eq!(pinned(), pages * PAGE);
        }
        drop(pin);
        assert_eq!(pinned(), 0);
    }
}
