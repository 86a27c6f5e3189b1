//! Serving one event of a connection: receiving a request, answering it, and hanging up.

use crate::connection::{Connection, Session, is_ready};
use crate::connections::Connections;
use crate::deadlines::Deadlines;
use crate::error_reply::ErrorReply;
use crate::event_order::Ticket;
use crate::log::{self, ErrorLog};
use crate::open_files::OpenFile;
use crate::panics;
use crate::poller::REQUEST;
use crate::request_handler::{Handled, Reply, RequestHandler};
use crate::timer::RETRY_DELAY;
use crate::waiting::WaitingRequest;
use cma_device_protocol::wire::{self, ReceiveError};
use cma_device_protocol::{Answer, Malformed, Message, Request};
use parking_lot::MutexGuard;
use rustix::event::PollFlags;
use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct ClientService {
    pub(crate) connections: Connections,
    pub(crate) handler: RequestHandler,
    pub(crate) deadlines: Arc<Deadlines>,
    pub(crate) errors: ErrorLog,
}

/// The connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended;

impl ClientService {
    /// Serves an event of a connection. A panic ends the connection.
    pub(crate) fn serve(&self, connection: &Arc<Connection>, flags: EventFlags, ticket: &Ticket) {
        let Some(mut session) = connection.session_for_event() else { return };
        let served =
            panics::contain(|| self.serve_request(connection, &mut session, flags, ticket));
        self.finish(connection, session, served);
    }

    /// Continues a connection's request that waits. A panic ends the connection.
    pub(crate) fn wake(&self, connection: &Connection, ticket: &Ticket) {
        let Some(mut session) = connection.session_for_event() else { return };
        let continued = panics::contain(|| {
            let session = session.as_mut().ok_or(Ended)?;
            if session.waiting.is_some() {
                return self.continue_waiting(connection, session, ticket);
            }
            // Another thread has answered the request. What its wake-up disarmed is armed again.
            self.wait_for(connection, session.awaited_events())
        });
        self.finish(connection, session, continued);
    }

    /// Releases the session, and hangs up unless the connection continues. Has an event reported
    /// again that another thread could not serve meanwhile.
    ///
    /// What ends the connection takes the session out under the lock that it has. It never waits
    /// for that lock again: the thread of the next event may be blocked in an allocator by then.
    fn finish(
        &self,
        connection: &Connection,
        mut session: MutexGuard<'_, Option<Session>>,
        served: Option<Result<(), Ended>>,
    ) {
        let ends = served != Some(Ok(()));
        let ended = if ends { session.take() } else { None };
        drop(session);
        if let Some(ended) = ended {
            self.hang_up(connection, ended);
        } else if !ends && connection.missed_event() {
            self.connections.wake(connection);
        }
    }

    fn serve_request(
        &self,
        connection: &Arc<Connection>,
        session: &mut Option<Session>,
        flags: EventFlags,
        ticket: &Ticket,
    ) -> Result<(), Ended> {
        let socket = connection.socket.as_fd();
        let session = session.as_mut().ok_or(Ended)?;
        // Requests of a client that has hung up are discarded.
        if flags.intersects(EventFlags::HUP | EventFlags::RDHUP | EventFlags::ERR) {
            return Err(Ended);
        }
        self.keep(connection, session)?;
        if session.waiting.is_some() {
            return self.continue_waiting(connection, session, ticket);
        }
        let Some(message) = self.next_message(connection, session)? else { return Ok(()) };
        let records = session.records.as_mut();
        if let Some(answer) = records.and_then(|records| records.take_answer_before(message.id())) {
            ticket.frees_nothing();
            return self.repeat(connection, session, &message, &answer);
        }
        // A client gets no answer until it has read the last one, and no thread waits for it: the
        // request waits in the session. Where processes share a connection, one that is killed may
        // leave an answer unread, which the next reader skips.
        if !is_ready(socket, PollFlags::OUT) {
            ticket.frees_nothing();
            if !self.handler.memory().is_available() {
                return Err(Ended);
            }
            session.pending = Some(Box::new(message));
            return self.wait_for(connection, session.awaited_events());
        }
        let id = message.id();
        let request = match message.as_request() {
            Ok((_, request)) => request,
            Err(malformed) => {
                self.send_error(session, socket, id, &malformed_message(&malformed));
                return Err(Ended);
            }
        };
        let mut handled = self.handle(ticket, session, id, &request);
        if let Some(records) = &mut session.records {
            handled = match handled {
                Ok(Handled::Waits { wait, .. }) => match records.waits(id, wait) {
                    Ok(()) => handled,
                    Err(error) => Err(error),
                },
                Err(error)
                    if error.is_busy()
                        && matches!(request, Request::Free)
                        && records.take_may_have_repeated() =>
                {
                    // Armed before: arming it later would undo what the deadline arms.
                    self.wait_for(connection, EventFlags::RDHUP)?;
                    records.retry = Some(self.deadlines.add(RETRY_DELAY, connection.number));
                    return Ok(());
                }
                handled => handled,
            };
            if let (Err(error), true) = (&handled, changes_something(&request)) {
                records.refused(id, &error.message(id));
            }
        }
        let reply = match handled {
            Ok(Handled::Answered(answer, files)) => Ok((answer, files)),
            Ok(Handled::Waits { pending, wait, memory }) => {
                let deadline = self.deadlines.add(wait, connection.number);
                let waker = self.connections.waker(connection);
                let waiting = WaitingRequest { id, memory, pending, deadline, waker };
                session.waiting = Some(Box::new(waiting));
                connection.set_waits(true);
                return self.continue_waiting(connection, session, ticket);
            }
            Err(error) => Err(error),
        };
        self.reply(connection, session, id, reply)
    }

