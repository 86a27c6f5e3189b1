//! One connection: its socket, and the state of the client at its other end.

use crate::accounts::ConnectionSlot;
use crate::connection_records::ConnectionRecords;
use crate::event_order::MAX_AGE;
use crate::lease::Lease;
use crate::open_files::OpenFile;
use crate::peer::Peer;
use crate::poller::{EventSource, REQUEST};
use crate::waiting::WaitingRequest;
use cma_device_protocol::Message;
use parking_lot::{Mutex, MutexGuard};
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use rustix::time::Timespec;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) uid: u32,
    pub(crate) socket: OwnedFd,
    /// `None` once the connection has ended. The thread that serves an event of the connection
    /// holds the lock.
    pub(crate) session: Mutex<Option<Session>>,
    /// The number of its last event in the order of all events.
    last_event: AtomicU64,
    /// Whether its session has a request that waits.
    waits: AtomicBool,
    /// Whether a thread gave up waiting for the session.
    missed_event: AtomicBool,
}

/// The state of a client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) peer: Peer,
    pub(crate) lease: Option<Lease>,
    /// The open file whose chunk this connection keeps. Then it has no lease of its own.
    pub(crate) file: Option<OpenFile>,
    pub(crate) slot: ConnectionSlot,
    /// A request that waits until the client has read the answer before.
    pub(crate) pending: Option<Box<Message>>,
    /// A request that waits for room. The client's later requests stay in the socket.
    pub(crate) waiting: Option<Box<WaitingRequest>>,
    /// What outlives the server of it. Then its message in progress is still in the socket.
    pub(crate) records: Option<Box<ConnectionRecords>>,
}

impl Session {
    pub(crate) fn new(peer: Peer, slot: ConnectionSlot) -> Self {
        Session { peer, lease: None, file: None, slot, pending: None, waiting: None, records: None }
    }

    /// Whether the connection has a chunk, or keeps that of an open file.
    pub(crate) fn has_chunk(&self) -> bool {
        self.lease.is_some() || self.file.is_some()
    }

    /// The events that continue it.
    pub(crate) fn awaited_events(&self) -> EventFlags {
        if self.waiting.is_some() {
            // The waker adds that the socket can be written to.
            EventFlags::RDHUP
        } else if self.pending.is_some() {
            EventFlags::OUT | EventFlags::RDHUP
        } else {
            REQUEST
        }
    }

    /// Whether it has no chunk and waits for none.
    fn is_idle(&self) -> bool {
        !self.has_chunk() && self.waiting.is_none()
    }
}

impl Connection {
    /// A connection that was accepted in the event of that number.
    pub(crate) fn new(number: u64, socket: OwnedFd, session: Session, event: u64) -> Self {
        let (uid, last_event) = (session.peer.uid, AtomicU64::new(event));
        Connection {
            number,
            uid,
            socket,
            session: Mutex::new(Some(session)),
            last_event,
            waits: AtomicBool::new(false),
            missed_event: AtomicBool::new(false),
        }
    }

    /// The session, for an event. `None` when another thread serves it for longer than any request
    /// waits for an event: its allocator hangs. That thread [continues](Self::missed_event) then.
    pub(crate) fn session_for_event(&self) -> Option<MutexGuard<'_, Option<Session>>> {
        self.session.try_lock_for(MAX_AGE).or_else(|| {
            self.missed_event.store(true, Ordering::SeqCst);
            // The other thread may have released the session before it could see that.
            fence(Ordering::SeqCst);
            self.session.try_lock()
        })
    }

    /// Whether another thread gave up waiting for the session since this was asked last. The caller
    /// has released it.
    pub(crate) fn missed_event(&self) -> bool {
        fence(Ordering::SeqCst);
        self.missed_event.swap(false, Ordering::SeqCst)
    }

    /// Whether its request waits for room, as it was a moment ago.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    pub(crate) fn set_last_event(&self, event: u64) {
        self.last_event.store(event, Ordering::Relaxed);
    }

    pub(crate) fn last_event(&self) -> u64 {
        self.last_event.load(Ordering::Relaxed)
    }

    pub(crate) fn source(&self) -> EventSource {
        EventSource::Connection(self.number)
    }

    /// Whether it has no chunk, waits for none, and no thread serves it.
    pub(crate) fn is_idle(&self) -> bool {
        let session = self.session.try_lock();
        session.is_some_and(|session| session.as_ref().is_some_and(Session::is_idle))
    }

    /// Ends the connection, if it is idle and no request waits in its socket. A client that doesn't
    /// read its answers counts as idle, also with requests.
    pub(crate) fn end_if_idle(&self) -> Option<Session> {
        let mut session = self.session.try_lock()?;
        let reads_answers = session.as_ref()?.pending.is_none();
        if reads_answers && is_ready(self.socket.as_fd(), PollFlags::IN | PollFlags::RDHUP) {
            return None;
        }
        session.take_if(|session| session.is_idle())
    }
}

const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Whether a socket has one of these conditions now.
pub(crate) fn is_ready(socket: BorrowedFd<'_>, conditions: PollFlags) -> bool {
    let mut polled = [PollFd::new(&socket, conditions)];
    io::retry_on_intr(|| poll(&mut polled, Some(&NO_WAIT))).is_ok()
        && !polled[0].revents().is_empty()
}
