//! The server: its threads, and the event loop that each of them runs.

use crate::accounts::Accounts;
use crate::address::{Address, BindError, Listener, SocketFile, inherit, is_at, socket_path};
use crate::admission::{Accepted, Admission, ByKeeper};
use crate::connection::Connection;
use crate::connections::Connections;
use crate::deadlines::Deadlines;
use crate::error_reply::ErrorReply;
use crate::event::Event;
use crate::event_order::{EventOrder, Ticket};
use crate::lasting::{Discard, Lasting, ListenerHolder, Restored, restore};
use crate::limits::Limits;
use crate::log::{self, ErrorLog};
use crate::panics;
use crate::peer::Peer;
use crate::poller::{EventSource, Poller, REQUEST};
use crate::reclaimer::Reclaimer;
use crate::request_handler::RequestHandler;
use crate::rules::Rules;
use crate::service::ClientService;
use crate::settings::{Settings, shared};
use crate::shutdown::Shutdown;
use crate::stale_memory;
use crate::thread_pool::ThreadPool;
use crate::timer::{RETRY_DELAY, Timer};
use crate::user_queues::UserQueues;
use cma_framework::Cma;
use parking_lot::Mutex;
use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{self, Errno};
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, Scope};
use std::time::Instant;

/// The number of idle threads that are kept.
const MAX_IDLE_THREADS: usize = 8;

/// The number of threads that serve one user at once.
const MAX_THREADS_OF_USER: usize = 3;

/// A server that listens and, once it [runs](Self::run), allocates chunks of a framework for other
/// processes.
#[derive(Debug)]
pub struct Server {
    // Dropped first, so that no client connects during shutdown.
    admission: Admission,
    poller: Arc<Poller>,
    timer: Arc<Timer>,
    order: Arc<EventOrder>,
    pool: ThreadPool,
    queues: UserQueues<Event>,
    /// The numbers of connections whose events found no thread.
    postponed: Mutex<Vec<u64>>,
    /// The error that ended the server.
    failure: Mutex<Option<Errno>>,
    service: ClientService,
    settings: Settings,
    /// The connections whose requests have waited in a server before this one, in their order.
    waiting: Vec<Arc<Connection>>,
}

/// What a thread has to do.
#[derive(Debug)]
enum Task {
    /// Nothing: the event is deferred, or needs no work.
    Nothing,
    End,
    Timer,
    /// The process has no descriptors. The connections of these clients were closed.
    ReportNoDescriptors(Vec<Peer>),
    Serve(Event),
}

