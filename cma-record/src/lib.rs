//! Records the big buffers of a program, of its threads and of the processes that it starts, as a
//! [`Trace`](cma_trace::Trace).
//!
//! [`record`] starts the program with the library `libcma_record_preload.so` in `LD_PRELOAD`. The
//! library writes an event for each buffer into a file that all processes share (`cma_record_log`),
//! and when the program has ended, the events become a trace. Nothing that was written is lost when
//! a process is killed.
//!
//! # What is a buffer
//!
//! A block of the heap, an anonymous mapping or a memory file (`memfd_create`), of at least
//! [`Settings::at_least`] bytes. `realloc` is a new buffer and then the end of the old one. What is
//! left of a mapping of which a part was unmapped is a new buffer, too.
//!
//! Chunks are those of one process: a child of `fork` has none at first. When a process ends or
//! calls `exec`, the kernel releases its memory, so the trace frees its chunks. The recording ends
//! with the program itself; the chunks that it has then stay live in the trace.

#![forbid(unsafe_code)]

mod log;
mod loss;
mod merge;
mod program;
mod run;
mod watch;

pub use loss::Loss;
pub use program::ProgramError;
pub use run::{Naming, RecordError, Recorded, Settings, record};

/// The file name of the library that is preloaded.
pub const LIBRARY: &str = "libcma_record_preload.so";
