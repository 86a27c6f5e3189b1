//! A region's pages: where each is, and when it may be used again after it was shared.

use super::error::HugetlbError;
use super::pagemap::Pagemap;
use super::pin::Pin;
use super::pool::{Page, PageState, Pool};
use crate::addresses::ReservedRange;
use crate::mapping::Mapping;
use crate::system::system_error;
use cma_framework::memory::Contiguity;
use cma_framework::{DmaAddr, MemoryError, PAGE_SIZE, PageRange, Pages};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// A region of huge pages, mapped once for all its chunks. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct HugeRegion {
    pub(super) range: PageRange,
    pub(super) pool: Pool,
    /// The name of its files.
    pub(super) label: String,
    /// The size of a huge page in bytes.
    pub(super) step: usize,
    /// Reads physical addresses; an error says why that is impossible.
    pub(super) pagemap: Result<Pagemap, String>,
    /// An error says why the pages are not pinned.
    pub(super) pin: Result<Pin, String>,
    pub(super) mapping: Mapping,
    pub(super) pages: Vec<Page>,
    pub(super) _addresses: Vec<ReservedRange>,
}

/// Held while a page is freed and allocated anew. The pool returns the page that was freed last,
/// unless it serves another request in between; the lock keeps this process from making one.
static EXCHANGING: Mutex<()> = Mutex::new(());

/// The most bytes of the pool that are searched for a page that was freed. The kernel clears each
/// page that is taken out.
const MAX_SEARCHED: u64 = 32 << 20;

impl HugeRegion {
    /// Checks that each page still is where its address says.
    pub(super) fn verify(&self) -> Result<(), HugetlbError> {
        (0..self.pages.len()).try_for_each(|index| {
            self.check_place(index).map_err(|found| HugetlbError::Moved {
                index,
                expected: self.page_range(index).start(),
                found,
            })
        })
    }

    pub(super) fn contiguity(&self) -> Contiguity {
        match (&self.pagemap, &self.pin) {
            (Ok(_), Ok(_)) => Contiguity::Verified,
            (Ok(_), Err(why)) => Contiguity::Movable(why.clone()),
            (Err(why), _) => Contiguity::Unknown(why.clone()),
        }
    }

    pub(super) fn granule(&self) -> Pages {
        Pages::new(self.step as u64 / PAGE_SIZE)
    }

    /// Checks that page `index` is where its address says, as far as addresses are known. The error
    /// is where it is.
    fn check_place(&self, index: usize) -> Result<(), DmaAddr> {
        let Ok(pagemap) = &self.pagemap else { return Ok(()) };
        let expected = self.page_range(index).first_page();
        match pagemap.frame(self.mapping.address() + index * self.step) {
            Ok(frame) if frame == expected => Ok(()),
            found => Err(PageRange::from_pages(found.unwrap_or(0), 1).start()),
        }
    }

    /// The addresses of page `index`.
    fn page_range(&self, index: usize) -> PageRange {
        let frames = self.granule().get();
        PageRange::from_pages(self.range.first_page() + index as u64 * frames, frames)
    }

    /// The position of page `index` in the mapping.
    fn place(&self, index: usize) -> Range<usize> {
        index * self.step..(index + 1) * self.step
    }

    /// Makes sure that no other process has page `index`. No byte of the page may be borrowed.
    /// Returns whether it is all zero.
    pub(super) fn reclaim(&self, index: usize) -> Result<bool, MemoryError> {
        let mut page = self.pages[index].lock();
        if !page.shared {
            return Ok(false);
        } else if !page.file.is_exclusive() {
            return Err(MemoryError::Held { range: self.page_range(index) });
        }
        self.exchange(index, &mut page)?;
        page.shared = false;
        Ok(true)
    }

    /// Frees page `index` and allocates it anew, zeroed and without pins of other processes. Where
    /// physical addresses are hidden, another page may take its place.
    fn exchange(&self, index: usize, page: &mut PageState) -> Result<(), MemoryError> {
        let _exchanging = EXCHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(pin) = &self.pin {
            pin.unpin(self.place(index).start)?;
        }
        page.file.free_pages().map_err(system_error("fallocate"))?;
        let same_page =
            self.mapping.populate(self.place(index)).is_ok() && self.check_place(index).is_ok();
        if !same_page && let Err(error) = self.search(index, page) {
            // The pool can use the page that came in its place.
            page.file.free_pages().map_err(system_error("fallocate"))?;
            return Err(error);
        }
        self.pin.as_ref().map_or(Ok(()), |pin| pin.pin(self.place(index).start))
    }

    /// Searches the next pages of the pool for the one that belongs at `index`.
    fn search(&self, index: usize, page: &mut PageState) -> Result<(), MemoryError> {
        let expected = self.page_range(index);
        let lost = || MemoryError::Lost { range: expected };
        let pagemap = self.pagemap.as_ref().map_err(|_| lost())?;
        // Kept to the end, so that the pool doesn't return them again.
        let mut others = Vec::new();
        let most = (MAX_SEARCHED / self.pool.size).max(1) as usize;
        while others.len() < most {
            let other = self.pool.take(&self.label)?.ok_or_else(lost)?;
            if other.frame(self.pool, pagemap)? != expected.first_page() {
                others.push(other);
                continue;
            }
            let found = other.into_state();
            // SAFETY: no byte of the page is borrowed, as it is being reclaimed.
            unsafe { self.mapping.replace(self.place(index), &found.file) }?;
            self.mapping.populate(self.place(index))?;
            *page = PageState { shared: true, ..found };
            return self.check_place(index).map_err(|_| lost());
        }
        Err(lost())
    }
}
