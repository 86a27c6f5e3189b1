//! Where regions get their memory: the port [`Reserver`], and [`Banks`], which simulates a board's
//! memory.

use crate::core::memory::Memory;
pub use crate::vocabulary::ReserveRequest;
use crate::vocabulary::{Bank, Bytes, Growth, Platform};
use cma_api::{Alignment, PageRange, Pages};
use std::ops::Range;

impl ReserveRequest {
    /// Whether `range` is what was asked for: a reserver is the host's, and the framework relies on
    /// what it answers.
    pub(crate) fn accept(&self, reserved: Reserved) -> Result<Reserved, ReserveError> {
        let range = reserved.range;
        let fits = range.pages() == self.pages
            && range.end_page() <= PageRange::ADDRESS_SPACE_PAGES
            && range.start().is_aligned(self.alignment)
            && self.start.is_none_or(|start| start == range.start());
        if fits { Ok(reserved) } else { Err(ReserveError::Misplaced { range }) }
    }
}

/// What a reserver has set aside.
#[derive(Debug)]
pub struct Reserved {
    /// The addresses.
    pub range: PageRange,
    /// The memory behind them; `None` for addresses alone.
    pub memory: Option<Box<dyn Memory>>,
}

impl From<PageRange> for Reserved {
    /// Addresses alone.
    fn from(range: PageRange) -> Self {
        Reserved { range, memory: None }
    }
}

/// Gives memory to early regions.
///
/// It is asked for one region after the other, and may look at the framework it works for and
/// change it, but for what would wait for it:
/// [`early_regions_reserve`](crate::Cma::early_regions_reserve) and
/// [`initialise`](crate::Cma::initialise).
pub trait Reserver {
    /// Is told what it will be asked for next, in this order, before it is asked for the first of
    /// them. A reserver whose memory is limited can say what all of them take together. Does
    /// nothing by default.
    fn announce(&mut self, _requests: &[ReserveRequest]) {}

    /// Sets `request.pages` pages aside: at `request.start` when that is given, else where the
    /// reserver likes.
    ///
    /// # Errors
    ///
    /// [`ReserveError`]; then nothing is set aside.
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError>;
}

/// Why there is no memory for an early region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// The wished place overlaps what is reserved already.
    #[error("{wanted} overlaps {taken}, which is reserved already")]
    Taken {
        /// The pages it was to have.
        wanted: PageRange,
        /// The reserved range in its way.
        taken: PageRange,
    },
    /// The wished place is not memory.
    #[error("{wanted} does not lie within one memory bank")]
    NoMemoryThere {
        /// The pages it was to have.
        wanted: PageRange,
    },
    /// No bank has a free range of that size and alignment.
    #[error("no memory bank has {} free in one piece{}; the largest free piece is {}", Bytes(wanted.bytes()),
        if *alignment > Alignment::PAGE { format!(" aligned to {}", Bytes(alignment.bytes())) } else { String::new() },
        Bytes(largest.bytes()))]
    NoSpace {
        /// The size it was to have.
        wanted: Pages,
        /// The alignment it was to have.
        alignment: Alignment,
        /// The largest free range of any bank.
        largest: Pages,
    },
    /// The reserver answered with a range that is not what it was asked for.
    #[error("the reserver answered with {range}, which is not what it was asked for")]
    Misplaced {
        /// Its answer.
        range: PageRange,
    },
    /// The reserver's own reason.
    #[error("{0}")]
    Other(String),
}

