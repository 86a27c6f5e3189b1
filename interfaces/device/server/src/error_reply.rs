//! Errors that the server sends to a client.

use crate::peer::Peer;
use cma_device_protocol::{Message, wire};
use cma_framework::attributes::AttributeError;
use cma_framework::{AllocError, Errno as FrameworkErrno, InfoError, MemoryError};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// An error for a client: its errno (section 6 of the specification) and the reason as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrorReply {
    pub(crate) errno: i32,
    pub(crate) reason: String,
}

impl ErrorReply {
    pub(crate) fn new(errno: Errno, reason: impl Into<String>) -> Self {
        ErrorReply { errno: errno.raw_os_error(), reason: reason.into() }
    }

    fn from_framework(errno: FrameworkErrno, reason: String) -> Self {
        ErrorReply { errno: errno as i32, reason }
    }

    /// The error in answer to request `id`, or 0 if there was none.
    pub(crate) fn message(&self, id: u64) -> Message {
        Message::refusal(id, self.errno, &self.reason)
    }

    /// Sends the error in answer to request `id`, or 0 if there was none. A client that isn't ready
    /// to receive it doesn't get it.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>, id: u64) {
        let _ = wire::send(socket, &self.message(id), &[]);
    }

    /// Whether a process still holds memory.
    pub(crate) fn is_busy(&self) -> bool {
        Errno::from_raw_os_error(self.errno) == Errno::BUSY
    }

    /// Whether the same request may succeed after others have freed something.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(Errno::from_raw_os_error(self.errno), Errno::NOMEM | Errno::DQUOT | Errno::BUSY)
    }

    /// Whether the process, or the system, has no free descriptors.
    pub(crate) fn is_out_of_descriptors(&self) -> bool {
        matches!(Errno::from_raw_os_error(self.errno), Errno::MFILE | Errno::NFILE)
    }

    pub(crate) fn no_chunk() -> Self {
        ErrorReply::new(Errno::BADFD, "there is no chunk here yet; allocate one first")
    }

    pub(crate) fn has_chunk() -> Self {
        ErrorReply::new(
            Errno::BADFD,
            "there is a chunk here already; each connection, or open file, has one",
        )
    }

    /// The server process is out of memory of its own.
    pub(crate) fn no_server_memory() -> Self {
        ErrorReply::new(
            Errno::NOMEM,
            "the server has no memory left to serve this request; try again later",
        )
    }

    /// The server ends while the request waits.
    pub(crate) fn server_ends() -> Self {
        ErrorReply::new(
            Errno::SHUTDOWN,
            "the server ends, and with it the wait; nothing was allocated",
        )
    }

    /// The access rules don't allow `what`.
    pub(crate) fn not_allowed(peer: &Peer, what: &str) -> Self {
        ErrorReply::new(
            Errno::ACCESS,
            format!("no rule lets user {} (group {}) have {what}", peer.uid, peer.gid),
        )
    }
}

impl From<AllocError> for ErrorReply {
    fn from(error: AllocError) -> Self {
        ErrorReply::from_framework(error.errno(), error.to_string())
    }
}

impl From<AttributeError> for ErrorReply {
    fn from(error: AttributeError) -> Self {
        ErrorReply::from_framework(error.errno(), error.to_string())
    }
}

impl From<InfoError> for ErrorReply {
    fn from(error: InfoError) -> Self {
        ErrorReply::from_framework(error.errno(), error.to_string())
    }
}

impl From<MemoryError> for ErrorReply {
    fn from(error: MemoryError) -> Self {
        ErrorReply::from_framework(error.errno(), error.to_string())
    }
}
