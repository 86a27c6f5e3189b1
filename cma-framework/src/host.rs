//! The layer with effects: it locks, maps memory, loads libraries and calls allocators.

mod asking;
pub mod attributes;
pub(crate) mod clock;
pub(crate) mod cma;
pub(crate) mod device;
pub mod early;
mod errno;
pub(crate) mod events;
pub mod loader;
pub mod memory;
pub(crate) mod region;
mod shadow;
mod snapshot;
pub(crate) mod watches;
pub(crate) mod write_errors;
pub(crate) mod write_listener;
