//! Accepting clients: each gets a connection slot, waits for one, or is refused.

use crate::address::{Listener, SocketFile};
use crate::connection::{Connection, Session};
use crate::connections::EVICTED_AT_ONCE;
use crate::error_reply::ErrorReply;
use crate::event::Event;
use crate::event_order::Ticket;
use crate::log;
use crate::peer::Peer;
use crate::poller::{EventSource, Poller};
use crate::service::ClientService;
use crate::socket_options;
use crate::timer::Timer;
use crate::user_queues::UserQueues;
use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{self, Errno};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{SocketFlags, accept_with};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The time until the server tries again after it found no thread or no descriptor.
pub(crate) const RETRY_DELAY: Duration = Duration::from_millis(50);

/// A client without a slot is refused when its user has this many deferred events.
const MAX_DEFERRED: usize = 64;

#[derive(Debug)]
pub(crate) struct Admission {
    listener: Arc<Listener>,
    poller: Arc<Poller>,
    timer: Arc<Timer>,
    /// Whether the last `accept` failed for want of descriptors.
    lacks_descriptors: AtomicBool,
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
    pub(crate) fn new(listener: Listener, poller: Arc<Poller>, timer: Arc<Timer>) -> Self {
        let lacks_descriptors = AtomicBool::new(false);
        Admission { listener: Arc::new(listener), poller, timer, lacks_descriptors }
    }

    pub(crate) fn socket_file(&self) -> SocketFile {
        SocketFile(Arc::downgrade(&self.listener))
    }

    pub(crate) fn path(&self) -> &Path {
        self.listener.path()
    }

    /// Reports the next client to a thread.
    pub(crate) fn arm(&self) -> io::Result<()> {
        self.poller.arm(&self.listener.socket, EventSource::Listener, EventFlags::IN)
    }

    /// Accepts one client. It doesn't block: it runs while events are classified, so that deferred
    /// events stay in order.
    pub(crate) fn accept(
        &self,
        service: &ClientService,
        queues: &UserQueues<Event>,
        ticket: Ticket,
    ) -> io::Result<Accepted> {
        let accepted =
            accept_with(&self.listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        if let Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) = accepted {
            return self.make_room_for_descriptors(service);
        }
        self.arm()?;
        self.lacks_descriptors.store(false, Ordering::Relaxed);
        let event = accepted.ok().and_then(|socket| self.admit(service, queues, socket, ticket));
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
        socket: OwnedFd,
        ticket: Ticket,
    ) -> Option<Event> {
        if !service.handler.memory().is_available() {
            ErrorReply::no_server_memory().send(socket.as_fd(), 0);
            return None;
        }
        let peer = Peer::of(socket.as_fd()).ok()?;
        socket_options::refuse_descriptors(socket.as_fd());
        // The kernel's minimum: the socket is writable only when the client has read all answers.
        let _ = set_socket_send_buffer_size(&socket, 1);
        match service.connections.slot_for(&peer) {
            Ok((slot, evicted)) => {
                let session = Session::new(peer, slot);
                let connection = service.connections.add(socket, session, ticket.number());
                Some(Event::Accepted { connection, evicted, ticket })
            }
            Err(error) if queues.deferred(peer.uid) >= MAX_DEFERRED => {
                error.send(socket.as_fd(), 0);
                None
            }
            Err(_) => {
                ticket.frees_nothing();
                Some(Event::WithoutSlot { socket, peer, ticket })
            }
        }
    }

    /// Gives a slot to a client that found none before, after everything that was freed before it.
    /// Refuses the client if there still is none.
    pub(crate) fn admit_waiting(
        &self,
        service: &ClientService,
        socket: OwnedFd,
        peer: Peer,
        ticket: &Ticket,
    ) -> Option<Arc<Connection>> {
        ticket.wait_for_earlier(peer.uid);
        service.handler.reclaimer().reclaim_all(peer.uid);
        match service.connections.slot_for(&peer) {
            Ok((slot, evicted)) => {
                log::emit(|| evicted.iter().for_each(log::evicted));
                let session = Session::new(peer, slot);
                Some(service.connections.add(socket, session, ticket.number()))
            }
            Err(error) => {
                service.errors.log(&peer, &error);
                error.send(socket.as_fd(), 0);
                None
            }
        }
    }
}
