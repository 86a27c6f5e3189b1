//! The connections that there are, and which of them is closed when somebody else needs its place.

use crate::connection::Client;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use rustix::time::Timespec;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A line to a client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) uid: u32,
    pub(crate) socket: OwnedFd,
    /// `None` when it is over. Locked by who serves it, and an event is for one thread alone.
    pub(crate) client: Mutex<Option<Client>>,
    /// The number of the turn in which it was served for the last time.
    served: AtomicU64,
}

/// All connections, by number.
#[derive(Debug)]
pub(crate) struct Lines {
    newest: AtomicU64,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
}

impl Connection {
    /// It is served in that turn.
    pub(crate) fn is_served(&self, turn: u64) {
        self.served.store(turn, Ordering::Relaxed);
    }

    /// Whether it has no chunk, and no thread serves it.
    fn is_idle(&self) -> bool {
        let client = self.client.try_lock();
        client.is_some_and(|client| client.as_ref().is_some_and(|client| !client.has_chunk()))
    }
}

impl Lines {
    /// None yet; they are numbered from `first` on.
    pub(crate) fn new(first: u64) -> Self {
        Lines { newest: AtomicU64::new(first), connections: Mutex::default() }
    }

    /// Adds a client that came in that turn.
    pub(crate) fn add(&self, socket: OwnedFd, client: Client, turn: u64) -> Arc<Connection> {
        let number = self.newest.fetch_add(1, Ordering::Relaxed);
        let (uid, client, served) =
            (client.peer.uid, Mutex::new(Some(client)), AtomicU64::new(turn));
        let connection = Arc::new(Connection { number, uid, socket, client, served });
        self.connections.lock().insert(number, connection.clone());
        connection
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Connection>> {
        self.connections.lock().get(&number).cloned()
    }

    pub(crate) fn remove(&self, number: u64) {
        self.connections.lock().remove(&number);
    }

    /// Takes the client off the connection that is missed least: one without a chunk and without a
    /// request, of the user with most connections if that is more than `has`, and of those the one
    /// that was silent for longest.
    pub(crate) fn take_idlest(
        &self,
        seats: impl FnOnce(&mut dyn Iterator<Item = u32>) -> HashMap<u32, u64>,
        has: u64,
    ) -> Option<(Arc<Connection>, Client)> {
        let mut idle: Vec<_> = self
            .connections
            .lock()
            .values()
            .filter(|connection| connection.is_idle())
            .cloned()
            .collect();
        let seats = seats(&mut idle.iter().map(|connection| connection.uid));
        let of = |connection: &Connection| seats.get(&connection.uid).copied().unwrap_or(0);
        idle.retain(|connection| of(connection) > has);
        idle.sort_by_key(|connection| {
            (Reverse(of(connection)), connection.served.load(Ordering::Relaxed))
        });
        idle.into_iter().find_map(|connection| {
            let client = {
                let mut client = connection.client.try_lock()?;
                // A message that no thread has received yet is a request, unless the client doesn't
                // read its answers.
                let reads = client.as_ref()?.asked.is_none();
                if reads && polls(connection.socket.as_fd(), PollFlags::IN | PollFlags::RDHUP) {
                    return None;
                }
                client.take_if(|client| !client.has_chunk())?
            };
            self.remove(connection.number);
            Some((connection, client))
        })
    }
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Whether one of these is so of a line.
pub(crate) fn polls(line: BorrowedFd<'_>, wanted: PollFlags) -> bool {
    let mut polled = [PollFd::new(&line, wanted)];
    io::retry_on_intr(|| poll(&mut polled, Some(&NOW))).is_ok() && !polled[0].revents().is_empty()
}
