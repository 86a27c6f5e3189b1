//! What the keeper's process does: it holds descriptors.

use crate::name::Name;
use crate::wire::{Message, ReceiveError};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most descriptors that a store holds. The limit of the process may be lower.
pub const MAX_DESCRIPTORS: usize = 1 << 20;

/// Descriptors by name.
#[derive(Debug, Default)]
pub struct Store(BTreeMap<Name, OwnedFd>);

impl Store {
    /// The names that have a descriptor, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(Name::as_str)
    }

    fn put(&mut self, name: Name, descriptor: OwnedFd) -> Result<(), Errno> {
        let is_full = self.0.len() >= MAX_DESCRIPTORS;
        match self.0.entry(name) {
            Entry::Occupied(_) => Err(Errno::EXIST),
            Entry::Vacant(_) if is_full => Err(Errno::MFILE),
            Entry::Vacant(entry) => {
                entry.insert(descriptor);
                Ok(())
            }
        }
    }

    fn remove(&mut self, name: &Name) -> Result<(), Errno> {
        self.0.remove(name).map(drop).ok_or(Errno::NOENT)
    }

    /// Carries out one request of the server at the other end of `socket`, and waits for it.
    /// Returns whether the server is still there.
    pub(crate) fn serve_one(&mut self, socket: BorrowedFd<'_>) -> bool {
        let result = match Message::receive(socket) {
            Ok(Message::Put(name, descriptor)) => self.put(name, descriptor),
            Ok(Message::Remove(name)) => self.remove(&name),
            Ok(Message::Take) => {
                let send = |(name, descriptor): (&Name, &OwnedFd)| {
                    Message::Stored(name.clone(), descriptor.as_fd()).send(socket)
                };
                self.0.iter().try_for_each(send)
            }
            Ok(Message::Stored(..) | Message::Done | Message::Refused(_))
            | Err(ReceiveError::Malformed) => Err(Errno::PROTO),
            Err(ReceiveError::DescriptorLost) => Err(Errno::MFILE),
            Err(ReceiveError::Disconnected | ReceiveError::System(_)) => return false,
        };
        let answer = match result {
            Ok(()) => Message::Done,
            Err(errno) => Message::Refused(errno),
        };
        answer.send(socket).is_ok()
    }
}

/// Holds descriptors for the server at the other end of `socket`, until it is gone. What it does
/// wrong is refused and changes nothing.
pub fn serve(socket: impl AsFd, store: &mut Store) {
    while store.serve_one(socket.as_fd()) {}
}

/// The socket of a server and that of its keeper.
///
/// # Errors
///
/// The system's: no descriptors are left.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}
