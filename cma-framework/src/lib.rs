//! The contiguous memory framework.
//!
//! Devices without scatter-gather or an IOMMU need big physically contiguous buffers. Instead of
//! every driver setting memory aside for itself, one framework owns the machine's reserved
//! *regions*, a *map* says which regions a device may use for which *type* of memory, and an
//! *allocator*, a plug-in that may be loaded at any time, places chunks in each region. The
//! framework itself places nothing: it stands between devices and allocators, checks each
//! placement, and keeps the books.
//!
//! A host makes a [`Cma`], describes regions ([`config`], [`early`]), gives them memory
//! ([`reserve`]), loads allocators ([`loader`]) and serves devices ([`Cma::alloc`], [`Device`]).
//! The results and errors of these calls are in [`errors`].
//!
//! The crate has three layers. A layer imports only from itself and from the layers above it in
//! this list:
//!
//! 1. `vocabulary`: pure types. Names, sizes, patterns, the map, texts of regions, errors.
//! 2. `core`: pure decisions and the port for memory. No lock, no input or output, no plug-in.
//! 3. `host`: [`Cma`], the lock of a region, the attached allocator, the loader, chunks as memory.

mod core;
mod host;
mod vocabulary;

/// Configuration: the text of `cma=` and `cma.map=`, and the typed constants of boards.
pub mod config {
    pub use crate::core::lint;
    pub use crate::vocabulary::{
        AllocatorSpec, Bank, Bytes, COMMON, ConfigError, GroupSpec, Growth, Map, NamePattern,
        ParsedRegion, Pattern, PatternSpec, Place, Platform, RegionSpans, RegionSpec,
        RequestSyntax, RuleSpec, Span, SyntaxError, Time, TimeError, Window, parse_allocator,
        parse_regions, parse_size, parse_time, region_groups,
    };
}

/// Events: what happens in a framework, as values, delivered to observers
/// ([`Cma::observe`]).
///
/// `tracing` events tell a reader the same in words. These are for programs: a journal, a recorder,
/// an exporter of metrics.
pub mod events {
    pub use crate::host::cma::Observation;
    pub use crate::host::watches::{Delivery, Observer};
    pub use crate::vocabulary::{Asked, Event, EventRegion, What};
}

/// Explanations of refused requests: what is in the way, and what would make room
/// ([`AllocError::explain`], [`Cma::explain_refusals`]).
pub mod explain {
    pub use crate::vocabulary::{
        AfterLeaving, Explanation, Layout, LeastRoom, OwnerShare, OwnersRoom, RegionExplanation,
        Room, RuledOut, Share,
    };
}

/// Restoring regions with the chunks of a process that has ended
/// ([`Cma::restore_chunk`]).
pub mod restore {
    pub use crate::host::cma::restore::{Restoration, RestoreError, RestoredChunk, WithMemory};
}

pub use core::reserve;
pub use host::{attributes, early, loader, memory};
pub use vocabulary::errors;

pub use core::books::{Failure, Holder, Owner, Process, RegionStatistics};
pub use core::shadow::{Difference, Packing, ShadowReport, ShadowState};
pub use host::attributes::Attributes;
pub use host::clock::{Timekeeper, keep_time};
pub use host::cma::{
    Attachments, Cma, PendingChunk, Replacement, ShadowError, SharingRequest, Source,
    WaitingRequest,
};
pub use host::device::Device;
pub use host::early::{EarlyHandle, EarlyRegion, EarlyState};
pub use host::loader::Plugin;
pub use host::memory::{MappedChunk, MemoryError, SharedChunk};
pub use host::region::{
    AllocatorChoice, AllocatorState, ChangeError, Chunk, Region, RegionStatus, Registered,
};
pub use vocabulary::errors::{
    AllocError, DeviceInfo, FreeError, InfoError, Reason, Refusal, Stuck,
};
pub use vocabulary::{ChunkRequest, Errno};

// The types that a host shares with allocators.
pub use cma_api::{Alignment, DmaAddr, PAGE_SIZE, PageRange, Pages};
