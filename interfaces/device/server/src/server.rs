//! The server: who waits, who is woken, and what then happens.

use crate::accounts::{Accounts, Seat};
use crate::address::{Address, BindError, Listener};
use crate::alarm::Alarm;
use crate::behind::Behind;
use crate::connection::{Client, Desk};
use crate::files::OpenFile;
use crate::limits::Limits;
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::shares::Shares;
use crate::shutdown::Shutdown;
use crate::sys;
use crate::turns::{Turn, Turns};
use cma_device_protocol::wire::{self, Lost};
use cma_device_protocol::{Malformed, Message};
use cma_framework::Cma;
use parking_lot::Mutex;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{self, Errno};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Resource, getrlimit};
use rustix::time::Timespec;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many threads serve. A request that is quick takes one for some microseconds; one that isn't must leave some to others.
const THREADS: usize = 8;

/// How many of them serve one user at once, at most.
const SHARE: usize = 3;

/// How long nobody is let in when the process can have no more descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// How many events of a user may be put off when one more client of that user wants to wait for a place.
const MOST_PUT_OFF: usize = 64;

// What an epoll event is about: one of these, or else a connection.
const LISTENER: u64 = 0;
const SHUTDOWN: u64 = 1;
const ALARM: u64 = 2;
const FIRST_CONNECTION: u64 = 3;

/// A server that listens and, once it [runs](Self::run), gives chunks of a framework to other processes.
#[derive(Debug)]
pub struct Server {
    // Goes first: nobody is to knock at a door that is being taken down.
    listener: Listener,
    epoll: OwnedFd,
    alarm: Arc<Alarm>,
    turns: Arc<Turns>,
    shares: Shares<Event>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    newest: AtomicU64,
    /// Whether a client could not be let in, for want of descriptors.
    full: AtomicBool,
    desk: Desk,
}

/// A line to a client.
#[derive(Debug)]
struct Connection {
    number: u64,
    uid: u32,
    socket: OwnedFd,
    /// `None` when it is over. Locked by who serves it, and an event is for one thread alone.
    client: Mutex<Option<Client>>,
}

/// Something that happened, in its turn.
#[derive(Debug)]
enum Event {
    /// On a line.
    Line { connection: Arc<Connection>, flags: EventFlags, turn: Turn },
    /// A client came for which there was no place at first sight.
    Knock { socket: OwnedFd, peer: Peer, turn: Turn },
}

/// What a thread has to do.
#[derive(Debug)]
enum Work {
    /// Somebody else does it, or nobody has to.
    Nothing,
    End,
    Ring,
    /// For the user of this number.
    Serve(u32, Event),
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Open,
    Over,
}

impl Server {
    /// Listens at `address` for clients that may have chunks of `cma`, so much as `limits` and `rules` say.
    ///
    /// What a server left there that was killed is taken away.
    ///
    /// # Errors
    ///
    /// [`BindError`], also when a server is listening there.
    pub fn bind(address: &Address, cma: Cma, limits: Limits, rules: Rules) -> Result<Server, BindError> {
        let limits = match getrlimit(Resource::Nofile).current {
            Some(descriptors) => limits.within(descriptors),
            None => limits,
        };
        let system = |errno: Errno| BindError::System { path: address.path().into(), source: errno.into() };
        let alarm = Arc::new(Alarm::new().map_err(system)?);
        let accounts = Accounts::new(limits.clone());
        let server = Server {
            epoll: epoll::create(CreateFlags::CLOEXEC).map_err(system)?,
            turns: Arc::default(),
            shares: Shares::new(SHARE),
            connections: Mutex::default(),
            newest: AtomicU64::new(FIRST_CONNECTION),
            full: AtomicBool::new(false),
            desk: Desk {
                behind: Behind::new(alarm.clone(), cma.clone()),
                cma,
                rules,
                accounts,
                files: Arc::default(),
            },
            alarm,
            listener: address.listen()?,
        };
        tracing::debug!(path = %address.path().display(), ?limits, "listening");
        server.again(&server.listener.socket, LISTENER, EventFlags::IN).map_err(system)?;
        server.again(&*server.alarm, ALARM, EventFlags::IN).map_err(system)?;
        Ok(server)
    }

