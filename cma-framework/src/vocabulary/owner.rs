//! Who has a chunk.

use super::request::ChunkRequest;
use cma_api::PageRange;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A process when it made its request. After it has ended, the kernel may reuse its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its user ID.
    pub uid: u32,
    /// Its process ID, as the host sees it.
    pub pid: u32,
    /// Its name, which it chooses itself; empty if unknown.
    pub name: Arc<str>,
}

/// The holder of a chunk that a front end allocated for another process; see
/// [`Chunk::set_holder`](crate::Chunk::set_holder).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process that requested the chunk.
    pub process: Process,
    /// The device and type of the request; `None` when it named regions.
    pub device: Option<(Arc<str>, Arc<str>)>,
}

/// A live chunk and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The chunk's place.
    pub range: PageRange,
    /// The size and the limits with which it was requested, rounded to whole pages; its alignment,
    /// which the books don't have, is a page.
    pub request: ChunkRequest,
    /// Device and type of the request. `None` when it named regions. For a chunk without a holder
    /// also `None` when a name had more than 255 bytes, or when 65,536 other pairs have live chunks
    /// or made a request shortly before.
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// The process that has it, if a front end [noted one](crate::Chunk::set_holder).
    pub process: Option<Process>,
    /// The time for which it has been live, in tenths of a second; `None` when no
    /// [timekeeper](crate::keep_time) ran at its allocation.
    pub age: Option<Duration>,
    /// Whether this is no chunk, but memory that is set aside because a process that had it before
    /// still holds it, or has lost it. Nobody can free it.
    pub set_aside: bool,
}

impl fmt::Display for Process {
    /// `ffmpeg (process 4711 of user 1000)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "?" } else { &self.name };
        write!(f, "{} (process {} of user {})", name.escape_debug(), self.pid, self.uid)
    }
}

impl fmt::Display for Owner {
    /// The place, device and type, and the process.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.range)?;
        if self.set_aside {
            return f.write_str(" (set aside)");
        }
        if let Some((device, kind)) = &self.device {
            write!(f, " of {}/{}", device.escape_debug(), kind.escape_debug())?;
        }
        match &self.process {
            Some(process) => write!(f, " for {process}"),
            None => Ok(()),
        }
    }
}