/// Memory banks that exist as addresses alone: a board's memory on any machine, without using any.
///
/// A region without a start wish goes into the first bank that holds it, at its lowest or highest
/// place that is free and aligned. Banks that touch or overlap are one bank: a region may cross
/// from one to the other, and does if neither holds it alone. Empty ones are none.
///
/// ```
/// use cma_framework::config::{Bank, Growth};
/// use cma_framework::reserve::{Banks, ReserveRequest, Reserver};
/// use cma_framework::{Alignment, DmaAddr, Pages};
///
/// let mut banks = Banks::new(&[Bank::new(0x4000_0000, 0x10_0000)], Growth::Down);
/// let request = ReserveRequest { name: None, pages: Pages::new(3), alignment: Alignment::PAGE, start: None };
/// assert_eq!(banks.reserve(&request)?.range.start(), DmaAddr::new(0x400f_d000));
/// # Ok::<(), cma_framework::reserve::ReserveError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Banks {
    /// As they were given, in the order in which they are filled.
    given: Vec<PageRange>,
    /// The same, with those that touch joined. None is empty, and no two touch.
    banks: Vec<PageRange>,
    growth: Growth,
    /// Ascending, disjoint.
    reserved: Vec<PageRange>,
    /// What of the banks is not reserved: ascending, each within one bank, no two of one bank
    /// touch.
    free: Vec<PageRange>,
}

impl Banks {
    /// Banks with nothing reserved.
    pub fn new(banks: &[Bank], growth: Growth) -> Self {
        let mut apart: Vec<PageRange> = Vec::new();
        for Bank(bank) in banks.iter().filter(|Bank(bank)| bank.pages() > Pages::ZERO) {
            // Those that this one joins are one bank with it, where the first of them is.
            let touches = |other: &PageRange| {
                other.first_page() <= bank.end_page() && bank.first_page() <= other.end_page()
            };
            let at = apart.iter().position(touches).unwrap_or(apart.len());
            let joined = apart.extract_if(.., |other| touches(other)).fold(*bank, hull);
            apart.insert(at, joined);
        }
        let given = banks.iter().map(|Bank(bank)| *bank).collect();
        let mut free = apart.clone();
        free.sort_unstable_by_key(|bank| bank.first_page());
        Banks { given, banks: apart, growth, reserved: Vec::new(), free }
    }

    /// The memory of a board.
    pub fn of(platform: &Platform) -> Self {
        Banks::new(platform.banks, platform.growth)
    }

    /// Sets addresses aside. Ports whose memory has no addresses of its own give it these.
    ///
    /// # Errors
    ///
    /// [`ReserveError`]; then nothing is set aside.
    pub fn set_aside(&mut self, request: &ReserveRequest) -> Result<PageRange, ReserveError> {
        let place = self.place(request)?;
        self.withhold(place)?;
        Ok(place)
    }

    /// Keeps `range` from being set aside for anything else, whether it lies in a bank, in none, or
    /// in one with a part of it. [`give_back`](Self::give_back) ends that.
    ///
    /// # Errors
    ///
    /// [`ReserveError::Taken`] when a page of it is reserved already; then nothing has changed.
    pub fn withhold(&mut self, range: PageRange) -> Result<(), ReserveError> {
        let at = self.behind(range.first_page());
        match self.reserved.get(at) {
            Some(taken) if taken.overlaps(range) => {
                Err(ReserveError::Taken { wanted: range, taken: *taken })
            }
            _ if range.pages() == Pages::ZERO => Ok(()),
            _ => {
                self.reserved.insert(at, range);
                let cut = overlapping(&self.free, range);
                let left: Vec<_> =
                    self.free[cut.clone()].iter().flat_map(|free| without(*free, range)).collect();
                self.free.splice(cut, left);
                Ok(())
            }
        }
    }

    /// Gives back what was set aside or withheld as this range.
    pub fn give_back(&mut self, range: PageRange) {
        let at = self.behind(range.first_page());
        if self.reserved.get(at) == Some(&range) {
            self.reserved.remove(at);
            for bank in &self.banks {
                let Some(part) = common(*bank, range) else { continue };
                // With the free ranges of the bank that it touches it is one.
                let first = part.first_page().saturating_sub(1).max(bank.first_page());
                let end = (part.end_page() + 1).min(bank.end_page());
                let joined = overlapping(&self.free, PageRange::from_pages(first, end - first));
                let whole = self.free[joined.clone()].iter().copied().fold(part, hull);
                self.free.splice(joined, [whole]);
            }
        }
    }

