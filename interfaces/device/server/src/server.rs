//! The server: who waits, who is woken, and what then happens.

use crate::accounts::{Accounts, NoSeat, Seat};
use crate::address::{Address, BindError, Listener, SocketFile};
use crate::alarm::Alarm;
use crate::behind::Behind;
use crate::connection::{Client, Desk};
use crate::files::OpenFile;
use crate::headroom::Headroom;
use crate::leftover;
use crate::limits::Limits;
use crate::lines::{Connection, Lines, polls};
use crate::log::{self, Refusals};
use crate::peer::Peer;
use crate::pool::Pool;
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
use rustix::event::PollFlags;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{self, Errno};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Resource, getrlimit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

/// How many threads are kept that have nothing to do.
const THREADS: usize = 8;

/// How many threads serve one user at once, at most.
const SHARE: usize = 3;

/// After which time something is tried again for which there was no thread or no descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// How many events of a user may be put off when one more client of that user wants to wait for a
/// place.
const MOST_PUT_OFF: usize = 64;

/// How many idle connections are closed at once when the process can have no more descriptors.
const CLOSED_AT_ONCE: usize = 4;

// What an epoll event is about: one of these, or else a connection.
const LISTENER: u64 = 0;
const SHUTDOWN: u64 = 1;
const ALARM: u64 = 2;
const FIRST_CONNECTION: u64 = 3;

/// A server that listens and, once it [runs](Self::run), gives chunks of a framework to other
/// processes.
#[derive(Debug)]
pub struct Server {
    // Goes first: nobody is to knock at a door that is being taken down.
    listener: Arc<Listener>,
    epoll: OwnedFd,
    alarm: Arc<Alarm>,
    turns: Arc<Turns>,
    pool: Pool,
    shares: Shares<Event>,
    lines: Lines,
    /// The numbers of connections whose events found no thread.
    late: Mutex<Vec<u64>>,
    /// Whether a client could not be let in, for want of descriptors.
    full: AtomicBool,
    /// Why it ended, unless it was told to.
    failed: Mutex<Option<Errno>>,
    desk: Desk,
}

/// Something that happened, in its turn.
#[derive(Debug)]
enum Event {
    /// On a line.
    Line { connection: Arc<Connection>, flags: EventFlags, turn: Turn },
    /// A client was let in, and another one's connection may have been closed for it.
    Arrival { connection: Arc<Connection>, closed: Option<Peer>, turn: Turn },
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
    /// There are no more descriptors. These connections were closed.
    NoDescriptors(Vec<Peer>),
    /// For the user of this number.
    Serve(u32, Event),
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Open,
    Over,
}

impl Event {
    fn turn(&self) -> &Turn {
        let (Event::Line { turn, .. } | Event::Arrival { turn, .. } | Event::Knock { turn, .. }) =
            self;
        turn
    }
}

impl Server {
    /// Listens at `address` for clients that may have chunks of `cma`, so much as `limits` and
    /// `rules` say.
    ///
    /// What a server left there that was killed is taken away.
    ///
    /// # Errors
    ///
    /// [`BindError`], also when a server is listening there.
    pub fn bind(
        address: &Address,
        cma: Cma,
        limits: Limits,
        rules: Rules,
    ) -> Result<Server, BindError> {
        let limits = match getrlimit(Resource::Nofile).current {
            Some(descriptors) => limits.within(descriptors),
            None => limits,
        };
        let system =
            |errno: Errno| BindError::System { path: address.path().into(), source: errno.into() };
        let alarm = Arc::new(Alarm::new().map_err(system)?);
        let accounts = Accounts::new(limits.clone());
        let server = Server {
            epoll: epoll::create(CreateFlags::CLOEXEC).map_err(system)?,
            turns: Arc::default(),
            pool: Pool::new(THREADS),
            shares: Shares::new(SHARE),
            lines: Lines::new(FIRST_CONNECTION),
            late: Mutex::default(),
            full: AtomicBool::new(false),
            failed: Mutex::default(),
            desk: Desk {
                behind: Behind::new(alarm.clone(), cma.clone()),
                cma,
                rules,
                accounts,
                files: Arc::default(),
                refusals: Refusals::default(),
                headroom: Headroom::new(),
            },
            alarm,
            listener: Arc::new(address.listen()?),
        };
        log::emit(|| tracing::debug!(path = %address.path().display(), ?limits, "listening"));
        let regions = server.desk.cma.regions();
        let with_memory = regions.iter().filter(|region| region.backing().is_some());
        leftover::report(with_memory.filter_map(|region| region.name()));
        server.again(&server.listener.socket, LISTENER, EventFlags::IN).map_err(system)?;
        server.again(&*server.alarm, ALARM, EventFlags::IN).map_err(system)?;
        Ok(server)
    }