impl Server {
    /// Listens at `address` for clients, which get chunks of `cma` within `limits` and `rules`.
    ///
    /// The socket of a server that was killed is replaced.
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
        Server::start(address.path(), || address.listen(), cma, limits, rules, None)
    }

    /// The same, continuing what a server before this one left, which had the same regions. The
    /// next server continues this one in the same way.
    ///
    /// Chunks, connections and requests that wait go on as if it were the same server. Nothing is
    /// answered before [`run`](Self::run). The allocators may be registered before or later.
    ///
    /// # Errors
    ///
    /// [`BindError`]. [`BindError::Recover`]: something can't be continued. Nothing has changed
    /// then; the message names what to do. The process should end, and leave everything to its
    /// keeper.
    pub fn bind_lasting(
        address: &Address,
        cma: Cma,
        limits: Limits,
        rules: Rules,
        lasting: Lasting,
        discard: &Discard,
    ) -> Result<Server, BindError> {
        let stored = lasting.listener().filter(|listener| is_at(listener, address));
        let stored = stored
            .map(OwnedFd::try_clone)
            .transpose()
            .map_err(|source| BindError::System { path: address.path().into(), source })?;
        let holder = match stored {
            Some(_) => ListenerHolder::Keeper,
            None => ListenerHolder::NewKeeper,
        };
        let listen = || match stored {
            Some(socket) => inherit(socket, &address.absolute_path()),
            None => address.listen(),
        };
        let path = address.absolute_path();
        let lasting = Some((lasting, discard, holder));
        let mut server = Server::start(&path, listen, cma, limits, rules, lasting)?;
        match server.admission.own_file(address) {
            Ok(()) => Ok(server),
            Err(errno) => {
                server.leave();
                Err(BindError::System { path, source: errno.into() })
            }
        }
    }

    /// The same on a socket that another process has opened, as a service manager does. Its file
    /// stays when the server ends.
    ///
    /// # Errors
    ///
    /// [`BindError::Unsuitable`] for anything but a listening Unix socket of type `SEQPACKET` with
    /// a path, and [`BindError::System`].
    pub fn on_socket(
        socket: OwnedFd,
        cma: Cma,
        limits: Limits,
        rules: Rules,
    ) -> Result<Server, BindError> {
        let path = socket_path(&socket)?;
        Server::start(&path, || inherit(socket, &path), cma, limits, rules, None)
    }

    /// The same on such a socket, for a server that [another one continues](Self::bind_lasting).
    /// The process that has opened the socket passes it on to that one, too.
    ///
    /// # Errors
    ///
    /// As of both.
    pub fn on_socket_lasting(
        socket: OwnedFd,
        cma: Cma,
        limits: Limits,
        rules: Rules,
        lasting: Lasting,
        discard: &Discard,
    ) -> Result<Server, BindError> {
        let path = socket_path(&socket)?;
        let lasting = Some((lasting, discard, ListenerHolder::Other));
        Server::start(&path, || inherit(socket, &path), cma, limits, rules, lasting)
    }

    fn start(
        path: &Path,
        listen: impl FnOnce() -> Result<Listener, BindError>,
        cma: Cma,
        limits: Limits,
        rules: Rules,
        lasting: Option<(Lasting, &Discard, ListenerHolder)>,
    ) -> Result<Server, BindError> {
        let room = lasting.as_ref().and_then(|(lasting, ..)| lasting.room());
        let limits = limits.within_this_process().within_keeper(room);
        let system = |errno: Errno| BindError::System { path: path.into(), source: errno.into() };
        let listener = listen()?;
        let timer = Arc::new(Timer::new().map_err(system)?);
        let poller = Arc::new(Poller::new().map_err(system)?);
        let regions = cma.regions();
        if lasting.as_ref().is_none_or(|(lasting, ..)| lasting.is_first_start()) {
            // Before the keeper has memory of this server.
            let with_memory = regions.iter().filter(|region| region.backing().is_some());
            stale_memory::warn(with_memory.filter_map(|region| region.name()));
        }
        let restored = lasting.map(|(lasting, discard, holder)| {
            let socket = listener.socket.as_fd();
            restore(lasting, &cma, &limits, discard, socket, holder)
        });
        let mut restored =
            restored.transpose().map_err(|error| BindError::Recover(Box::new(error)))?;
        let records = restored.as_ref().map(|restored| restored.records.clone());
        let by_keeper = restored.as_mut().and_then(|restored| {
            let (connections, records) = (restored.accepted.take()?, restored.records.clone());
            Some(ByKeeper { connections, records })
        });
        let first = restored.as_ref().map_or(1, |restored| restored.next_connection);
        let accounts = Accounts::new(limits.clone());
        let reclaimer = Reclaimer::new(timer.clone(), cma.clone());
        let settings =
            Settings { accounts: accounts.clone(), rules: shared(rules), records: records.clone() };
        let service = ClientService {
            connections: Connections::new(poller.clone(), accounts.clone(), records, first),
            handler: RequestHandler::new(cma, settings.rules.clone(), accounts, reclaimer),
            deadlines: Arc::new(Deadlines::new(timer.clone())),
            errors: ErrorLog::default(),
        };
        let mut server = Server {
            admission: Admission::new(listener, by_keeper, poller.clone(), timer.clone()),
            poller,
            timer,
            order: Arc::default(),
            pool: ThreadPool::new(MAX_IDLE_THREADS),
            queues: UserQueues::new(MAX_THREADS_OF_USER),
            postponed: Mutex::default(),
            failure: Mutex::default(),
            service,
            settings,
            waiting: Vec::new(),
        };
        log::emit(|| tracing::debug!(path = %path.display(), ?limits, "listening"));
        match server.begin(restored) {
            Ok(()) => Ok(server),
            Err(errno) => {
                server.leave();
                Err(system(errno))
            }
        }
    }

    /// Continues what was restored, and arms what serves every client.
    fn begin(&mut self, restored: Option<Restored>) -> io::Result<()> {
        if let Some(restored) = restored {
            self.waiting = self.service.resume(restored)?;
        }
        self.admission.arm()?;
        self.arm_timer()
    }

    /// Ends without freeing what a next server continues.
    fn leave(self) {
        if self.service.connections.records().is_some() {
            // Dropping would free what the clients have.
            mem::forget(self);
        }
    }

    /// Its limits and rules, which can be replaced while it runs.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// The path of its socket.
    pub fn path(&self) -> &Path {
        self.admission.path()
    }

    /// The file of its socket.
    pub fn socket_file(&self) -> SocketFile {
        self.admission.socket_file()
    }

    /// Serves until `shutdown` begins, or until waiting for events fails. Then requests that wait
    /// for room are refused, the socket is removed, every connection ends, and every chunk is
    /// freed, even if processes still hold its memory. This returns when the last request in
    /// progress is served. After [`Shutdown::begin_hand_over`], a server that is
    /// [continued](Self::bind_lasting) leaves all of that to the next one.
    ///
    /// A panic while a client is served closes that client's connection and has no other effect.
    ///
    /// # Errors
    ///
    /// The system's error when the server can't wait for events any more. A server that is
    /// continued leaves everything to the next one then.
    pub fn run(self, shutdown: &Shutdown) -> std::io::Result<()> {
        let served = self.serve_until(shutdown);
        let is_lasting = self.service.connections.records().is_some();
        if is_lasting && (shutdown.hands_over() || served.is_err()) {
            self.leave();
        } else {
            self.service.end();
        }
        served
    }

    fn serve_until(&self, shutdown: &Shutdown) -> std::io::Result<()> {
        self.poller.add_shutdown(shutdown)?;
        // Before any other client is served, so that each gets its place again.
        for connection in &self.waiting {
            self.service.wake(connection, &self.order.begin());
        }
        thread::scope(|threads| self.start_thread(threads, shutdown))?;
        self.failure.lock().take().map_or(Ok(()), |errno| Err(errno.into()))
    }

    fn start_thread<'scope>(
        &'scope self,
        threads: &'scope Scope<'scope, '_>,
        shutdown: &'scope Shutdown,
    ) -> std::io::Result<()> {
        if !self.service.handler.memory().is_available() {
            return Err(Errno::NOMEM.into());
        }
        let thread = thread::Builder::new().name("cma-device".to_string());
        thread.spawn_scoped(threads, move || self.run_thread(threads, shutdown)).map(|_| ())
    }

    /// The event loop of a thread.
    fn run_thread<'scope>(
        &'scope self,
        threads: &'scope Scope<'scope, '_>,
        shutdown: &'scope Shutdown,
    ) {
        loop {
            let task = match panics::contain(|| self.next_task()) {
                Some(Ok(task)) => task,
                Some(Err(errno)) => {
                    *self.failure.lock() = Some(errno);
                    return shutdown.begin();
                }
                // The event is lost. The sources that serve every client are armed again.
                None => {
                    let _ = self.admission.arm();
                    let _ = self.arm_timer();
                    continue;
                }
            };
            match task {
                Task::Nothing => continue,
                Task::End => return,
                task => match self.pool.begin(|| self.start_thread(threads, shutdown)) {
                    Ok(()) => self.execute(task),
                    Err(_) => {
                        self.postpone(task);
                        continue;
                    }
                },
            }
            if !self.pool.finish() {
                return;
            }
        }
    }

    /// Waits for an event and classifies it.
    fn next_task(&self) -> io::Result<Task> {
        self.order.take(|| self.poller.wait(), |event, ticket| self.classify(event?, ticket))
    }

    /// Decides what an event requires. Defers it if its user has no thread left.
    fn classify(
        &self,
        event: Option<(EventSource, EventFlags)>,
        ticket: Ticket,
    ) -> io::Result<Task> {
        let Some((source, flags)) = event else { return Ok(Task::Nothing) };
        Ok(match source {
            EventSource::Shutdown => Task::End,
            EventSource::Timer => Task::Timer,
            EventSource::Listener => {
                match self.admission.accept(&self.service, &self.queues, ticket)? {
                    Accepted::Done => Task::Nothing,
                    Accepted::Client(event) => self.begin_or_defer(event),
                    Accepted::NoDescriptors(evicted) => Task::ReportNoDescriptors(evicted),
                }
            }
            EventSource::Connection(number) => match self.service.connections.get(number) {
                Some(connection) => {
                    connection.set_last_event(ticket.number());
                    self.begin_or_defer(if flags == EventFlags::OUT && connection.waits() {
                        // A thread that continues this request already may wait for all earlier
                        // events. It must not wait for this one, which waits for its session.
                        ticket.frees_nothing();
                        Event::Woken { connection, ticket }
                    } else {
                        Event::Ready { connection, flags, ticket }
                    })
                }
                None => Task::Nothing,
            },
        })
    }

    fn begin_or_defer(&self, event: Event) -> Task {
        let uid = event.uid();
        let event = self.queues.begin(uid, event, |event| event.ticket().set_deferred(Some(uid)));
        event.map_or(Task::Nothing, Task::Serve)
    }

    /// Executes a task while another thread waits for the next event.
    fn execute(&self, task: Task) {
        match task {
            Task::Nothing | Task::End => {}
            Task::Timer => {
                panics::contain(|| self.serve_timer());
            }
            Task::ReportNoDescriptors(evicted) => log::emit(|| {
                tracing::warn!("no descriptors for further clients");
                evicted.iter().for_each(log::evicted);
            }),
            Task::Serve(event) => self.serve_user(event),
        }
    }

    /// Serves an event, and then the events of the same user that were deferred meanwhile.
    fn serve_user(&self, event: Event) {
        let uid = event.uid();
        let mut next = Some(event);
        while let Some(event) = next {
            event.ticket().set_deferred(None);
            panics::contain(|| self.serve(event));
            next = self.queues.finish(uid);
        }
    }

    fn serve(&self, event: Event) {
        match event {
            Event::Ready { connection, flags, ticket } => {
                self.service.serve(&connection, flags, &ticket);
            }
            Event::Woken { connection, ticket } => self.service.wake(&connection, &ticket),
            Event::Accepted { connection, evicted, ticket } => {
                log::emit(|| {
                    evicted.iter().for_each(log::evicted);
                    let (number, uid) = (connection.number, connection.uid);
                    tracing::debug!(number, uid, "connected");
                });
                // The client may have sent a request already.
                self.service.serve(&connection, EventFlags::IN, &ticket);
            }
            Event::WithoutSlot { client, peer, ticket } => {
                let admitted = self.admission.admit_waiting(&self.service, client, peer, &ticket);
                if let Some(connection) = admitted {
                    self.service.serve(&connection, EventFlags::IN, &ticket);
                }
            }
        }
    }

    /// Postpones a task because no other thread can be started: this thread has to wait for the
    /// next event.
    fn postpone(&self, task: Task) {
        if let Task::Serve(event) = task {
            let uid = event.uid();
            let mut next = Some(event);
            while let Some(event) = next {
                match event {
                    Event::Ready { connection, .. }
                    | Event::Woken { connection, .. }
                    | Event::Accepted { connection, .. } => {
                        self.postponed.lock().push(connection.number);
                    }
                    Event::WithoutSlot { client, .. } => {
                        let reason = "the server can't start another thread; try again";
                        ErrorReply::new(Errno::AGAIN, reason).send(client.socket.as_fd(), 0);
                    }
                }
                next = self.queues.finish(uid);
            }
        }
        self.timer.acknowledge();
        let _ = self.timer.arm(Instant::now() + RETRY_DELAY);
        let _ = self.arm_timer();
    }

    /// Reports the timer's next expiry to a thread.
    fn arm_timer(&self) -> io::Result<()> {
        self.poller.arm(&*self.timer, EventSource::Timer, EventFlags::IN)
    }

    /// Does what is due when the timer expires.
    fn serve_timer(&self) -> io::Result<()> {
        self.timer.acknowledge();
        self.arm_timer()?;
        // The listener is disarmed while the process has no descriptors.
        self.admission.arm()?;
        let postponed = std::mem::take(&mut *self.postponed.lock());
        let connections = &self.service.connections;
        for connection in postponed.into_iter().filter_map(|number| connections.get(number)) {
            // Covers both states that a connection can be in; a spurious event does no harm.
            let _ = connections.arm(&connection, REQUEST | EventFlags::OUT);
        }
        let passed = self.service.deadlines.take_passed();
        for connection in passed.into_iter().filter_map(|number| connections.get(number)) {
            connections.wake(&connection);
        }
        self.service.handler.reclaimer().reclaim_due();
        Ok(())
    }
}
