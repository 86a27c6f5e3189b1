//! The contiguous memory framework.
//!
//! Devices without scatter-gather or an IOMMU need big physically contiguous buffers. Instead of
//! every driver setting memory aside for itself, one framework owns the machine's reserved
//! *regions*, a *map* says which regions a device may use for which *type* of memory, and an
//! *allocator*, a plug-in that may be loaded at any time, finds the place in each region. The
//! framework itself allocates nothing: it stands between devices and allocators, checks what they
//! answer, and keeps the books.
//!
//! A host makes a [`Cma`], describes regions ([`config`], [`early`]), gives them memory
//! ([`reserve`]), loads allocators ([`loader`]) and serves devices ([`Cma::alloc`], [`Device`]).
//! Everything it can be answered with is in [`allocate`].
//!
//! The rooms that are pure (configuration, placement of early regions, the chunk table) know no
//! lock, no I/O and no plug-in. [`Cma`] is where locks are taken and [`Region`] where allocators
//! are called.

pub mod allocate;
pub mod attributes;
mod clock;
mod cma;
pub mod config;
mod device;
pub mod early;
mod errno;
mod events;
pub mod loader;
pub mod memory;
mod region;
pub mod register;
pub mod reserve;
mod world;

pub use allocate::{AllocError, FreeError, Info, InfoError, Reason, Refusal, Stuck};
pub use attributes::Attributes;
pub use clock::{Timekeeper, keep_time};
pub use cma::{Attachments, Cma, Replacement, SharingRequest};
pub use device::Device;
pub use early::{EarlyHandle, EarlyRegion, EarlyState};
pub use errno::Errno;
pub use loader::Plugin;
pub use memory::{MappedChunk, MemoryError, SharedChunk};
pub use region::{
    AllocatorChoice, AllocatorState, ChangeError, Chunk, Failure, Holder, Owner, Process, Region,
    RegionStatistics, RegionStatus, Registered,
};

// The words a host shares with allocators.
pub use cma_api::{Alignment, DmaAddr, PAGE_SIZE, PageRange, Pages};