    /// Serves until `shutdown` begins, or until it can't. Then the socket is gone, every connection is over and every chunk is free, also those
    /// whose memory somebody still holds. It returns when the last request under way is served.
    ///
    /// # Errors
    ///
    /// What the system says when it can't wait for clients any more.
    ///
    /// # Panics
    ///
    /// When serving did: by a fault of the program, which others were not made to suffer for before.
    pub fn run(self, shutdown: &Shutdown) -> std::io::Result<()> {
        // For every thread, again and again.
        epoll::add(&self.epoll, shutdown, EventData::new_u64(SHUTDOWN), EventFlags::IN)?;
        std::thread::scope(|threads| {
            let all: Vec<_> = (0..THREADS)
                .map(|n| {
                    let thread = std::thread::Builder::new().name(format!("cma-device-{n}"));
                    let work = || self.work().inspect_err(|_| shutdown.begin());
                    thread.spawn_scoped(threads, work).inspect_err(|_| shutdown.begin())
                })
                .collect();
            let ends = all.into_iter().map(|thread| match thread?.join() {
                Ok(end) => Ok(end?),
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ends.fold(Ok(()), std::io::Result::and)
        })
    }

    /// What each thread does.
    fn work(&self) -> io::Result<()> {
        loop {
            let wait = || {
                let mut event = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }];
                let count = io::retry_on_intr(|| epoll::wait(&self.epoll, &mut event, None))?;
                Ok((count > 0).then_some(event[0]))
            };
            match self.turns.take(wait, |event, turn| self.sort(event?, turn))? {
                Work::Nothing => {}
                Work::End => return Ok(()),
                Work::Ring => self.ring()?,
                Work::Serve(uid, event) => self.work_for(uid, event),
            }
        }
    }

    /// Says what an event is about, and puts it off if its user has no thread left.
    fn sort(&self, event: Option<epoll::Event>, turn: Turn) -> io::Result<Work> {
        let Some(epoll::Event { flags, data }) = event else { return Ok(Work::Nothing) };
        Ok(match data.u64() {
            SHUTDOWN => Work::End,
            LISTENER => return self.accept(turn),
            ALARM => Work::Ring,
            number => match self.connections.lock().get(&number).cloned() {
                Some(connection) => self.begin(connection.uid, Event::Line { connection, flags, turn }),
                None => Work::Nothing,
            },
        })
    }

    fn begin(&self, uid: u32, event: Event) -> Work {
        self.shares.begin(uid, event).map_or(Work::Nothing, |event| Work::Serve(uid, event))
    }

    /// Does a user's work, which has begun, and whatever was put off for this user meanwhile.
    fn work_for(&self, uid: u32, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next {
            match event {
                Event::Line { connection, flags, turn } => self.serve_line(&connection, flags, &turn),
                Event::Knock { socket, peer, turn } => self.answer_knock(socket, peer, &turn),
            }
            next = self.shares.finish(uid);
        }
    }

    fn serve_line(&self, connection: &Arc<Connection>, flags: EventFlags, turn: &Turn) {
        if self.serve(connection, flags, turn) == Line::Over {
            self.hang_up(connection);
        }
    }

    /// Has the next event of a source, which may be a new one, wake a thread.
    fn again(&self, source: impl AsFd, number: u64, flags: EventFlags) -> io::Result<()> {
        let (data, flags) = (EventData::new_u64(number), flags | EventFlags::ONESHOT);
        match epoll::modify(&self.epoll, source.as_fd(), data, flags) {
            Err(Errno::NOENT) => epoll::add(&self.epoll, source, data, flags),
            done => done,
        }
    }

