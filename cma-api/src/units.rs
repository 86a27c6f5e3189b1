//! Addresses, page counts, page ranges and alignments, shared by framework and allocators.
//!
//! These types guarantee that an allocator handles whole pages only. A range is half-open and
//! counted in pages, because a region may end exactly at the top of the address space, where "one
//! past the end" is not an address.

use abi_stable::StableAbi;
use std::fmt;

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

/// The granule of every region and chunk, in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// An address as a device sees it, in bytes.
///
/// It has no arithmetic operators on purpose: callers use the checked methods, or count in pages
/// with [`PageRange`].
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DmaAddr(u64);

impl DmaAddr {
    /// The address `bytes`.
    pub const fn new(bytes: u64) -> Self {
        DmaAddr(bytes)
    }

    /// The address in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address plus `bytes`, or `None` when that passes the top of the address space.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(DmaAddr(sum)),
            None => None,
        }
    }

    /// The number of the page that holds this address.
    pub const fn page(self) -> u64 {
        self.0 >> PAGE_SHIFT
    }

    /// Whether the address is a multiple of `alignment`.
    pub const fn is_aligned(self, alignment: Alignment) -> bool {
        self.0 & (alignment.bytes() - 1) == 0
    }

    /// The lowest multiple of `alignment` that is not below this address; `None` when there is
    /// none.
    pub const fn align_up(self, alignment: Alignment) -> Option<Self> {
        let mask = alignment.bytes() - 1;
        match self.0.checked_add(mask) {
            Some(sum) => Some(DmaAddr(sum & !mask)),
            None => None,
        }
    }
}

impl fmt::Display for DmaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for DmaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaAddr({:#x})", self.0)
    }
}

impl fmt::LowerHex for DmaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// A number of pages.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Pages(u64);

impl Pages {
    /// No pages.
    pub const ZERO: Pages = Pages(0);

    /// `count` pages.
    pub const fn new(count: u64) -> Self {
        Pages(count)
    }

    /// The fewest pages that hold `bytes`. Never overflows: 2^64 - 1 bytes are 2^52 pages.
    pub const fn covering(bytes: u64) -> Self {
        Pages(bytes.div_ceil(PAGE_SIZE))
    }

    /// The count.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The size in bytes, saturated at [`u64::MAX`].
    pub const fn bytes(self) -> u64 {
        self.0.saturating_mul(PAGE_SIZE)
    }
}

/// The lowest page and the number of pages of a region, chunk or hole; half-open.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRange {
    first: u64,
    pages: Pages,
}

impl PageRange {
    /// The number of pages in a 64-bit address space: no valid range ends above it.
    pub const ADDRESS_SPACE_PAGES: u64 = 1 << (u64::BITS - PAGE_SHIFT);

    /// All pages of a 64-bit address space.
    pub const ADDRESS_SPACE: PageRange = PageRange::from_pages(0, PageRange::ADDRESS_SPACE_PAGES);

    /// `pages` pages, the lowest of which has the number `first`.
    pub const fn from_pages(first: u64, pages: u64) -> Self {
        PageRange { first, pages: Pages(pages) }
    }

    /// `bytes` bytes at `start`, if both are whole pages and the range fits into the address space.
    /// The range may end exactly at its top.
    pub const fn from_bytes(start: DmaAddr, bytes: u64) -> Option<Self> {
        if !start.is_aligned(Alignment::PAGE) || !bytes.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let range = PageRange::from_pages(start.page(), bytes >> PAGE_SHIFT);
        if range.end_page() > PageRange::ADDRESS_SPACE_PAGES { None } else { Some(range) }
    }

    /// The lowest address. Meaningless for a range above the address space, which only a faulty
    /// allocator produces; see [`within`](Self::within).
    pub const fn start(self) -> DmaAddr {
        DmaAddr(self.first << PAGE_SHIFT)
    }

    /// The number of pages.
    pub const fn pages(self) -> Pages {
        self.pages
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.pages.bytes()
    }

    /// The number of the lowest page.
    pub const fn first_page(self) -> u64 {
        self.first
    }

    /// One past the number of the highest page. (Saturating: a faulty allocator may return any
    /// range.)
    pub const fn end_page(self) -> u64 {
        self.first.saturating_add(self.pages.0)
    }

    /// Whether all of this range lies in `outer`.
    pub const fn within(self, outer: PageRange) -> bool {
        // A start below `outer` wraps to a huge offset, and no sum is needed that could wrap.
        let offset = self.first.wrapping_sub(outer.first);
        self.pages.0 <= outer.pages.0 && offset <= outer.pages.0 - self.pages.0
    }

    /// Whether the two ranges share a page.
    pub const fn overlaps(self, other: PageRange) -> bool {
        self.first < other.end_page() && other.first < self.end_page()
    }

    /// The pages that both ranges have; `None` when there are none.
    pub const fn common(self, other: PageRange) -> Option<PageRange> {
        let first = if self.first > other.first { self.first } else { other.first };
        let (end, other_end) = (self.end_page(), other.end_page());
        let end = if end < other_end { end } else { other_end };
        if first < end { Some(PageRange::from_pages(first, end - first)) } else { None }
    }

