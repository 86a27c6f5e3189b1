//! Why a client doesn't get what it asks for.

use crate::peer::Peer;
use cma_framework::{AllocError, Errno as Specified, InfoError, MemoryError};
use rustix::io::Errno;

/// What a client is told: the errno of the specification, and why in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    pub(crate) words: String,
}

impl Refusal {
    pub(crate) fn new(errno: Errno, words: impl Into<String>) -> Self {
        Refusal { errno: errno.raw_os_error(), words: words.into() }
    }

    fn specified(errno: Specified, words: String) -> Self {
        Refusal { errno: errno as i32, words }
    }

    /// Whether the answer may be another when others have given something back.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(Errno::from_raw_os_error(self.errno), Errno::NOMEM | Errno::DQUOT | Errno::BUSY)
    }

    /// Whether the process can have no more descriptors.
    pub(crate) fn wants_descriptors(&self) -> bool {
        matches!(Errno::from_raw_os_error(self.errno), Errno::MFILE | Errno::NFILE)
    }

    pub(crate) fn no_chunk() -> Self {
        Refusal::new(Errno::BADFD, "there is no chunk here yet")
    }

    pub(crate) fn has_chunk() -> Self {
        Refusal::new(
            Errno::BADFD,
            "there is a chunk here already; each connection, or open file, has one",
        )
    }

    /// The server's own memory is at its end.
    pub(crate) fn no_memory() -> Self {
        Refusal::new(Errno::NOMEM, "the server has no memory left to serve this; ask again later")
    }

    /// By the rules.
    pub(crate) fn not_allowed(peer: &Peer, what: &str) -> Self {
        Refusal::new(
            Errno::ACCESS,
            format!("no rule lets user {} (group {}) have {what}", peer.uid, peer.gid),
        )
    }
}

impl From<AllocError> for Refusal {
    fn from(error: AllocError) -> Self {
        Refusal::specified(error.errno(), error.to_string())
    }
}

impl From<InfoError> for Refusal {
    fn from(error: InfoError) -> Self {
        Refusal::specified(error.errno(), error.to_string())
    }
}

impl From<MemoryError> for Refusal {
    fn from(error: MemoryError) -> Self {
        Refusal::specified(error.errno(), error.to_string())
    }
}
