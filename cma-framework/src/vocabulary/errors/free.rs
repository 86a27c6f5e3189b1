//! The errors of [`Cma::free`](crate::Cma::free).

use cma_api::DmaAddr;

/// Why an address was not freed. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FreeError {
    /// No live chunk starts there.
    #[error("no chunk starts at {address}")]
    NoChunk {
        /// The address.
        address: DmaAddr,
    },
    /// The chunk that starts there belongs to a [`Chunk`](crate::Chunk), which frees it when it is
    /// dropped.
    #[error(
        "the chunk at {address} belongs to a guard; drop the guard, or turn it into the address first"
    )]
    Held {
        /// The address.
        address: DmaAddr,
    },
}
