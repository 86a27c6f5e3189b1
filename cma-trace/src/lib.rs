//! Recorded buffer traces: what real programs asked for and gave back, to be read, written,
//! recorded and replayed.
//!
//! A [`Trace`] is sound by construction: [`Recording`] is the one way to make one, and
//! [`Trace::read`] goes through it, so nothing behind it checks an operation again. [`replay`] runs
//! a trace through the whole framework in one region that one allocator serves, [`replay_on`] on a
//! framework that has its regions and map already. Neither knows of files or terminals: a host
//! brings its bytes, and a callback if it wants to show how far things are.
//!
//! The format is described beside the recorded traces, in `traces/README.md`.
//!
//! ```
//! use cma_trace::{Recording, Trace};
//!
//! let mut recording = Recording::new("a camera that takes one picture");
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
mod read;
mod recording;
mod replay;
mod report;
mod trace;
mod write;

pub use read::ReadError;
pub use recording::{RecordError, Recording};
pub use replay::{replay, replay_on};
pub use report::{Failure, NamedReport, Report};
pub use trace::{Action, Asker, Figures, Operation, Trace};

/// A recorded trace to show things with, compressed: a 1080p film is decoded, scaled to 720p and
/// encoded again by ffmpeg.
pub const DEMO: &[u8] = include_bytes!("../traces/ffmpeg-transcode-1080p.trace.gz");