    /// Has the connection outlive the server, if anything does.
    fn keep(&self, connection: &Connection, session: &mut Session) -> Result<(), Ended> {
        let Some(records) = &mut session.records else { return Ok(()) };
        let socket = connection.socket.as_fd();
        let mut make_room = self.connections.room_for_descriptors();
        let kept = loop {
            match records.keep(socket) {
                Err(error) if error.is_out_of_descriptors() && make_room() => {}
                kept => break kept,
            }
        };
        kept.map_err(|error| {
            self.send_error(session, socket, 0, &error);
            Ended
        })
    }

    /// Continues a request that waits, and sends its answer once there is one.
    fn continue_waiting(
        &self,
        connection: &Connection,
        session: &mut Session,
        ticket: &Ticket,
    ) -> Result<(), Ended> {
        // Armed before the request is polled: arming it later would undo what a wake-up armed. A
        // thread that it wakes waits for the session.
        self.wait_for(connection, session.awaited_events())?;
        let make_room = self.connections.room_for_descriptors();
        let Some((id, reply)) = self.handler.continue_waiting(ticket, session, make_room) else {
            return Ok(());
        };
        connection.set_waits(false);
        if let (Some(records), Err(error)) = (&mut session.records, &reply) {
            records.refused(id, &error.message(id));
        }
        self.reply(connection, session, id, reply)
    }

    /// Sends the answer that the server before this one has recorded, with the descriptors of the
    /// memory. Does nothing but take out the message if the client has that answer in its socket.
    fn repeat(
        &self,
        connection: &Connection,
        session: &Session,
        message: &Message,
        answer: &Message,
    ) -> Result<(), Ended> {
        let socket = connection.socket.as_fd();
        if !is_ready(socket, PollFlags::OUT) {
            return self.next_after(connection, session);
        }
        let brings_memory = matches!(message.as_request(), Ok((_, Request::Alloc { memory, .. })) if memory)
            && matches!(answer.as_answer(), Ok((_, Answer::Chunk(_))));
        let mut make_room = self.connections.room_for_descriptors();
        let files = loop {
            let Some(lease) = session.lease.as_ref().filter(|_| brings_memory) else {
                break Vec::new();
            };
            match lease.answer_with_memory(0) {
                Ok((_, files)) => break files,
                Err(error) if error.is_out_of_descriptors() && make_room() => {}
                Err(error) => {
                    self.send_error(session, socket, message.id(), &error);
                    return Err(Ended);
                }
            }
        };
        self.send(connection, session, answer, &files)
    }

    /// Sends the answer to a request.
    fn reply(
        &self,
        connection: &Connection,
        session: &Session,
        id: u64,
        reply: Reply,
    ) -> Result<(), Ended> {
        match &reply {
            Err(error) => self.errors.log(&session.peer, error),
            Ok((Answer::Chunk(chunk), _)) if chunk.pieces > 1 && chunk.first == 0 => {
                self.errors.log_in_pieces(&session.peer, chunk);
            }
            Ok(_) => {}
        }
        match reply {
            Err(error) => self.send(connection, session, &error.message(id), &[]),
            Ok((answer, files)) => {
                self.send(connection, session, &Message::answer(id, &answer), &files)
            }
        }
    }

    /// Sends an answer.
    fn send(
        &self,
        connection: &Connection,
        session: &Session,
        answer: &Message,
        files: &[OwnedFd],
    ) -> Result<(), Ended> {
        let socket = connection.socket.as_fd();
        // Armed before the answer is sent, so that the client's reaction to the answer gets its
        // place in the order of events at once. A thread that it wakes waits for the session. The
        // request is still in the socket of a server that is to be outlived: then a reaction is
        // that the client hangs up.
        let is_lasting = session.records.is_some();
        self.wait_for(connection, if is_lasting { EventFlags::RDHUP } else { REQUEST })?;
        let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        // An answer with descriptors fails when the kernel has too many of them in flight. The
        // error, which has none, may still reach the client.
        if let Err(errno) = wire::send(socket, answer, &descriptors) {
            let error = ErrorReply::new(errno, format!("the answer could not be sent: {errno}"));
            self.send_error(session, socket, answer.id(), &error);
            return Err(Ended);
        }
        if is_lasting { self.next_after(connection, session) } else { Ok(()) }
    }

