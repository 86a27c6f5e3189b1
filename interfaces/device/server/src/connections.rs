//! All connections, and the eviction of idle ones when a client needs a slot.

use crate::accounts::{Accounts, ConnectionSlot, NoSlot};
use crate::connection::{Connection, Session};
use crate::connection_records::{ConnectionRecords, KeptConnection};
use crate::error_reply::ErrorReply;
use crate::lasting::Records;
use crate::peer::Peer;
use crate::poller::Poller;
use parking_lot::Mutex;
use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{self, Errno};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

/// The most idle connections that are evicted at once when the process has no descriptors.
pub(crate) const EVICTED_AT_ONCE: usize = 4;

/// A client that has connected and has no slot yet. Its connection ends with this.
#[derive(Debug)]
pub(crate) struct NewClient {
    pub(crate) socket: OwnedFd,
    /// The same with the keeper, if that has accepted it.
    pub(crate) kept: Option<KeptConnection>,
}

#[derive(Debug)]
pub(crate) struct Connections {
    poller: Arc<Poller>,
    accounts: Arc<Accounts>,
    next_number: AtomicU64,
    /// What outlives the server; `None` if nothing does.
    records: Option<Arc<Records>>,
    by_number: Mutex<HashMap<u64, Arc<Connection>>>,
}

impl Connections {
    /// The first connection gets number `first`.
    pub(crate) fn new(
        poller: Arc<Poller>,
        accounts: Arc<Accounts>,
        records: Option<Arc<Records>>,
        first: u64,
    ) -> Self {
        let next_number = AtomicU64::new(first);
        Connections { poller, accounts, next_number, records, by_number: Mutex::default() }
    }

    /// Takes a slot for a connection of `peer`. If all are in use, evicts an idle connection, whose
    /// client is returned.
    pub(crate) fn slot_for(
        &self,
        peer: &Peer,
    ) -> Result<(ConnectionSlot, Option<Peer>), ErrorReply> {
        let error = |no_slot| match no_slot {
            NoSlot::UserLimit(error) | NoSlot::AllInUse { error, .. } => error,
        };
        match self.accounts.connection_slot(peer) {
            Err(NoSlot::AllInUse { in_use, error: no_victim }) => {
                let evicted = self.evict_idle(in_use).ok_or(no_victim)?;
                Ok((self.accounts.connection_slot(peer).map_err(error)?, Some(evicted)))
            }
            result => Ok((result.map_err(error)?, None)),
        }
    }

    /// Adds a connection that was accepted in the event of that number.
    pub(crate) fn add(
        &self,
        client: NewClient,
        mut session: Session,
        event: u64,
    ) -> Arc<Connection> {
        let NewClient { socket, kept } = client;
        let number = match &kept {
            None => self.next_number.fetch_add(1, Ordering::Relaxed),
            Some(kept) => {
                // When the keeper ends, the server accepts connections besides those.
                self.next_number.fetch_max(kept.number().saturating_add(1), Ordering::Relaxed);
                kept.number()
            }
        };
        if let Some(records) = &self.records {
            let records = ConnectionRecords::new(records.clone(), number, kept);
            session.records = Some(Box::new(records));
        }
        self.insert(number, socket, session, event)
    }

    /// Adds a connection that a server before this one has served.
    pub(crate) fn insert(
        &self,
        number: u64,
        socket: OwnedFd,
        session: Session,
        event: u64,
    ) -> Arc<Connection> {
        let connection = Arc::new(Connection::new(number, socket, session, event));
        self.by_number.lock().insert(number, connection.clone());
        connection
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Connection>> {
        self.by_number.lock().get(&number).cloned()
    }

    /// Reports the connection's next event of these kinds to a thread.
    pub(crate) fn arm(&self, connection: &Connection, flags: EventFlags) -> io::Result<()> {
        self.poller.arm(&connection.socket, connection.source(), flags)
    }

    /// Makes a thread continue the connection's request that waits.
    pub(crate) fn wake(&self, connection: &Connection) {
        wake(&self.poller, connection);
    }

    /// A waker that does the same. It doesn't keep the connection alive.
    pub(crate) fn waker(&self, connection: &Arc<Connection>) -> Waker {
        let (poller, connection) = (self.poller.clone(), Arc::downgrade(connection));
        Arc::new(ConnectionWaker { poller, connection }).into()
    }

    /// Ends every wait for room. Returns the sockets and the ids of the requests.
    pub(crate) fn end_waits(&self) -> Vec<(Arc<Connection>, u64)> {
        let end = |connection: Arc<Connection>| {
            let waiting = connection.session.lock().as_mut()?.waiting.take()?;
            Some((connection, waiting.id))
        };
        self.all().into_iter().filter_map(end).collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        self.by_number.lock().values().cloned().collect()
    }

    /// What outlives the server, if anything does.
    pub(crate) fn records(&self) -> Option<&Arc<Records>> {
        self.records.as_ref()
    }

    /// Forgets a connection whose session was taken. No event of it is reported from now on.
    pub(crate) fn remove(&self, connection: &Connection) {
        self.by_number.lock().remove(&connection.number);
        self.poller.remove(&connection.socket);
    }

    /// Closes an idle connection at each call, so that a request finds a descriptor free. Returns
    /// whether it did; it closes [`EVICTED_AT_ONCE`] for one request at most.
    pub(crate) fn room_for_descriptors(&self) -> impl FnMut() -> bool {
        let mut evicted = 0;
        move || {
            evicted += 1;
            evicted <= EVICTED_AT_ONCE && self.evict_idle(0).is_some()
        }
    }

    /// Closes one idle connection, and returns its client: a connection of the user with most
    /// connections, if that is more than `more_than`, and of those the one whose last event is the
    /// oldest.
    pub(crate) fn evict_idle(&self, more_than: u64) -> Option<Peer> {
        let mut idle: Vec<_> = self
            .by_number
            .lock()
            .values()
            .filter(|connection| connection.is_idle())
            .cloned()
            .collect();
        let slots = self.accounts.slots_of(idle.iter().map(|connection| connection.uid));
        let slots = |connection: &Connection| slots.get(&connection.uid).copied().unwrap_or(0);
        idle.retain(|connection| slots(connection) > more_than);
        idle.sort_by_key(|connection| (Reverse(slots(connection)), connection.last_event()));
        let end = |connection: Arc<Connection>| Some((connection.end_if_idle()?, connection));
        let (session, connection) = idle.into_iter().find_map(end)?;
        self.remove(&connection);
        let reason =
            "the server closed this connection, which had no chunk, to make room; connect again";
        ErrorReply::new(Errno::USERS, reason).send(connection.socket.as_fd(), 0);
        if let Some(records) = session.records {
            records.end(connection.socket.as_fd(), None);
        }
        Some(session.peer)
    }
}

fn wake(poller: &Poller, connection: &Connection) {
    poller.report_writable(&connection.socket, connection.source());
}

/// Makes epoll report a connection.
struct ConnectionWaker {
    poller: Arc<Poller>,
    connection: Weak<Connection>,
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        if let Some(connection) = self.connection.upgrade() {
            wake(&self.poller, &connection);
        }
    }
}
