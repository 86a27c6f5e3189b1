//! Recorded buffer traces: the allocations and frees of real programs, to be read, written,
//! recorded and replayed.
//!
//! A [`Trace`] is valid by construction: only [`Recording`] creates one, [`Trace::read`] uses it,
//! and no later code checks an operation again. [`replay()`] runs a trace through the whole
//! framework in one region of one allocator, [`replay_on`] on a framework that already has its
//! regions and map. Neither uses files or terminals: the host supplies the bytes, and a callback
//! for progress.
//!
//! The format is described in `traces/README.md`, beside the recorded traces.
//!
//! ```
//! use cma_trace::{Recording, Trace};
//!
//! let mut recording = Recording::new("a camera that takes one photo");
//! let frame = recording.allocate(0, 3_133_440, 65_536, "camera/frame")?;
//! recording.free(40_000, frame)?;
//! let trace = recording.finish();
//!
//! let mut text = Vec::new();
//! trace.write(&mut text)?;
//! assert!(text.starts_with(b"# cma-trace 1\n# source: a camera"));
//! assert_eq!(Trace::read(&text[..])?, trace);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod format;
pub mod kernel;
mod limits;
mod read;
mod recorder;
mod recording;
mod replay;
mod report;
mod trace;
mod write;

pub use limits::Limits;
pub use read::ReadError;
pub use recorder::{Recorded, Recorder, RecorderError};
pub use recording::{RecordError, Recording};
pub use replay::{
    FailedReplay, REGION, REGION_START, replay, replay_on, replay_to_failure, replay_to_failure_on,
};
pub use report::{FailedRequest, NamedReport, Report};
pub use trace::{Action, Figures, Operation, Requester, Trace};

/// A recorded trace for demonstrations, compressed: ffmpeg decodes a 1080p film, scales it to 720p
/// and encodes it again.
pub const DEMO: &[u8] = include_bytes!("../traces/ffmpeg-transcode-1080p.trace.gz");
