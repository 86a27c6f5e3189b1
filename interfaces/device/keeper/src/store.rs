//! The descriptors that the keeper's process holds.

use crate::name::Name;
use crate::pins::Pins;
use crate::wire::Part;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::OwnedFd;

/// The most descriptors that a store holds.
pub const MAX_DESCRIPTORS: usize = 1 << 20;

/// The descriptors that a keeper's process leaves for itself: for its files, for the next server,
/// for messages.
const OWN_DESCRIPTORS: usize = 64;

/// Descriptors by name.
#[derive(Debug)]
pub struct Store {
    descriptors: BTreeMap<Name, OwnedFd>,
    pins: Pins,
    room: usize,
    /// The number of the connection that was accepted last.
    connections: u64,
}

impl Default for Store {
    /// Room for [`MAX_DESCRIPTORS`].
    fn default() -> Self {
        Store::with_room(MAX_DESCRIPTORS)
    }
}

impl Store {
    /// A store for at most `room` descriptors. The process needs some for itself: it can't start
    /// the server again when the store has taken the last one.
    pub fn with_room(room: usize) -> Self {
        Store {
            descriptors: BTreeMap::new(),
            pins: Pins::default(),
            room: room.min(MAX_DESCRIPTORS),
            connections: 0,
        }
    }

    /// A store for as many descriptors as this process may have, whose limit is raised as far as it
    /// may be, except for those that it needs itself.
    pub fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.map_or(MAX_DESCRIPTORS, |limit| limit.try_into().unwrap_or(usize::MAX));
        Store::with_room(limit.saturating_sub(OWN_DESCRIPTORS))
    }

    /// The names that have a descriptor, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.descriptors.keys().map(Name::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &OwnedFd)> {
        self.descriptors.iter()
    }

    pub(crate) fn get(&self, name: &Name) -> Option<&OwnedFd> {
        self.descriptors.get(name)
    }

    /// The most descriptors that it holds.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    pub(crate) fn has_room(&self) -> bool {
        self.descriptors.len() < self.room
    }

    pub(crate) fn put(&mut self, name: Name, descriptor: OwnedFd) -> Result<(), Errno> {
        let has_room = self.has_room();
        match self.descriptors.entry(name) {
            Entry::Occupied(_) => Err(Errno::EXIST),
            Entry::Vacant(_) if !has_room => Err(Errno::MFILE),
            Entry::Vacant(entry) => {
                entry.insert(descriptor);
                Ok(())
            }
        }
    }

    /// Stores a connection, for which there is room, under a name of its own.
    pub(crate) fn put_connection(&mut self, connection: OwnedFd) -> Name {
        loop {
            self.connections += 1;
            let name = Name::of_connection(self.connections);
            // A server may have stored something under such a name.
            if let Entry::Vacant(entry) = self.descriptors.entry(name.clone()) {
                entry.insert(connection);
                return name;
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &Name) -> Result<(), Errno> {
        self.descriptors.remove(name).ok_or(Errno::NOENT)?;
        self.pins.unpin_all(name);
        Ok(())
    }

    /// Pins a part of a stored file.
    pub(crate) fn pin(&mut self, name: &Name, part: Part) -> Result<(), Errno> {
        let file = self.descriptors.get(name).ok_or(Errno::NOENT)?;
        self.pins.pin(name, file, part.range().ok_or(Errno::INVAL)?)
    }

    /// Unpins a part of a stored file.
    pub(crate) fn unpin(&mut self, name: &Name, part: Part) -> Result<(), Errno> {
        let file = self.descriptors.get(name).ok_or(Errno::NOENT)?;
        self.pins.unpin(name, file, part.range().ok_or(Errno::INVAL)?)
    }
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
