//! Why a request of a client failed.

use crate::exchange::ExchangeError;
use cma_device_protocol::NamesTooLong;
use rustix::io::Errno;
use std::io;
use std::path::PathBuf;

/// Why a request of a client failed. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server listens at the path, or this process may not connect to it.
    #[error("no server at {}: {source}", path.display())]
    NoServer {
        /// The path of the server's socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The server refused the request.
    #[error("{reason}")]
    Refused {
        /// The errno of the specification.
        errno: i32,
        /// The reason, for people.
        reason: String,
    },
    /// The names don't fit into a request.
    #[error(transparent)]
    NamesTooLong(#[from] NamesTooLong),
    /// There is no answer.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The chunk's region has addresses but no memory.
    #[error("the chunk has addresses but no memory: its region has none")]
    Simulated,
    /// The memory that the server sent can't be mapped, or not safely.
    #[error("the chunk can't be mapped: {0}")]
    Unmappable(#[from] cma_shared::MapError),
    /// A system call failed.
    #[error("{call}: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl Error {
    /// The errno that a C program would get.
    pub fn errno(&self) -> i32 {
        let of = |error: &io::Error| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
        match self {
            Error::NoServer { .. } => Errno::NODEV.raw_os_error(),
            Error::Refused { errno, .. } => *errno,
            Error::NamesTooLong(_) => Errno::INVAL.raw_os_error(),
            Error::Exchange(why) => why.errno().raw_os_error(),
            Error::Simulated => Errno::NODEV.raw_os_error(),
            Error::Unmappable(cma_shared::MapError::System { source, .. }) => of(source),
            Error::Unmappable(_) => Errno::IO.raw_os_error(),
            Error::System { source, .. } => of(source),
        }
    }

    pub(crate) fn system(call: &'static str) -> impl Fn(Errno) -> Error {
        move |errno| Error::System { call, source: errno.into() }
    }
}
