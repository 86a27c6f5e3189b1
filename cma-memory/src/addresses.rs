//! Addresses for memory that has none of its own, shared among the ports of one program.

use cma_framework::reserve::{Banks, ReserveError, ReserveRequest};
use cma_framework::{Alignment, PageRange};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A board's banks, which ports take addresses from. Clones share the same banks, so that no two regions meet.
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
        self.banks().set_aside(request)
    }

    /// Sets addresses aside for as long as the answer lives.
    pub(crate) fn take(&self, request: &ReserveRequest) -> Result<Taken, ReserveError> {
        let range = self.banks().set_aside(request)?;
        Ok(Taken { range, banks: Some(self.clone()) })
    }

    /// Keeps physical addresses from being given to other memory. `None` when they are already: then the board's region and the
    /// physical memory would be taken for one another.
    pub(crate) fn withhold(&self, range: PageRange) -> Option<Taken> {
        let (pages, start) = (range.pages(), Some(range.start()));
        match self.take(&ReserveRequest { name: None, pages, alignment: Alignment::PAGE, start }) {
            Ok(taken) => Some(taken),
            Err(ReserveError::Taken { .. }) => None,
            // In no bank: nobody will be given them.
            Err(_) => Some(Taken { range, banks: None }),
        }
    }

    fn banks(&self) -> MutexGuard<'_, Banks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Addresses that are set aside as long as this lives.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) range: PageRange,
    banks: Option<Addresses>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(banks) = &self.banks {
            banks.banks().give_back(self.range);
        }
    }
}