    /// Whether `address` lies in the range.
    pub const fn contains(self, address: DmaAddr) -> bool {
        self.first <= address.page() && address.page() < self.end_page()
    }
}

impl fmt::Display for PageRange {
    /// `0x40000000+0x1000000`, start and size, as boards are written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#x}+{:#x}",
            u128::from(self.first) << PAGE_SHIFT,
            u128::from(self.pages.0) << PAGE_SHIFT
        )
    }
}

impl fmt::Debug for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageRange({self})")
    }
}

/// An alignment: a power of two of at least a page. Stored as its logarithm, so that no other value
/// can be represented.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alignment(u8);

impl Alignment {
    /// The alignment every chunk has.
    pub const PAGE: Alignment = Alignment(12);

    /// The alignment `bytes`: 0 and powers of two below a page become a page; `None` if `bytes` is
    /// not a power of two.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes <= PAGE_SIZE && (bytes == 0 || bytes.is_power_of_two()) {
            Some(Alignment::PAGE)
        } else if bytes.is_power_of_two() {
            Some(Alignment(bytes.trailing_zeros() as u8))
        } else {
            None
        }
    }

    /// log2 of the alignment in bytes, 12 to 63.
    pub const fn log2(self) -> u32 {
        self.0 as u32
    }

    /// The alignment in bytes.
    pub const fn bytes(self) -> u64 {
        1 << self.0
    }

    /// The alignment as a number of pages, a power of two.
    pub const fn pages(self) -> Pages {
        Pages(1 << (self.0 as u32 - PAGE_SHIFT))
    }
}

impl fmt::Debug for Alignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alignment({:#x})", self.bytes())
    }
}

impl Default for Alignment {
    fn default() -> Self {
        Alignment::PAGE
    }
}

/// A power of two of at least a page, of which a chunk may cross no multiple.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boundary(u8);

impl Boundary {
    /// No boundary: the size of the address space, of which no chunk crosses a multiple.
    pub const NONE: Boundary = Boundary(u64::BITS as u8);

    /// A boundary of `bytes`; `None` unless that is a power of two of at least a page.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= PAGE_SIZE {
            Some(Boundary(bytes.trailing_zeros() as u8))
        } else {
            None
        }
    }

    /// The boundary in bytes; `None` for [`NONE`](Self::NONE).
    pub const fn bytes(self) -> Option<u64> {
        1u64.checked_shl(self.0 as u32)
    }

    /// The boundary as a number of pages, a power of two. That of [`NONE`](Self::NONE) is the
    /// number of pages in the address space.
    pub const fn pages(self) -> Pages {
        Pages(1 << (self.0 as u32 - PAGE_SHIFT))
    }
}

impl fmt::Debug for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            Some(bytes) => write!(f, "Boundary({bytes:#x})"),
            None => f.write_str("Boundary(none)"),
        }
    }
}

impl Default for Boundary {
    fn default() -> Self {
        Boundary::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_may_end_exactly_at_the_top_of_the_address_space() {
        let top = PageRange::from_bytes(DmaAddr::new(u64::MAX - 0xffff), 0x10000).unwrap();
        assert_eq!(top.end_page(), PageRange::ADDRESS_SPACE_PAGES);
        assert!(top.contains(DmaAddr::new(u64::MAX)));
        assert_eq!(PageRange::from_bytes(DmaAddr::new(u64::MAX - 0xffff), 0x11000), None);
    }

    #[test]
    fn only_powers_of_two_are_alignments() {
        assert_eq!(Alignment::new(0), Some(Alignment::PAGE));
        assert_eq!(Alignment::new(1), Some(Alignment::PAGE));
        assert_eq!(Alignment::new(2048), Some(Alignment::PAGE));
        assert_eq!(Alignment::new(3), None);
        assert_eq!(Alignment::new(4097), None);
        assert_eq!(Alignment::new(1 << 63).map(Alignment::bytes), Some(1 << 63));
    }

    #[test]
    fn aligning_up_past_the_top_returns_none() {
        let huge = Alignment::new(1 << 63).unwrap();
        assert_eq!(DmaAddr::new((1 << 63) + 1).align_up(huge), None);
        assert_eq!(DmaAddr::new(1).align_up(huge), Some(DmaAddr::new(1 << 63)));
    }

    #[test]
    fn the_largest_size_covers_all_pages_of_the_address_space() {
        assert_eq!(Pages::covering(u64::MAX).get(), PageRange::ADDRESS_SPACE_PAGES);
        assert_eq!(Pages::covering(1).get(), 1);
        assert_eq!(Pages::covering(0).get(), 0);
    }

    #[test]
    fn a_range_outside_the_address_space_is_within_no_region() {
        let region = PageRange::from_pages(16, 16);
        assert!(!PageRange::from_pages(u64::MAX, 2).within(region));
        assert!(!PageRange::from_pages(15, 2).within(region));
        assert!(PageRange::from_pages(16, 16).within(region));
    }
}
