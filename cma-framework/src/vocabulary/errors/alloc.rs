//! Why an allocation fails: the errors of [`Cma::alloc`](crate::Cma::alloc) and its variants.

use super::Refusals;
use crate::vocabulary::is_device_name;
use std::fmt;

/// Why a request got no chunk. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// The request itself is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// No rule of the map matches.
    #[error(transparent)]
    NoRule(Box<Unmatched>),
    /// The region, which was given by its handle, is not registered (any more).
    #[error("the region is not registered")]
    Unregistered,
    /// No region could serve it; with the reason of each that was tried.
    #[error("no region could serve it: {0}")]
    NoRegion(Refusals),
}

/// A (device, type) pair that no rule of the map matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// The device.
    pub device: String,
    /// The type of memory.
    pub kind: String,
}

impl std::error::Error for Unmatched {}

impl fmt::Display for Unmatched {
    /// Suggests a rule that would match, if one can be written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unmatched { device, kind } = self;
        write!(f, "no rule of the map matches {}/{}", device.escape_debug(), kind.escape_debug())?;
        match (is_device_name(device), is_device_name(kind)) {
            (true, true) => write!(f, "; add one, such as {device}/{kind}=<region>, or *=<region>"),
            (true, false) => write!(f, "; add one, such as {device}=<region>, or *=<region>"),
            (false, _) => f.write_str("; only a pattern with '*' or '?' can match such a name"),
        }
    }
}

/// The fault of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// No device name.
    #[error("the device has no name; the map finds regions by it")]
    NoDevice,
    /// No region names.
    #[error("expected the names of regions, separated by commas")]
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
}
