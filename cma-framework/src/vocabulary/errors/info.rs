//! The result and the errors of [`Cma::info`](crate::Cma::info).

use super::{InvalidRequest, Unmatched};
use cma_api::PageRange;

/// The figures of the regions that are open to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// From the lowest page of any of the regions to the highest.
    pub span: PageRange,
    /// The sum of their sizes in bytes.
    pub total_bytes: u64,
    /// The sum of their free space in bytes, without that of a stuck region
    /// ([`Reason::Stuck`](crate::Reason::Stuck)).
    pub free_bytes: u64,
    /// The number of regions.
    pub regions: usize,
    /// A chunk of any of them whose start and size are multiples of this, in bytes, can be given to
    /// another process.
    pub granule_bytes: u64,
}

/// Why there is no [`DeviceInfo`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InfoError {
    /// The arguments are invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// No rule of the map matches.
    #[error(transparent)]
    NoRule(Box<Unmatched>),
    /// None of the regions named is registered.
    #[error("none of these regions is registered")]
    NoRegion,
}