    /// The number of the first reserved range that ends behind page `first`.
    fn behind(&self, first: u64) -> usize {
        self.reserved.partition_point(|reserved| reserved.end_page() <= first)
    }

    fn place(&self, request: &ReserveRequest) -> Result<PageRange, ReserveError> {
        if request.pages == Pages::ZERO {
            return Err(ReserveError::Other("no pages were asked for".to_string()));
        }
        if let Some(start) = request.start {
            let wanted = PageRange::from_pages(start.page(), request.pages.get());
            let behind = self.reserved.get(self.behind(wanted.first_page()));
            if let Some(taken) = behind.filter(|taken| taken.overlaps(wanted)) {
                return Err(ReserveError::Taken { wanted, taken: *taken });
            }
            let within = self.banks.iter().any(|bank| wanted.within(*bank));
            return if within { Ok(wanted) } else { Err(ReserveError::NoMemoryThere { wanted }) };
        }
        let place =
            self.given.iter().chain(&self.banks).find_map(|bank| self.place_within(*bank, request));
        place.ok_or_else(|| {
            let largest = self.free.iter().map(|free| free.pages()).max().unwrap_or_default();
            ReserveError::NoSpace { wanted: request.pages, alignment: request.alignment, largest }
        })
    }

    /// The lowest or highest place within `bank`.
    fn place_within(&self, bank: PageRange, request: &ReserveRequest) -> Option<PageRange> {
        let mut free = self.free[overlapping(&self.free, bank)].iter();
        let place = |free: &PageRange| place_in(common(*free, bank)?, request, self.growth);
        match self.growth {
            Growth::Up => free.find_map(place),
            Growth::Down => free.rev().find_map(place),
        }
    }
}

/// Which of `ranges`, ascending and disjoint, have a page of `range`.
fn overlapping(ranges: &[PageRange], range: PageRange) -> Range<usize> {
    let first = ranges.partition_point(|other| other.end_page() <= range.first_page());
    let end = ranges.partition_point(|other| other.first_page() < range.end_page());
    first..end.max(first)
}

/// The pages that both have.
fn common(one: PageRange, other: PageRange) -> Option<PageRange> {
    let first = one.first_page().max(other.first_page());
    let end = one.end_page().min(other.end_page());
    (first < end).then(|| PageRange::from_pages(first, end - first))
}

/// What is left of `whole` in front of `taken` and behind it.
fn without(whole: PageRange, taken: PageRange) -> impl Iterator<Item = PageRange> {
    let (first, end) = (whole.first_page(), whole.end_page());
    let parts = [(first, end.min(taken.first_page())), (first.max(taken.end_page()), end)];
    let parts = parts.into_iter().filter(|(first, end)| first < end);
    parts.map(|(first, end)| PageRange::from_pages(first, end - first))
}

/// The smallest range that has both.
fn hull(one: PageRange, other: PageRange) -> PageRange {
    let first = one.first_page().min(other.first_page());
    PageRange::from_pages(first, one.end_page().max(other.end_page()) - first)
}

/// The lowest or highest aligned place in `free`.
fn place_in(free: PageRange, request: &ReserveRequest, growth: Growth) -> Option<PageRange> {
    let (pages, step) = (request.pages.get(), request.alignment.pages().get());
    let first = match growth {
        Growth::Up => free.first_page().checked_next_multiple_of(step)?,
        Growth::Down => free.end_page().checked_sub(pages)? / step * step,
    };
    let place = PageRange::from_pages(first, pages);
    place.within(free).then_some(place)
}

impl Reserver for Banks {
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        self.set_aside(request).map(Reserved::from)
    }
}

#[cfg(test)]
mod tests;
