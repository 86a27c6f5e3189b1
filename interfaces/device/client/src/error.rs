//! Why a client doesn't get what it asks for.

use crate::line::NoAnswer;
use cma_device_protocol::TooLong;
use rustix::io::Errno;
use std::io;
use std::path::PathBuf;

/// Why a client doesn't get what it asks for. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens there, or the file system doesn't let this process in.
    #[error("no server at {}: {source}", path.display())]
    NoServer {
        /// Where the server should be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server says no.
    #[error("{words}")]
    Refused {
        /// The errno of the specification.
        errno: i32,
        /// Why.
        words: String,
    },
    /// The names don't fit into a request.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The server didn't answer.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// The chunk's region has addresses alone.
    #[error("the chunk is addresses alone; its region has no memory")]
    Simulated,
    /// The memory that came is not what the server promises.
    #[error("memory that its owner could take away under this process: {0}")]
    Unsafe(&'static str),
    /// The system says no.
    #[error("{call}: {source}")]
    System {
        /// What was asked of it.
        call: &'static str,
        /// What it says.
        source: io::Error,
    },
}

impl Error {
    /// The number that a C program would see.
    pub fn errno(&self) -> i32 {
        let of = |error: &io::Error| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
        match self {
            Error::NoServer { .. } => Errno::NODEV.raw_os_error(),
            Error::Refused { errno, .. } => *errno,
            Error::TooLong(_) => Errno::INVAL.raw_os_error(),
            Error::NoAnswer(why) => why.errno().raw_os_error(),
            Error::Simulated => Errno::NODEV.raw_os_error(),
            Error::Unsafe(_) => Errno::IO.raw_os_error(),
            Error::System { source, .. } => of(source),
        }
    }

    pub(crate) fn system(call: &'static str) -> impl Fn(Errno) -> Error {
        move |errno| Error::System { call, source: errno.into() }
    }
}
