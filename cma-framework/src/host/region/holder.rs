//! Who has a chunk that a front end allocated for another process.

use std::sync::Arc;

/// A process at the time when it asked. Its number may be another's when it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The number of its user.
    pub uid: u32,
    /// Its number, as the host sees it.
    pub pid: u32,
    /// Its name, which it chose itself; empty if that is not known.
    pub name: Arc<str>,
}

/// For whom a front end has a chunk; see [`Chunk::set_holder`](crate::Chunk::set_holder).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process that asked for it.
    pub process: Process,
    /// Device and type that it asked for; `None` when it named regions.
    pub device: Option<(Arc<str>, Arc<str>)>,
}