    /// Takes the answered message out of the socket, and waits for the next one.
    fn next_after(&self, connection: &Connection, session: &Session) -> Result<(), Ended> {
        if session.records.is_some() {
            wire::receive(connection.socket.as_fd()).map_err(|_| Ended)?;
        }
        self.wait_for(connection, REQUEST)
    }

    /// The pending request, or one that it receives. If there is none, the connection waits for
    /// the next event.
    fn next_message(
        &self,
        connection: &Connection,
        session: &mut Session,
    ) -> Result<Option<Message>, Ended> {
        if let Some(pending) = session.pending.take() {
            return Ok(Some(*pending));
        }
        let socket = connection.socket.as_fd();
        // If the message is to outlive the server, it stays until it is answered.
        let next = if session.records.is_some() { wire::peek } else { wire::receive };
        match next(socket) {
            Ok(message) => Ok(Some(message)),
            Err(ReceiveError::System(Errno::AGAIN | Errno::INTR)) => {
                self.wait_for(connection, REQUEST)?;
                // A hang-up until now belongs to this event, so that the next client finds the slot
                // free.
                if is_ready(socket, PollFlags::RDHUP) { Err(Ended) } else { Ok(None) }
            }
            Err(ReceiveError::Malformed(malformed)) => {
                self.send_error(session, socket, 0, &malformed_message(&malformed));
                Err(Ended)
            }
            Err(_) => Err(Ended),
        }
    }

    /// Answers each request that waits with the error that the server ends. What is to outlive the
    /// server ends too.
    pub(crate) fn end(&self) {
        for (connection, id) in self.connections.end_waits() {
            ErrorReply::server_ends().send(connection.socket.as_fd(), id);
        }
        let Some(records) = self.connections.records() else { return };
        for connection in self.connections.all() {
            let session = connection.session.lock().take();
            if let Some(session) = session {
                self.hang_up(&connection, session);
            }
        }
        self.handler.reclaimer().end();
        records.end();
    }

    /// Executes a request. When the process runs out of descriptors, evicts connections one by one
    /// and tries again.
    fn handle(
        &self,
        ticket: &Ticket,
        session: &mut Session,
        id: u64,
        request: &Request<'_>,
    ) -> Result<Handled, ErrorReply> {
        let mut make_room = self.connections.room_for_descriptors();
        loop {
            match self.handler.handle(ticket, session, id, request) {
                Err(error) if error.is_out_of_descriptors() && make_room() => {}
                handled => return handled,
            }
        }
    }

    fn wait_for(&self, connection: &Connection, flags: EventFlags) -> Result<(), Ended> {
        self.connections.arm(connection, flags).map_err(|_| Ended)
    }

    /// Logs an error and sends it as the last message of the connection.
    fn send_error(&self, session: &Session, socket: BorrowedFd<'_>, id: u64, error: &ErrorReply) {
        self.errors.log(&session.peer, error);
        error.send(socket, id);
    }

    /// Ends a connection and frees its chunk. If a process holds the chunk's memory, the reclaimer
    /// frees it later.
    fn hang_up(&self, connection: &Connection, session: Session) {
        self.connections.remove(connection);
        let Session { lease, file, slot, peer, waiting, records, .. } = session;
        drop(waiting);
        let mut lease = lease.or_else(|| file.and_then(OpenFile::close));
        if let Some(records) = records {
            records.end(connection.socket.as_fd(), lease.as_mut());
        }
        let Some(lease) = lease else { return };
        if let Err(lease) = lease.reclaim() {
            self.handler.reclaimer().add(lease, slot);
            log::emit(|| {
                tracing::debug!(
                    number = connection.number,
                    ?peer,
                    "connection ended; a process still holds its chunk's memory"
                );
            });
        }
    }
}

/// Whether a request changes something if it isn't refused.
fn changes_something(request: &Request<'_>) -> bool {
    matches!(request, Request::Alloc { .. } | Request::AllocFile { .. } | Request::Free)
}

fn malformed_message(malformed: &Malformed) -> ErrorReply {
    let errno = if matches!(malformed, Malformed::Version { .. }) {
        Errno::PROTONOSUPPORT
    } else {
        Errno::PROTO
    };
    ErrorReply::new(errno, malformed.to_string())
}
