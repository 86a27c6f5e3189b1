//! Who is at the other end of a connection.

use crate::sys;
use cma_framework::Process;
use rustix::fd::BorrowedFd;
use rustix::io;

/// The process at the other end, as it was when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Box<[u32]>,
    /// Its number; 0 for a process that the server's PID namespace doesn't have.
    pub pid: u32,
}

impl Peer {
    pub(crate) fn of(socket: BorrowedFd<'_>) -> io::Result<Peer> {
        let sys::Credentials { pid, uid, gid } = sys::peer_credentials(socket)?;
        Ok(Peer { uid, gid, groups: sys::peer_groups(socket)?, pid })
    }

    /// The process as the framework's books name it.
    pub(crate) fn as_process(&self) -> Process {
        Process { uid: self.uid, pid: self.pid, name: self.name().into() }
    }

    /// The name of its process as one printable text; `-` when the process has ended.
    pub(crate) fn process(&self) -> String {
        let name = self.name();
        if name.is_empty() { "-".to_string() } else { name.escape_debug().to_string() }
    }

    /// The name of its process as it is now; empty when the process has ended.
    fn name(&self) -> String {
        let name = std::fs::read(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(name.trim_ascii_end()).into_owned()
    }
}