    /// The file of its socket.
    pub fn socket_file(&self) -> SocketFile {
        SocketFile(Arc::downgrade(&self.listener))
    }

    /// Serves until `shutdown` begins, or until it can't. Then the socket is gone, every connection
    /// is over and every chunk is free, also those whose memory somebody still holds. It returns
    /// when the last request under way is served.
    ///
    /// A panic while a client is served, of the program or of a subscriber of its log, closes that
    /// client's connection and ends nothing else.
    ///
    /// # Errors
    ///
    /// What the system says when it can't wait for clients any more.
    pub fn run(self, shutdown: &Shutdown) -> std::io::Result<()> {
        // For every thread, again and again.
        epoll::add(&self.epoll, shutdown, EventData::new_u64(SHUTDOWN), EventFlags::IN)?;
        thread::scope(|threads| self.start(threads, shutdown))?;
        self.failed.lock().take().map_or(Ok(()), |errno| Err(errno.into()))
    }

    /// Starts a thread.
    fn start<'scope>(
        &'scope self,
        threads: &'scope Scope<'scope, '_>,
        shutdown: &'scope Shutdown,
    ) -> std::io::Result<()> {
        if !self.desk.headroom.is_there() {
            return Err(Errno::NOMEM.into());
        }
        let thread = thread::Builder::new().name("cma-device".to_string());
        thread.spawn_scoped(threads, move || self.work(threads, shutdown)).map(|_| ())
    }

    /// What each thread does.
    fn work<'scope>(&'scope self, threads: &'scope Scope<'scope, '_>, shutdown: &'scope Shutdown) {
        loop {
            let work = match guarded(|| self.take()) {
                Some(Ok(work)) => work,
                Some(Err(errno)) => {
                    *self.failed.lock() = Some(errno);
                    return shutdown.begin();
                }
                // Whatever was being taken is lost. Those that everybody needs are waited for
                // again.
                None => {
                    let _ = self.again(&self.listener.socket, LISTENER, EventFlags::IN);
                    let _ = self.again(&*self.alarm, ALARM, EventFlags::IN);
                    continue;
                }
            };
            match work {
                Work::Nothing => continue,
                Work::End => return,
                work => match self.pool.begin(|| self.start(threads, shutdown)) {
                    Ok(()) => self.do_work(work),
                    Err(_) => {
                        self.postpone(work);
                        continue;
                    }
                },
            }
            if !self.pool.finish() {
                return;
            }
        }
    }

    /// Waits for an event, and says what it is about.
    fn take(&self) -> io::Result<Work> {
        let wait = || {
            let mut event =
                [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }];
            let count = io::retry_on_intr(|| epoll::wait(&self.epoll, &mut event, None))?;
            Ok((count > 0).then_some(event[0]))
        };
        self.turns.take(wait, |event, turn| self.sort(event?, turn))
    }

    /// Says what an event is about, and puts it off if its user has no thread left.
    fn sort(&self, event: Option<epoll::Event>, turn: Turn) -> io::Result<Work> {
        let Some(epoll::Event { flags, data }) = event else { return Ok(Work::Nothing) };
        Ok(match data.u64() {
            SHUTDOWN => Work::End,
            LISTENER => return self.accept(turn),
            ALARM => Work::Ring,
            number => match self.lines.get(number) {
                Some(connection) => {
                    connection.is_served(turn.number());
                    self.begin(connection.uid, Event::Line { connection, flags, turn })
                }
                None => Work::Nothing,
            },
        })
    }

    fn begin(&self, uid: u32, event: Event) -> Work {
        let event = self.shares.begin(uid, event, |event| event.turn().put_off(Some(uid)));
        event.map_or(Work::Nothing, |event| Work::Serve(uid, event))
    }

    /// Does it, while another thread waits for the next event.
    fn do_work(&self, work: Work) {
        match work {
            Work::Nothing | Work::End => {}
            Work::Ring => {
                guarded(|| self.ring());
            }
            Work::NoDescriptors(closed) => log::emit(|| {
                tracing::warn!("no descriptors for further clients");
                closed.iter().for_each(log_closed);
            }),
            Work::Serve(uid, event) => self.work_for(uid, event),
        }
    }

    /// Does a user's work, which has begun, and whatever was put off for this user meanwhile.
    fn work_for(&self, uid: u32, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next {
            event.turn().put_off(None);
            guarded(|| match event {
                Event::Line { connection, flags, turn } => {
                    self.serve_line(&connection, flags, &turn);
                }
                Event::Arrival { connection, closed, turn } => {
                    log::emit(|| {
                        closed.iter().for_each(log_closed);
                        tracing::debug!(number = connection.number, uid, "connected");
                    });
                    self.serve_line(&connection, EventFlags::IN, &turn);
                }
                Event::Knock { socket, peer, turn } => self.answer_knock(socket, peer, &turn),
            });
            next = self.shares.finish(uid);
        }
    }

    /// Puts work off for which there is no thread: this one has to wait for the next event.
    fn postpone(&self, work: Work) {
        let Work::Serve(uid, event) = work else { return self.postpone_ring() };
        let mut next = Some(event);
        while let Some(event) = next {
            match event {
                Event::Line { connection, .. } | Event::Arrival { connection, .. } => {
                    self.late.lock().push(connection.number);
                }
                Event::Knock { socket, .. } => {
                    let refusal =
                        Refusal::new(Errno::AGAIN, "the server can't start another thread");
                    farewell(socket.as_fd(), 0, &refusal);
                }
            }
            next = self.shares.finish(uid);
        }
        self.postpone_ring();
    }

    fn postpone_ring(&self) {
        self.alarm.rang();
        let _ = self.alarm.set(Instant::now() + PAUSE);
        let _ = self.again(&*self.alarm, ALARM, EventFlags::IN);
    }

    fn serve_line(&self, connection: &Arc<Connection>, flags: EventFlags, turn: &Turn) {
        if guarded(|| self.serve(connection, flags, turn)) != Some(Line::Open) {
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

    /// Lets one client in. This is part of sorting: what is put off is put off in the order of its
    /// turns.
    fn accept(&self, turn: Turn) -> io::Result<Work> {
        let knocks =
            accept_with(&self.listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        if let Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) = knocks {
            return self.make_room_for_descriptors();
        }
        self.again(&self.listener.socket, LISTENER, EventFlags::IN)?;
        self.full.store(false, Ordering::Relaxed);
        Ok(knocks.map_or(Work::Nothing, |socket| self.welcome(socket, turn)))
    }

    /// Closes idle connections when the process can have no more descriptors. If there are none,
    /// nobody can be let in until something is closed, and whoever knocks meanwhile waits.
    fn make_room_for_descriptors(&self) -> io::Result<Work> {
        let closed: Vec<_> = (0..CLOSED_AT_ONCE).map_while(|_| self.close_idlest(0)).collect();
        if closed.is_empty() {
            self.alarm.set(Instant::now() + PAUSE)?;
        } else {
            self.again(&self.listener.socket, LISTENER, EventFlags::IN)?;
        }
        let is_known = self.full.swap(true, Ordering::Relaxed);
        Ok(if is_known { Work::Nothing } else { Work::NoDescriptors(closed) })
    }

    /// Closes the connection that is missed least, of a user who has more than `has`; whose it was.
    fn close_idlest(&self, has: u64) -> Option<Peer> {
        let seats = |users: &mut dyn Iterator<Item = u32>| self.desk.accounts.seats_of(users);
        let (connection, client) = self.lines.take_idlest(seats, has)?;
        let _ = epoll::delete(&self.epoll, &connection.socket);
        let words =
            "the server closed this connection, which had no chunk, to make room; connect again";
        farewell(connection.socket.as_fd(), 0, &Refusal::new(Errno::USERS, words));
        Some(client.peer)
    }

    /// A place for a client, and whose connection was closed for it.
    fn seat(&self, peer: &Peer) -> Result<(Seat, Option<Peer>), Refusal> {
        let seat = |full| match full {
            NoSeat::OfUser(refusal) | NoSeat::OfAll { refusal, .. } => refusal,
        };
        match self.desk.accounts.seat(peer) {
            Err(NoSeat::OfAll { has, refusal }) => {
                let closed = self.close_idlest(has).ok_or(refusal)?;
                Ok((self.desk.accounts.seat(peer).map_err(seat)?, Some(closed)))
            }
            found => Ok((found.map_err(seat)?, None)),
        }
    }

    /// Gives a client its place. Where there is none, it waits for what its own user gives back,
    /// with a thread of that user's share.
    fn welcome(&self, socket: OwnedFd, turn: Turn) -> Work {
        if !self.desk.headroom.is_there() {
            farewell(socket.as_fd(), 0, &Refusal::no_memory());
            return Work::Nothing;
        }
        let Ok(peer) = Peer::of(socket.as_fd()) else { return Work::Nothing };
        sys::refuse_descriptors(socket.as_fd());
        // The smallest there is: then a line can be written to again when all that was written is
        // read.
        let _ = set_socket_send_buffer_size(&socket, 1);
        let uid = peer.uid;
        let event = match self.seat(&peer) {
            // It may have asked by now.
            Ok((seat, closed)) => {
                Event::Arrival { connection: self.admit(socket, peer, seat, &turn), closed, turn }
            }
            Err(refusal) if self.shares.put_off(uid) >= MOST_PUT_OFF => {
                farewell(socket.as_fd(), 0, &refusal);
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
        turn.wait_for_earlier(peer.uid);
        self.desk.behind.free_some(peer.uid);
        match self.seat(&peer) {
            Ok((seat, closed)) => {
                log::emit(|| closed.iter().for_each(log_closed));
                self.serve_line(&self.admit(socket, peer, seat, turn), EventFlags::IN, turn);
            }
            Err(refusal) => {
                self.desk.refusals.log(&peer, &refusal);
                farewell(socket.as_fd(), 0, &refusal);
            }
        }
    }

    /// A client that has its place.
    fn admit(&self, socket: OwnedFd, peer: Peer, seat: Seat, turn: &Turn) -> Arc<Connection> {
        self.lines.add(
            socket,
            Client { peer, lease: None, file: None, seat, asked: None },
            turn.number(),
        )
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
        let message =
            match client.asked.take().map_or_else(|| wire::receive(socket), |asked| Ok(*asked)) {
                Ok(message) => message,
                Err(Lost::System(Errno::AGAIN | Errno::INTR)) => {
                    // Who is gone by now is no later event: who comes next finds its place free.
                    let line = self.wait_for(connection, WANTED);
                    return if polls(socket, PollFlags::RDHUP) { Line::Over } else { line };
                }
                Err(Lost::Malformed(wrong)) => {
                    self.refuse(client, socket, 0, &nonsense(wrong));
                    return Line::Over;
                }
                Err(_) => return Line::Over,
            };
        // A client that doesn't read what it is told is told nothing more until it does, and nobody
        // waits for it. Where processes share a line, one that is killed may leave an answer
        // unread, which the next one passes over.
        if !polls(socket, PollFlags::OUT) {
            turn.gives_nothing_back();
            if !self.desk.headroom.is_there() {
                return Line::Over;
            }
            client.asked = Some(Box::new(message));
            return self.wait_for(connection, EventFlags::OUT | EventFlags::RDHUP);
        }
        let id = message.id();
        let reply = match message.as_request() {
            Ok((_, request)) => match self.desk.serve(turn, client, &request) {
                Err(refusal) if refusal.wants_descriptors() && self.close_idlest(0).is_some() => {
                    self.desk.serve(turn, client, &request)
                }
                reply => reply,
            },
            Err(wrong) => {
                self.refuse(client, socket, id, &nonsense(wrong));
                return Line::Over;
            }
        };
        if let Err(refusal) = &reply {
            self.desk.refusals.log(&client.peer, refusal);
        }
        // Whatever the client does when it has the answer is to be an event at once, in its place
        // among others. Another thread that is woken by it waits for this one, which has the
        // client.
        if self.wait_for(connection, WANTED) == Line::Over {
            return Line::Over;
        }
        let sent = match reply {
            Err(refusal) => {
                wire::send(socket, &Message::refusal(id, refusal.errno, &refusal.words), &[])
            }
            Ok((answer, files)) => {
                let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
                wire::send(socket, &Message::answer(id, &answer), &descriptors)
            }
        };
        // As one without memory, if that goes through: the kernel may have too many descriptors
        // under way.
        if let Err(error) = sent {
            let refusal = Refusal::new(error, format!("the answer could not be sent: {error}"));
            self.refuse(client, socket, id, &refusal);
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

    /// The last word to a client, if it listens.
    fn refuse(&self, client: &Client, socket: BorrowedFd<'_>, id: u64, refusal: &Refusal) {
        self.desk.refusals.log(&client.peer, refusal);
        farewell(socket, id, refusal);
    }

    /// Ends a connection and frees its chunk, as soon as nobody has its memory.
    fn hang_up(&self, connection: &Connection) {
        self.lines.remove(connection.number);
        let _ = epoll::delete(&self.epoll, &connection.socket);
        let Some(Client { lease, file, seat, peer, .. }) = connection.client.lock().take() else {
            return;
        };
        let Some(lease) = lease.or_else(|| file.and_then(OpenFile::close)) else { return };
        if let Err(lease) = lease.reclaim() {
            self.desk.behind.leave(lease, seat);
            log::emit(|| tracing::debug!(number = connection.number, ?peer, "left a chunk behind"));
        }
    }

    /// Does what is due.
    fn ring(&self) -> io::Result<()> {
        self.alarm.rang();
        self.again(&*self.alarm, ALARM, EventFlags::IN)?;
        // In case nobody was let in for a while.
        self.again(&self.listener.socket, LISTENER, EventFlags::IN)?;
        let late = std::mem::take(&mut *self.late.lock());
        for connection in late.into_iter().filter_map(|number| self.lines.get(number)) {
            // Whatever it is waited for: to be told of what is no longer so does no harm.
            let _ = self.again(&connection.socket, connection.number, WANTED | EventFlags::OUT);
        }
        self.desk.behind.look();
        Ok(())
    }
}

/// What a connection is waited for.
const WANTED: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);

/// The answer of `work`, if it doesn't panic. The panic hook reports it if it does; other clients
/// are served on.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    if done.is_err() {
        log::emit(|| tracing::error!("the server panicked; it serves on"));
    }
    done.ok()
}

fn log_closed(peer: &Peer) {
    let Peer { uid, pid, .. } = *peer;
    tracing::info!(uid, pid, process = peer.process(), "idle connection closed to make room");
}

fn nonsense(wrong: Malformed) -> Refusal {
    let errno = if matches!(wrong, Malformed::Version { .. }) {
        Errno::PROTONOSUPPORT
    } else {
        Errno::PROTO
    };
    Refusal::new(errno, wrong.to_string())
}

/// The last word on a line, if its other end listens.
fn farewell(socket: BorrowedFd<'_>, id: u64, refusal: &Refusal) {
    let _ = wire::send(socket, &Message::refusal(id, refusal.errno, &refusal.words), &[]);
}
