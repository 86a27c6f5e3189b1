//! Accepting clients: each gets a connection slot, waits for one, or is refused.

use crate::address::{Address, Listener, SocketFile};
use crate::connection::{Connection, Session};
use crate::connection_records::KeptConnection;
use crate::connections::{EVICTED_AT_ONCE, NewClient};
use crate::error_reply::ErrorReply;
use crate::event::Event;
use crate::event_order::Ticket;
use crate::lasting::{Records, Stored};
use crate::log;
use crate::peer::Peer;
use crate::poller::{EventSource, Poller};
use crate::service::ClientService;
use crate::socket_options;
use crate::timer::{RETRY_DELAY, Timer};
use crate::user_queues::UserQueues;
use cma_keeper::Name;
use parking_lot::Mutex;
use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{self, Errno};
use rustix::net::{SocketFlags, accept_with};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A client without a slot is refused when its user has this many deferred events.
const MAX_DEFERRED: usize = 64;

#[derive(Debug)]
pub(crate) struct Admission {
    listener: Arc<Listener>,
    poller: Arc<Poller>,
    timer: Arc<Timer>,
    /// The clients that the keeper accepts. `None` when the server accepts them by itself.
    by_keeper: Mutex<Option<ByKeeper>>,
    /// Whether the last `accept` failed for want of descriptors.
    lacks_descriptors: AtomicBool,
}

/// A keeper that accepts clients.
#[derive(Debug)]
pub(crate) struct ByKeeper {
    pub(crate) connections: cma_keeper::Connections,
    pub(crate) records: Arc<Records>,
}

impl NewClient {
    /// A connection that the keeper has accepted.
    fn of_keeper((name, socket): (Name, OwnedFd), records: &Arc<Records>) -> Option<Self> {
        let Some(Stored::Connection(number)) = Stored::of(&name) else { return None };
        let kept = Some(KeptConnection::new(records.clone(), number));
        Some(NewClient { socket, kept })
    }
}

/// The result of an event of the listener.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// Nothing is left to do.
    Done,
    /// To be served for the client's user.
    Client(Event),
    /// The process has no descriptors. The connections of these clients were closed.
    NoDescriptors(Vec<Peer>),
}

impl Admission {
    pub(crate) fn new(
        listener: Listener,
        by_keeper: Option<ByKeeper>,
        poller: Arc<Poller>,
        timer: Arc<Timer>,
    ) -> Self {
        let (listener, by_keeper) = (Arc::new(listener), Mutex::new(by_keeper));
        let lacks_descriptors = AtomicBool::new(false);
        Admission { listener, poller, timer, by_keeper, lacks_descriptors }
    }

    pub(crate) fn socket_file(&self) -> SocketFile {
        SocketFile(Arc::downgrade(&self.listener))
    }

    /// Takes over the socket's file, with the permissions of `address`.
    pub(crate) fn own_file(&mut self, address: &Address) -> io::Result<()> {
        let listener = Arc::get_mut(&mut self.listener);
        listener.map_or(Ok(()), |listener| listener.own_file(address))
    }

    pub(crate) fn path(&self) -> &Path {
        self.listener.path()
    }

    /// Reports the next client to a thread.
    pub(crate) fn arm(&self) -> io::Result<()> {
        let source = EventSource::Listener;
        match &*self.by_keeper.lock() {
            Some(ByKeeper { connections, .. }) => {
                self.poller.arm(connections, source, EventFlags::IN)
            }
            None => self.poller.arm(&self.listener.socket, source, EventFlags::IN),
        }
    }

    /// The next client; `None` when there is none now.
    fn next_client(&self) -> io::Result<Option<NewClient>> {
        let by_keeper = &mut *self.by_keeper.lock();
        if let Some(ByKeeper { connections, records }) = by_keeper {
            match connections.next() {
                Ok(next) => return Ok(next.and_then(|next| NewClient::of_keeper(next, records))),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    self.poller.remove(&*connections);
                    records.set_alone();
                    *by_keeper = None;
                }
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match accept_with(&self.listener.socket, flags) {
            Ok(socket) => Ok(Some(NewClient { socket, kept: None })),
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => Err(error),
            // The client has gone, or there is none.
            Err(_) => Ok(None),
        }
    }

    /// Accepts one client. It doesn't block: it runs while events are classified, so that deferred
    /// events stay in order.
    pub(crate) fn accept(
        &self,
        service: &ClientService,
        queues: &UserQueues<Event>,
        ticket: Ticket,
    ) -> io::Result<Accepted> {
        let Ok(client) = self.next_client() else {
            return self.make_room_for_descriptors(service);
        };
        self.arm()?;
        self.lacks_descriptors.store(false, Ordering::Relaxed);
        let event = client.and_then(|client| self.admit(service, queues, client, ticket));
        Ok(event.map_or(Accepted::Done, Accepted::Client))
    }

    /// Evicts idle connections when the process has no descriptors. If there are none, the backlog
    /// keeps new clients until a descriptor is closed.
    fn make_room_for_descriptors(&self, service: &ClientService) -> io::Result<Accepted> {
        let evict = |_| service.connections.evict_idle(0);
        let evicted: Vec<_> = (0..EVICTED_AT_ONCE).map_while(evict).collect();
        if evicted.is_empty() {
            self.timer.arm(Instant::now() + RETRY_DELAY)?;
        } else {
            self.arm()?;
        }
        let is_reported = self.lacks_descriptors.swap(true, Ordering::Relaxed);
        Ok(if is_reported { Accepted::Done } else { Accepted::NoDescriptors(evicted) })
    }

    /// Gives a client a slot. Without a slot, the client waits for what its own user frees, with a
    /// thread of that user's share.
    fn admit(
        &self,
        service: &ClientService,
        queues: &UserQueues<Event>,
        client: NewClient,
        ticket: Ticket,
    ) -> Option<Event> {
        let socket = &client.socket;
        if !service.handler.memory().is_available() {
            ErrorReply::no_server_memory().send(socket.as_fd(), 0);
            return None;
        }
        let peer = Peer::of(socket.as_fd()).ok()?;
        socket_options::prepare(socket.as_fd());
        match service.connections.slot_for(&peer) {
            Ok((slot, evicted)) => {
                let session = Session::new(peer, slot);
                let connection = service.connections.add(client, session, ticket.number());
                Some(Event::Accepted { connection, evicted, ticket })
            }
            Err(error) if queues.deferred(peer.uid) >= MAX_DEFERRED => {
                error.send(socket.as_fd(), 0);
                None
            }
            Err(_) => {
                ticket.frees_nothing();
                Some(Event::WithoutSlot { client, peer, ticket })
            }
        }
    }

    /// Gives a slot to a client that found none before, after everything that was freed before it.
    /// Refuses the client if there still is none.
    pub(crate) fn admit_waiting(
        &self,
        service: &ClientService,
        client: NewClient,
        peer: Peer,
        ticket: &Ticket,
    ) -> Option<Arc<Connection>> {
        ticket.wait_for_earlier(peer.uid);
        service.handler.reclaimer().reclaim_all(peer.uid);
        match service.connections.slot_for(&peer) {
            Ok((slot, evicted)) => {
                log::emit(|| evicted.iter().for_each(log::evicted));
                let session = Session::new(peer, slot);
                Some(service.connections.add(client, session, ticket.number()))
            }
            Err(error) => {
                service.errors.log(&peer, &error);
                error.send(client.socket.as_fd(), 0);
                None
            }
        }
    }
}
