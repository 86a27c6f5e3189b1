//! The process at the other end of a connection.

use crate::socket_options;
use cma_framework::Process;
use rustix::fd::BorrowedFd;
use rustix::io;

/// The process at the other end of a connection, as the kernel saw it when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Box<[u32]>,
    /// Its process number; 0 for a process outside the server's PID namespace.
    pub pid: u32,
}

impl Peer {
    pub(crate) fn of(socket: BorrowedFd<'_>) -> io::Result<Peer> {
        let socket_options::Credentials { pid, uid, gid } =
            socket_options::peer_credentials(socket)?;
        Ok(Peer { uid, gid, groups: socket_options::peer_groups(socket)?, pid })
    }

    /// The process as the owner of a chunk in the framework's books.
    pub(crate) fn as_process(&self) -> Process {
        Process { uid: self.uid, pid: self.pid, name: self.name().into() }
    }

    /// The name of its process, escaped to be printable; `-` when the process has ended.
    pub(crate) fn process(&self) -> String {
        let name = self.name();
        if name.is_empty() { "-".to_string() } else { name.escape_debug().to_string() }
    }

    /// The present name of its process; empty when the process has ended.
    fn name(&self) -> String {
        let name = std::fs::read(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(name.trim_ascii_end()).into_owned()
    }
}
