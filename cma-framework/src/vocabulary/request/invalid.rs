//! The fault of a request.

use crate::vocabulary::size::Bytes;
use cma_api::DmaAddr;

/// The fault of a request. Sizes and addresses are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// No device name.
    #[error("the device has no name; the map finds regions by it")]
    NoDevice,
    /// No region names.
    #[error(
        "expected the names of regions, as in b1,b2, or in b1|b2 for the one of them that fits best"
    )]
    NoRegions,
    /// Size 0.
    #[error("the size is 0; request 1 byte or more")]
    NoSize,
    /// Larger than the address space once it is rounded up to pages.
    #[error("{bytes} bytes, rounded up to pages, are more than a 64-bit address space")]
    TooLarge {
        /// The requested size.
        bytes: u64,
    },
    /// The alignment is not a power of two.
    #[error("an alignment of {bytes} is no power of two")]
    Alignment {
        /// The requested alignment.
        bytes: u64,
    },
    /// The boundary is not a power of two, or is smaller than a page.
    #[error("a boundary is a power of two of at least 4K; {} is none", Bytes(*bytes))]
    Boundary {
        /// The requested boundary.
        bytes: u64,
    },
    /// The chunk is larger than the boundary, so it crosses a multiple wherever it lies.
    #[error(
        "boundary={} contradicts the size: a chunk of {} crosses a multiple of it anywhere",
        Bytes(*boundary), Bytes(*bytes)
    )]
    SmallBoundary {
        /// The boundary.
        boundary: u64,
        /// The size, in whole pages.
        bytes: u64,
    },
    /// `above` is not lower than `below`.
    #[error("{}", no_window(*above, *below))]
    NoWindow {
        /// The lowest address.
        above: DmaAddr,
        /// One past the highest address.
        below: DmaAddr,
    },
    /// The window is smaller than the chunk.
    #[error(
        "the window of addresses contradicts the size: it leaves {} of whole pages, the chunk has {}",
        Bytes(*window), Bytes(*bytes)
    )]
    SmallWindow {
        /// The size of the window.
        window: u64,
        /// The size of the chunk, in whole pages.
        bytes: u64,
    },
    /// The window has no aligned place that is large enough.
    #[error(
        "the window of addresses contradicts the alignment: it has no room for {} at a multiple \
         of {}",
        Bytes(*bytes), Bytes(*alignment)
    )]
    UnalignedWindow {
        /// The alignment.
        alignment: u64,
        /// The size of the chunk, in whole pages.
        bytes: u64,
    },
    /// Each place in the window crosses a multiple of the boundary.
    #[error(
        "boundary={} contradicts the window of addresses: each place for {} in it crosses a \
         multiple of the boundary",
        Bytes(*boundary), Bytes(*bytes)
    )]
    CrossedWindow {
        /// The boundary.
        boundary: u64,
        /// The size of the chunk, in whole pages.
        bytes: u64,
    },
    /// The address is no multiple of the alignment, which is a page at least.
    #[error("at={at} is no multiple of the alignment, {}", Bytes(*alignment))]
    UnalignedPlace {
        /// The address.
        at: DmaAddr,
        /// The alignment.
        alignment: u64,
    },
    /// The chunk would pass the top of the address space.
    #[error("a chunk of {} at={at} passes the top of the 64-bit address space", Bytes(*bytes))]
    PlacePastTheTop {
        /// The address.
        at: DmaAddr,
        /// The size, in whole pages.
        bytes: u64,
    },
    /// The chunk would not lie between `above` and `below`.
    #[error("a chunk of {} at={at} does not lie within the window of addresses", Bytes(*bytes))]
    PlaceOutside {
        /// The address.
        at: DmaAddr,
        /// The size, in whole pages.
        bytes: u64,
    },
    /// The chunk would cross a multiple of the boundary.
    #[error("a chunk at={at} crosses a multiple of boundary={}", Bytes(*boundary))]
    PlaceCrosses {
        /// The address.
        at: DmaAddr,
        /// The boundary.
        boundary: u64,
    },
}

/// Without a lowest address the end alone is at fault.
fn no_window(above: DmaAddr, below: DmaAddr) -> String {
    match above.get() {
        0 => format!("below={below} leaves no address; it is the end of the addresses, above 0"),
        _ => format!("below={below} contradicts above={above}: nothing lies between them"),
    }
}

/// The part of a request that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Size,
    Alignment,
    Above,
    Below,
    Boundary,
    At,
    Wait,
}

impl InvalidRequest {
    /// The parts of a text that the error can point to, the best first.
    pub(super) fn parts(self) -> &'static [Part] {
        match self {
            InvalidRequest::NoDevice
            | InvalidRequest::NoRegions
            | InvalidRequest::NoSize
            | InvalidRequest::TooLarge { .. } => &[Part::Size],
            InvalidRequest::Alignment { .. } => &[Part::Alignment],
            InvalidRequest::Boundary { .. }
            | InvalidRequest::SmallBoundary { .. }
            | InvalidRequest::CrossedWindow { .. } => &[Part::Boundary],
            InvalidRequest::NoWindow { .. }
            | InvalidRequest::SmallWindow { .. }
            | InvalidRequest::UnalignedWindow { .. } => &[Part::Below, Part::Above],
            InvalidRequest::UnalignedPlace { .. }
            | InvalidRequest::PlacePastTheTop { .. }
            | InvalidRequest::PlaceOutside { .. }
            | InvalidRequest::PlaceCrosses { .. } => &[Part::At],
        }
    }
}
