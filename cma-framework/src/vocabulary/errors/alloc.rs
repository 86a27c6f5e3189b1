//! Why an allocation fails: the errors of [`Cma::alloc`](crate::Cma::alloc) and its variants.

use super::Refusals;
pub use crate::vocabulary::request::InvalidRequest;
use crate::vocabulary::{Elapsed, is_device_name};
use std::fmt;
use std::time::Duration;

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
    /// It waited for room, and no region could serve it until its time was over.
    #[error(transparent)]
    TimedOut(Box<TimedOut>),
    /// The future of this request was ready before. It gives its result once.
    #[error("the request has had its result; make another request")]
    Answered,
}

/// A request that waited for room and got no chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no region could serve it within {}: {refusals}", Elapsed(*waited))]
pub struct TimedOut {
    /// The time it waited.
    pub waited: Duration,
    /// The reason of each region when it was tried last.
    pub refusals: Refusals,
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