    /// Lets one client in. This is part of sorting: what is put off is put off in the order of its turns.
    fn accept(&self, turn: Turn) -> io::Result<Work> {
        let knocks = accept_with(&self.listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        if let Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) = knocks {
            // Nobody can be let in until something is closed. Whoever knocks meanwhile waits.
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!("no descriptors for further clients");
            }
            self.alarm.set(Instant::now() + PAUSE)?;
            return Ok(Work::Nothing);
        }
        self.again(&self.listener.socket, LISTENER, EventFlags::IN)?;
        self.full.store(false, Ordering::Relaxed);
        Ok(knocks.map_or(Work::Nothing, |socket| self.welcome(socket, turn)))
    }

    /// Gives a client its place. Where there is none, it waits for what its own user gives back, with a thread of that user's share.
    fn welcome(&self, socket: OwnedFd, turn: Turn) -> Work {
        let Ok(peer) = Peer::of(socket.as_fd()) else { return Work::Nothing };
        sys::refuse_descriptors(socket.as_fd());
        // The smallest there is: then a line can be written to again when all that was written is read.
        let _ = set_socket_send_buffer_size(&socket, 1);
        let uid = peer.uid;
        let event = match self.desk.accounts.seat(&peer) {
            // It may have asked by now.
            Ok(seat) => {
                Event::Line { connection: self.admit(socket, peer, seat), flags: EventFlags::IN, turn }
            }
            Err(refusal) if self.shares.put_off(uid) >= MOST_PUT_OFF => {
                refuse(socket.as_fd(), 0, &refusal);
                return Work::Nothing;
            }
            Err(_) => {
                turn.gives_nothing_back();
                Event::Knock { socket, peer, turn }
            }
        };
        self.begin(uid, event)
    }

    /// Gives a client its place that found none before, or says why there is none.
    fn answer_knock(&self, socket: OwnedFd, peer: Peer, turn: &Turn) {
        turn.wait_for_earlier();
        self.desk.behind.free_some();
        match self.desk.accounts.seat(&peer) {
            Ok(seat) => self.serve_line(&self.admit(socket, peer, seat), EventFlags::IN, turn),
            Err(refusal) => refuse(socket.as_fd(), 0, &refusal),
        }
    }

    /// A client that has its place.
    fn admit(&self, socket: OwnedFd, peer: Peer, seat: Seat) -> Arc<Connection> {
        let number = self.newest.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(number, ?peer, "connected");
        let (uid, client) = (peer.uid, Client { peer, lease: None, file: None, seat, asked: None });
        let connection = Arc::new(Connection { number, uid, socket, client: Mutex::new(Some(client)) });
        self.connections.lock().insert(number, connection.clone());
        connection
    }

    /// Serves one request of a connection.
    fn serve(&self, connection: &Connection, flags: EventFlags, turn: &Turn) -> Line {
        let socket = connection.socket.as_fd();
        let mut client = connection.client.lock();
        let Some(client) = &mut *client else { return Line::Over };
        // A client that is gone asks nothing, whatever it had said before.
        if flags.intersects(EventFlags::HUP | EventFlags::RDHUP | EventFlags::ERR) {
            return Line::Over;
        }
        let message = match client.asked.take().map_or_else(|| wire::receive(socket), |asked| Ok(*asked)) {
            Ok(message) => message,
            Err(Lost::System(Errno::AGAIN | Errno::INTR)) => {
                // Who is gone by now is no later event: who comes next finds its place free.
                let line = self.wait_for(connection, WANTED);
                return if polls(socket, PollFlags::RDHUP) { Line::Over } else { line };
            }
            Err(Lost::Malformed(wrong)) => {
                refuse(socket, 0, &nonsense(wrong));
                return Line::Over;
            }
            Err(_) => return Line::Over,
        };
        // A client that doesn't read what it is told is told nothing more until it does, and nobody waits for it. Where processes share
        // a line, one that is killed may leave an answer unread, which the next one passes over.
        if !polls(socket, PollFlags::OUT) {
            turn.gives_nothing_back();
            client.asked = Some(Box::new(message));
            return self.wait_for(connection, EventFlags::OUT | EventFlags::RDHUP);
        }
        let id = message.id();
        let reply = match message.as_request() {
            Ok((_, request)) => self.desk.serve(turn, client, &request),
            Err(wrong) => {
                refuse(socket, id, &nonsense(wrong));
                return Line::Over;
            }
        };
        // Whatever the client does when it has the answer is to be an event at once, in its place among others. Another thread that
        // is woken by it waits for this one, which has the client.
        if self.wait_for(connection, WANTED) == Line::Over {
            return Line::Over;
        }
        let sent = match reply {
            Err(refusal) => wire::send(socket, &Message::refusal(id, refusal.errno, &refusal.words), &[]),
            Ok((answer, files)) => {
                let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
                wire::send(socket, &Message::answer(id, &answer), &descriptors)
            }
        };
        // As one without memory, if that goes through: the kernel may have too many descriptors under way.
        if let Err(error) = sent {
            refuse(socket, id, &Refusal::new(error, format!("the answer could not be sent: {error}")));
            return Line::Over;
        }
        Line::Open
    }

    fn wait_for(&self, connection: &Connection, wanted: EventFlags) -> Line {
        match self.again(&connection.socket, connection.number, wanted) {
            Ok(()) => Line::Open,
            Err(_) => Line::Over,
        }
    }

    /// Ends a connection and frees its chunk, as soon as nobody has its memory.
    fn hang_up(&self, connection: &Connection) {
        self.connections.lock().remove(&connection.number);
        let _ = epoll::delete(&self.epoll, &connection.socket);
        let Some(Client { lease, file, seat, peer, .. }) = connection.client.lock().take() else { return };
        let Some(lease) = lease.or_else(|| file.and_then(OpenFile::close)) else { return };
        if let Err(lease) = lease.reclaim() {
            tracing::debug!(number = connection.number, ?peer, "left a chunk behind");
            self.desk.behind.leave(lease, seat);
        }
    }

    /// Does what is due.
    fn ring(&self) -> io::Result<()> {
        self.alarm.rang();
        self.desk.behind.look();
        self.again(&*self.alarm, ALARM, EventFlags::IN)?;
        // In case nobody was let in for a while.
        self.again(&self.listener.socket, LISTENER, EventFlags::IN)
    }
}

/// What a connection is waited for.
const WANTED: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);

/// Whether one of these is so of a line.
fn polls(line: BorrowedFd<'_>, wanted: PollFlags) -> bool {
    let mut polled = [PollFd::new(&line, wanted)];
    io::retry_on_intr(|| poll(&mut polled, Some(&NOW))).is_ok() && !polled[0].revents().is_empty()
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

fn nonsense(wrong: Malformed) -> Refusal {
    let errno = if matches!(wrong, Malformed::Version { .. }) { Errno::PROTONOSUPPORT } else { Errno::PROTO };
    Refusal::new(errno, wrong.to_string())
}

/// The last word to a client, if it listens.
fn refuse(socket: BorrowedFd<'_>, id: u64, refusal: &Refusal) {
    tracing::debug!(?refusal, "hanging up");
    let _ = wire::send(socket, &Message::refusal(id, refusal.errno, &refusal.words), &[]);
}
