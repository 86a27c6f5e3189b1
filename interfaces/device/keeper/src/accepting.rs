//! The keeper's side of the connections that it accepts for a server.

use crate::name::Name;
use crate::store::Store;
use crate::wire::Message;
use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{SocketFlags, accept_with};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The time until the next attempt when the system has no descriptor or memory for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections at a stored listener, stores them, and sends them to the server. At most one
/// is stored and not sent: while the server's queue is full, and while the store has no room,
/// clients wait in the listener's backlog.
#[derive(Debug)]
pub(crate) struct Accepting {
    listener: Name,
    server: OwnedFd,
    unsent: Option<Name>,
    /// No attempt before this moment.
    paused: Option<Instant>,
}

impl Accepting {
    pub(crate) fn new(listener: Name, server: OwnedFd, store: &Store) -> Result<Self, Errno> {
        let stored = store.get(&listener).ok_or(Errno::NOENT)?;
        if !socket_acceptconn(stored)? {
            return Err(Errno::INVAL);
        }
        // The keeper waits neither for the server nor, if several clients left, for the next one.
        rustix::io::ioctl_fionbio(&server, true)?;
        rustix::io::ioctl_fionbio(stored, true)?;
        Ok(Accepting { listener, server, unsent: None, paused: None })
    }

    /// What it waits for; `None` for nothing but the end of a pause, or room in the store.
    pub(crate) fn awaited<'a>(&'a self, store: &'a Store) -> Option<PollFd<'a>> {
        if self.paused.is_some() {
            return None;
        }
        if self.unsent.is_some() {
            return Some(PollFd::new(&self.server, PollFlags::OUT));
        }
        let listener = store.get(&self.listener).filter(|_| store.has_room())?;
        Some(PollFd::new(listener, PollFlags::IN))
    }

    /// The time until it has something to do without an event.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.paused.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Accepts or sends one connection, if it can. Returns whether the server still receives them:
    /// otherwise it finds them when it starts again.
    pub(crate) fn proceed(&mut self, store: &mut Store) -> bool {
        self.paused = self.paused.filter(|until| Instant::now() < *until);
        if self.paused.is_some() {
            return true;
        }
        if self.unsent.is_none() && store.has_room() {
            self.unsent = self.accept(store);
        }
        let Some(name) = &self.unsent else { return true };
        // The server may have removed it already, without having seen it.
        let sent = store.get(name).map_or(Ok(()), |connection| {
            Message::Stored(name.clone(), connection.as_fd()).send(self.server.as_fd())
        });
        match sent {
            Err(Errno::AGAIN) => {}
            // As many descriptors are under way as the user may have.
            Err(Errno::TOOMANYREFS | Errno::NOMEM | Errno::NOBUFS) => self.pause(),
            Ok(()) => self.unsent = None,
            Err(_) => return false,
        }
        true
    }

    fn accept(&mut self, store: &mut Store) -> Option<Name> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = store.get(&self.listener)?;
        match retry_on_intr(|| accept_with(listener, flags)) {
            Ok(connection) => Some(store.put_connection(connection)),
            // The client has left.
            Err(Errno::AGAIN | Errno::CONNABORTED) => None,
            Err(_) => {
                self.pause();
                None
            }
        }
    }

    fn pause(&mut self) {
        self.paused = Some(Instant::now() + PAUSE);
    }
}
