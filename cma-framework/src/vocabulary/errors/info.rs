//! The result and the errors of [`Cma::info`](crate::Cma::info).

use super::{InvalidRequest, Unmatched};
use cma_api::PageRange;

/// What the regions open to a device amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// From the lowest page of any of the regions to the highest.
    pub span: PageRange,
    /// Their sizes in bytes, together.
    pub total_bytes: u64,
    /// Their free space in bytes, together; without that of a region whose allocator doesn't return
    /// ([`Reason::Stuck`]).
    pub free_bytes: u64,
    /// How many they are.
    pub regions: usize,
    /// What start and size of a chunk have to be multiples of, in bytes, so that it can be given to
    /// another process from any of them.
    pub granule_bytes: u64,
}

/// Why there is no [`DeviceInfo`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InfoError {
    /// The question itself is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// No rule of the map matches.
    #[error(transparent)]
    NoRule(Box<Unmatched>),
    /// None of the regions named is registered.
    #[error("none of these regions is registered")]
    NoRegion,
}
