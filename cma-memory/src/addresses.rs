//! Addresses for memory without physical ones, shared among the ports of one program.

use cma_framework::PageRange;
use cma_framework::reserve::{Banks, ReserveError, ReserveRequest};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A board's banks, from which ports reserve addresses. Clones share the same banks, so that no two
/// regions overlap.
#[derive(Clone, Debug)]
pub struct Addresses(Arc<Mutex<Banks>>);

impl From<Banks> for Addresses {
    fn from(banks: Banks) -> Self {
        Addresses(Arc::new(Mutex::new(banks)))
    }
}

impl Addresses {
    /// Reserves addresses permanently.
    pub(crate) fn reserve_permanently(
        &self,
        request: &ReserveRequest,
    ) -> Result<PageRange, ReserveError> {
        self.banks().place(request)
    }

    /// Reserves addresses until the returned value is dropped.
    pub(crate) fn reserve(&self, request: &ReserveRequest) -> Result<ReservedRange, ReserveError> {
        let range = self.banks().place(request)?;
        Ok(ReservedRange { range, banks: self.clone() })
    }

    /// Withholds physical addresses from other memory, also where a bank contains only a part of
    /// them. `None` when they are reserved already: a region of the board and the physical memory
    /// would have the same addresses.
    pub(crate) fn withhold(&self, range: PageRange) -> Option<ReservedRange> {
        self.banks().withhold(range).ok()?;
        Some(ReservedRange { range, banks: self.clone() })
    }

    fn banks(&self) -> MutexGuard<'_, Banks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Addresses that are reserved until this is dropped.
#[derive(Debug)]
pub(crate) struct ReservedRange {
    pub(crate) range: PageRange,
    banks: Addresses,
}

impl ReservedRange {
    /// Keeps them reserved permanently.
    pub(crate) fn keep(self) -> PageRange {
        let range = self.range;
        std::mem::forget(self);
        range
    }
}

impl Drop for ReservedRange {
    fn drop(&mut self) {
        self.banks.banks().release(self.range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::config::{Bank, Growth, Place};
    use cma_framework::{Alignment, Pages};

    /// A huge page that is partly in a bank was treated as one that is in none, so that its
    /// addresses were also reserved for other memory.
    #[test]
    fn addresses_that_are_partly_in_a_bank_are_withheld() {
        let addresses =
            Addresses::from(Banks::new(&[Bank::new(0x4010_0000, 0x40_0000)], Growth::Up));
        let page = PageRange::from_pages(0x40000, 512);
        let withheld = addresses.withhold(page).unwrap();
        assert!(addresses.withhold(page).is_none());
        let request = |pages| ReserveRequest {
            name: None,
            pages: Pages::new(pages),
            alignment: Alignment::PAGE,
            place: Place::Anywhere,
        };
        let reserved = addresses.reserve(&request(0x300)).unwrap();
        assert_eq!(reserved.range.first_page(), 0x40200);
        assert!(addresses.reserve(&request(1)).is_err());
        drop((withheld, reserved));
        assert_eq!(addresses.reserve(&request(0x400)).unwrap().range.first_page(), 0x40100);
    }
}
