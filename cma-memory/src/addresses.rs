//! Addresses for memory that has none of its own, shared among the ports of one program.

use cma_framework::PageRange;
use cma_framework::reserve::{Banks, ReserveError, ReserveRequest};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A board's banks, which ports take addresses from. Clones share the same banks, so that no two
/// regions meet.
#[derive(Clone, Debug)]
pub struct Addresses(Arc<Mutex<Banks>>);

impl From<Banks> for Addresses {
    fn from(banks: Banks) -> Self {
        Addresses(Arc::new(Mutex::new(banks)))
    }
}

impl Addresses {
    /// Sets addresses aside for good.
    pub(crate) fn give_away(&self, request: &ReserveRequest) -> Result<PageRange, ReserveError> {
        self.banks().place(request)
    }

    /// Sets addresses aside for as long as the answer lives.
    pub(crate) fn take(&self, request: &ReserveRequest) -> Result<Taken, ReserveError> {
        let range = self.banks().place(request)?;
        Ok(Taken { range, banks: self.clone() })
    }

    /// Keeps physical addresses from being given to other memory, also where a bank has only a part
    /// of them. `None` when they are already: then the board's region and the physical memory would
    /// be taken for one another.
    pub(crate) fn withhold(&self, range: PageRange) -> Option<Taken> {
        self.banks().withhold(range).ok()?;
        Some(Taken { range, banks: self.clone() })
    }

    fn banks(&self) -> MutexGuard<'_, Banks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Addresses that are set aside as long as this lives.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) range: PageRange,
    banks: Addresses,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.banks.banks().release(self.range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::config::{Bank, Growth};
    use cma_framework::{Alignment, Pages};

    /// A huge page that lies in a bank with a part of it was taken for one that lies in none, so
    /// that its addresses were given to other memory, too.
    #[test]
    fn addresses_of_which_a_bank_has_only_a_part_are_withheld() {
        let addresses =
            Addresses::from(Banks::new(&[Bank::new(0x4010_0000, 0x40_0000)], Growth::Up));
        let page = PageRange::from_pages(0x40000, 512);
        let withheld = addresses.withhold(page).unwrap();
        assert!(addresses.withhold(page).is_none());
        let request = |pages| ReserveRequest {
            name: None,
            pages: Pages::new(pages),
            alignment: Alignment::PAGE,
            start: None,
        };
        let taken = addresses.take(&request(0x300)).unwrap();
        assert_eq!(taken.range.first_page(), 0x40200);
        assert!(addresses.take(&request(1)).is_err());
        drop((withheld, taken));
        assert_eq!(addresses.take(&request(0x400)).unwrap().range.first_page(), 0x40100);
    }
}
