//! Where a region may lie (specification section 3).

use cma_api::{DmaAddr, PAGE_SIZE, PageRange};
use std::fmt;

/// Where a region may lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Anywhere in memory.
    #[default]
    Anywhere,
    /// At this start. It is rounded up to the region's alignment.
    At(DmaAddr),
    /// Anywhere within a window.
    Within(Window),
}

impl Place {
    /// The fixed start, if there is one.
    pub const fn start(&self) -> Option<DmaAddr> {
        match self {
            Place::At(start) => Some(*start),
            Place::Anywhere | Place::Within(_) => None,
        }
    }

    /// Its rank in the order in which regions are reserved: fixed starts, then windows, then the
    /// rest, so that no region takes the place that another one was promised.
    pub(crate) const fn reserving_rank(&self) -> u8 {
        match self {
            Place::At(_) => 0,
            Place::Within(_) => 1,
            Place::Anywhere => 2,
        }
    }
}

impl fmt::Display for Place {
    /// As in `cma=`: nothing, `@start` or `@start-end`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Anywhere => Ok(()),
            Place::At(start) => write!(f, "@{start}"),
            Place::Within(window) => write!(f, "@{window}"),
        }
    }
}

/// The addresses from a start up to an end, which is the address after the last byte. Never empty;
/// it may end at the top of the 64-bit address space, 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start: u64,
    last: u64,
}

impl Window {
    /// The addresses from `start` up to `end`; `None` unless `end` is above `start`.
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start < end { Some(Window { start, last: end - 1 }) } else { None }
    }

    /// `bytes` bytes at `start`; `None` for 0 bytes, and for a window that passes the top of the
    /// address space.
    pub const fn sized(start: u64, bytes: u64) -> Option<Self> {
        if bytes == 0 {
            return None;
        }
        match start.checked_add(bytes - 1) {
            Some(last) => Some(Window { start, last }),
            None => None,
        }
    }

    /// The addresses from `start` up to `end`, which is at most 2^64.
    pub(super) fn up_to(start: u64, end: u128) -> Option<Self> {
        let last = u64::try_from(end.checked_sub(1)?).ok()?;
        (start <= last).then_some(Window { start, last })
    }

    /// The lowest address.
    pub const fn start(&self) -> DmaAddr {
        DmaAddr::new(self.start)
    }

    /// The highest address.
    pub const fn last(&self) -> DmaAddr {
        DmaAddr::new(self.last)
    }

    /// The whole pages within the window. There are none if it is too small.
    pub const fn pages(&self) -> PageRange {
        let first = self.start.div_ceil(PAGE_SIZE);
        let part_of_a_page = self.last % PAGE_SIZE != PAGE_SIZE - 1;
        let end = self.last / PAGE_SIZE + if part_of_a_page { 0 } else { 1 };
        PageRange::from_pages(first, end.saturating_sub(first))
    }
}

impl fmt::Display for Window {
    /// Start and end, as in `0x40000000-0x80000000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start, u128::from(self.last) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_the_whole_pages_between_its_ends() {
        for (window, first, pages) in [
            (Window::new(0, 1), 0, 0),
            (Window::new(0, 4096), 0, 1),
            (Window::new(1, 8191), 1, 0),
            (Window::new(4095, 8192), 1, 1),
            (Window::new(4097, 12289), 2, 1),
            (Window::sized(0, u64::MAX), 0, (1 << 52) - 1),
            (Window::sized(0x1000, u64::MAX - 0xfff), 1, (1 << 52) - 1),
            (Window::up_to(u64::MAX - 0xfff, 1 << 64), (1 << 52) - 1, 1),
        ] {
            let window = window.unwrap();
            assert_eq!(window.pages(), PageRange::from_pages(first, pages), "{window}");
        }
    }

    #[test]
    fn a_window_is_never_empty_and_ends_in_the_address_space() {
        for none in [
            Window::new(0, 0),
            Window::new(2, 1),
            Window::sized(7, 0),
            Window::sized(2, u64::MAX),
            Window::up_to(1, 1),
            Window::up_to(0, 0),
            Window::up_to(0, (1 << 64) + 1),
        ] {
            assert_eq!(none, None);
        }
        let top = Window::up_to(1 << 63, 1 << 64).unwrap();
        assert_eq!(top, Window::sized(1 << 63, 1 << 63).unwrap());
        assert_eq!(top.to_string(), "0x8000000000000000-0x10000000000000000");
    }
}
