//! A board's memory as addresses alone.

use super::{ReserveError, ReserveRequest, Reserved, Reserver};
use crate::vocabulary::{Bank, Growth, Place, Platform};
use cma_api::{PageRange, Pages, Request};
use std::ops::Range;

/// Memory banks that exist as addresses alone: they simulate a board on any machine and use no
/// memory.
///
/// A region without a fixed start goes into the first bank with room for it, within its window if
/// it has one, at the lowest or highest free aligned address, depending on the [`Growth`]. Adjacent
/// or overlapping banks count as one: if no bank alone has room for a region, it may cross from one
/// to the other. Empty banks are ignored.
///
/// ```
/// use cma_framework::config::{Bank, Growth, Place};
/// use cma_framework::reserve::{Banks, ReserveRequest, Reserver};
/// use cma_framework::{Alignment, DmaAddr, Pages};
///
/// let mut banks = Banks::new(&[Bank::new(0x4000_0000, 0x10_0000)], Growth::Down);
/// let (pages, alignment) = (Pages::new(3), Alignment::PAGE);
/// let request = ReserveRequest { name: None, pages, alignment, place: Place::Anywhere };
/// assert_eq!(banks.reserve(&request)?.range.start(), DmaAddr::new(0x400f_d000));
/// # Ok::<(), cma_framework::reserve::ReserveError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Banks {
    /// The banks as given, in the order in which they are filled.
    given: Vec<PageRange>,
    /// The same banks, with adjacent and overlapping ones joined. None is empty.
    banks: Vec<PageRange>,
    growth: Growth,
    /// Ascending, disjoint.
    reserved: Vec<PageRange>,
    /// The unreserved parts of `banks`: ascending, each within one bank, no two of the same bank
    /// adjacent.
    free: Vec<PageRange>,
}

impl Banks {
    /// Banks with nothing reserved.
    pub fn new(banks: &[Bank], growth: Growth) -> Self {
        let mut disjoint: Vec<PageRange> = Vec::new();
        for Bank(bank) in banks.iter().filter(|Bank(bank)| bank.pages() > Pages::ZERO) {
            // The joined bank keeps the position of the first bank that it joins.
            let touches = |other: &PageRange| {
                other.first_page() <= bank.end_page() && bank.first_page() <= other.end_page()
            };
            let at = disjoint.iter().position(touches).unwrap_or(disjoint.len());
            let joined = disjoint.extract_if(.., |other| touches(other)).fold(*bank, hull);
            disjoint.insert(at, joined);
        }
        let given = banks.iter().map(|Bank(bank)| *bank).collect();
        let mut free = disjoint.clone();
        free.sort_unstable_by_key(|bank| bank.first_page());
        Banks { given, banks: disjoint, growth, reserved: Vec::new(), free }
    }

    /// The memory of a board.
    pub fn of(platform: &Platform) -> Self {
        Banks::new(platform.banks, platform.growth)
    }

    /// Reserves addresses. A port uses them for memory that has no addresses of its own.
    ///
    /// # Errors
    ///
    /// [`ReserveError`]; then nothing is reserved.
    pub fn place(&mut self, request: &ReserveRequest) -> Result<PageRange, ReserveError> {
        let range = self.find(request)?;
        self.withhold(range)?;
        Ok(range)
    }

    /// Reserves exactly `range`, whether or not it lies in a bank. [`release`](Self::release) ends
    /// the reservation.
    ///
    /// # Errors
    ///
    /// [`ReserveError::Taken`] when a page of it is reserved already; then nothing has changed.
    pub fn withhold(&mut self, range: PageRange) -> Result<(), ReserveError> {
        let at = self.first_reserved_above(range.first_page());
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

    /// Releases a range that was reserved as a whole; any other range is ignored.
    pub fn release(&mut self, range: PageRange) {
        let at = self.first_reserved_above(range.first_page());
        if self.reserved.get(at) == Some(&range) {
            self.reserved.remove(at);
            for bank in &self.banks {
                let Some(part) = bank.common(range) else { continue };
                // Joins the part with the adjacent free ranges of the same bank.
                let first = part.first_page().saturating_sub(1).max(bank.first_page());
                let end = (part.end_page() + 1).min(bank.end_page());
                let joined = overlapping(&self.free, PageRange::from_pages(first, end - first));
                let whole = self.free[joined.clone()].iter().copied().fold(part, hull);
                self.free.splice(joined, [whole]);
            }
        }
    }

    /// The index of the first reserved range that ends above page `first`.
    fn first_reserved_above(&self, first: u64) -> usize {
        self.reserved.partition_point(|reserved| reserved.end_page() <= first)
    }

    fn find(&self, request: &ReserveRequest) -> Result<PageRange, ReserveError> {
        let Some(wanted) = request.in_its_window() else {
            return Err(ReserveError::Other("no address serves this request".to_string()));
        };
        let range = wanted.window();
        let window = match request.place {
            Place::Anywhere => None,
            Place::Within(window) if !self.banks.iter().any(|bank| bank.overlaps(range)) => {
                return Err(ReserveError::NoMemoryWithin { window });
            }
            Place::Within(window) => Some(window),
            Place::At(_) => {
                let reserved = self.reserved.get(self.first_reserved_above(range.first_page()));
                if let Some(taken) = reserved.filter(|taken| taken.overlaps(range)) {
                    return Err(ReserveError::Taken { wanted: range, taken: *taken });
                }
                let within = self.banks.iter().any(|bank| range.within(*bank));
                return if within {
                    Ok(range)
                } else {
                    Err(ReserveError::NoMemoryThere { wanted: range })
                };
            }
        };
        let found =
            self.given.iter().chain(&self.banks).find_map(|bank| self.find_within(*bank, &wanted));
        found.ok_or_else(|| {
            let free = self.free.iter().filter_map(|free| free.common(range));
            ReserveError::NoSpace {
                wanted: request.pages,
                alignment: request.alignment,
                window,
                largest: free.map(PageRange::pages).max().unwrap_or_default(),
            }
        })
    }

    /// The lowest or highest free range within `bank` that serves `request`.
    fn find_within(&self, bank: PageRange, request: &Request) -> Option<PageRange> {
        let mut free = self.free[overlapping(&self.free, bank)].iter();
        match self.growth {
            Growth::Up => free.find_map(|free| request.lowest_place(free.common(bank)?)),
            Growth::Down => free.rev().find_map(|free| request.highest_place(free.common(bank)?)),
        }
    }
}

/// The indices of the `ranges` that overlap `range`. `ranges` are ascending and disjoint.
fn overlapping(ranges: &[PageRange], range: PageRange) -> Range<usize> {
    let first = ranges.partition_point(|other| other.end_page() <= range.first_page());
    let end = ranges.partition_point(|other| other.first_page() < range.end_page());
    first..end.max(first)
}

/// The non-empty parts of `whole` below and above `taken`.
fn without(whole: PageRange, taken: PageRange) -> impl Iterator<Item = PageRange> {
    let (first, end) = (whole.first_page(), whole.end_page());
    let parts = [(first, end.min(taken.first_page())), (first.max(taken.end_page()), end)];
    let parts = parts.into_iter().filter(|(first, end)| first < end);
    parts.map(|(first, end)| PageRange::from_pages(first, end - first))
}

/// The smallest range that contains both.
fn hull(one: PageRange, other: PageRange) -> PageRange {
    let first = one.first_page().min(other.first_page());
    PageRange::from_pages(first, one.end_page().max(other.end_page()) - first)
}

impl Reserver for Banks {
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        self.place(request).map(Reserved::from)
    }
}

#[cfg(test)]
mod tests;
