//! The server's side of the keeper's accepted connections.

use crate::name::Name;
use crate::wire::{Message, ReceiveError};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The connections that the keeper's process accepts for this server
/// ([`KeeperProcess::accept_on`](crate::KeeperProcess::accept_on)).
///
/// The descriptor is readable when there is a connection, and when the keeper has ended.
#[derive(Debug)]
pub struct Connections(OwnedFd);

impl Connections {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Connections(socket)
    }

    /// The next connection, which the keeper stores under this name: `connection-1` and so on, with
    /// a number that no connection of this keeper had before. It doesn't block. `None` when there
    /// is none now.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE`: this process can't receive the descriptor. The connection stays the
    /// next one. `UnexpectedEof`: the keeper has ended, and there will be no other connection; the
    /// server has the listener to accept by itself. Another error is the system's.
    #[allow(clippy::should_implement_trait, reason = "an iterator ends with its first `None`")]
    pub fn next(&mut self) -> io::Result<Option<(Name, OwnedFd)>> {
        match Message::receive_whole(self.0.as_fd()) {
            Ok(Message::Stored(name, connection)) => Ok(Some((name, connection))),
            Err(ReceiveError::System(Errno::AGAIN)) => Ok(None),
            Err(ReceiveError::DescriptorLost) => Err(Errno::MFILE.into()),
            Err(ReceiveError::System(errno)) if errno != Errno::CONNRESET => Err(errno.into()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl AsFd for Connections {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
