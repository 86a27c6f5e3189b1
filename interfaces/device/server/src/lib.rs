//! The test device for other processes (specification section 8): a server that allocates chunks of
//! a framework for its clients.
//!
//! ```no_run
//! use cma_device_server::{Address, Limits, Rules, Server, Shutdown};
//! use cma_framework::Cma;
//!
//! let cma = Cma::new();
//! let limits = Limits::parse("chunks=64,bytes=1G")?;
//! let rules = Rules::parse("camera=uid:1000;video=gid:44,uid:0;*,@*=*")?;
//! let server = Server::bind(&Address::new("/run/cma.sock"), cma, limits, rules)?;
//! let shutdown = Shutdown::new()?;
//! std::thread::scope(|threads| {
//!     threads.spawn(|| server.run(&shutdown));
//!     // ... until a signal arrives, or another front end ends:
//!     shutdown.begin();
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Terms
//!
//! - A *connection* corresponds to an open file of `/dev/cma`. It has at most one chunk. The kernel
//!   counts the references to its socket over `dup`, `fork` and `exec`, and reports a hang-up after
//!   the last one. The messages are those of [`cma_device_protocol`].
//! - A *slot* is the right to one connection. A *charge* is a chunk's entry in the account of its
//!   user. A *lease* is a chunk with its charge.
//! - A *session* is what the server keeps for a connection: the client's identity, the slot, the
//!   lease, and at most one request that is not answered yet.
//! - An *open file* is a file of the preload library. One connection keeps its chunk; every
//!   connection can query the chunk by the file's number.
//! - A chunk is *left behind* when its connection has ended while a process still holds its memory
//!   by a descriptor or a mapping.
//! - A request *waits* if it asked for that and there is no room for it.
//! - An *event* is one report of epoll: a client connects, a connection has a request, can be
//!   written to or has hung up, the timer expires. Its *ticket* has its number in the order of all
//!   events. A *deferred* event waits in the queue of its user.
//!
//! # The path of a request
//!
//! 1. `server`: a thread takes one event from epoll (`poller`), gives it a ticket (`event_order`)
//!    and classifies it. The event begins, or is deferred because its user has no thread left
//!    (`user_queues`).
//! 2. `thread_pool`: before the thread serves the event, another thread waits in its place.
//! 3. `admission`: a new client gets a slot (`accounts`), for which an idle connection may be
//!    evicted (`connections`).
//! 4. `service`: a connection's request is received and answered.
//! 5. `request_handler`: the request is checked against the [`Rules`] and executed. `allocation`
//!    charges the user, allocates in the framework, and retries after memory was freed. A request
//!    that may wait becomes a future of the framework in the session (`waiting`). An attribute's
//!    text is sent as a file (`attribute_reader`).
//! 6. `service`: a request that waits is continued when its waker or its deadline (`deadlines`)
//!    makes epoll report its connection, until there is an answer.
//! 7. `service`: after a hang-up the chunk is freed, or passed to the `reclaimer` if it is left
//!    behind.
//!
//! If the server is to be outlived, a request stays in the socket until its answer is sent, and
//! `connection_records` records what it changes before that. `resume` continues the clients of the
//! server before.
//!
//! # What happens when
//!
//! | a client | then |
//! | --- | --- |
//! | exits, is killed, or closes its connection | The kernel reports the hang-up once no process has the connection. The server discards requests that it has not begun, and frees the chunk and the slot. A request in progress is finished first. |
//! | waits for room | Its connection costs what a silent one costs, and the request counts as a chunk. When the framework has room for the request, it wakes the future, and a thread continues it. At the deadline the client gets `ETIMEDOUT` with the reasons of the last try. Its further requests stay in the socket until then. If it ends or is killed, the future is dropped, and the framework turns to the next request. |
//! | keeps memory of its chunk | The chunk is left behind. It stays booked, keeps its slot, and counts for its user. The reclaimer retries it after 2 ms, then at intervals that double up to 500 ms, and before a request is refused. |
//! | is silent | Its connection costs a descriptor and some hundred bytes. If it has no chunk, it may be evicted. |
//! | doesn't read its answers | Its next request waits in the session until the socket is writable. Later ones stay in the kernel's socket buffer. No thread waits for it. |
//! | sends something that is no message | It gets `EPROTO`. The connection ends and its chunk is freed. |
//! | sends descriptors | The kernel refuses them (`SO_PASSRIGHTS`, since Linux 6.16), or closes them when the message is received. |
//! | finds no slot | If all slots are in use, a connection without a chunk is evicted: the one that was silent for longest, of the user with most connections, if that user has more than the client's. If there is none, or the client's user is at its limit, the client waits for what its own user frees, and then gets `EUSERS` or `EDQUOT`. |
//!
//! | in the server | then |
//! | --- | --- |
//! | an allocator blocks | The request blocks one thread; others go on. Its user is served by the rest of its three threads. A refused request of another user waits for it for a second at most. The framework refuses requests to a region that stays blocked ("stuck"). |
//! | no thread can be started | The event is postponed by 50 ms. A client without a slot gets `EAGAIN`. |
//! | no descriptor is free | Up to four idle connections are evicted. If there are none, new clients wait in the listener's backlog. |
//! | no memory is free | Requests get `ENOMEM` (`memory_reserve`). A memory cgroup kills the process instead: give the server one with enough memory. |
//! | a thread panics | The connection being served ends (`panics`). A log subscriber that panics has no effect (`log`). |
//! | the server shuts down | Requests in progress are finished. Those that wait get `ESHUTDOWN`. The socket is removed, every connection ends, and every chunk is freed, also those left behind. |
//! | the server was killed | A new one replaces its socket and warns of processes that hold memory of the old one (`stale_memory`). With a keeper ([`Lasting`]) it continues everything instead: `interfaces/device/server/RECOVERY.md`. |
//!
//! # Threads
//!
//! All threads are alike and wait at one epoll. Each event is reported to one of them
//! (`EPOLLONESHOT`). With a single thread, every client would wait while memory is zeroed or an
//! allocator works; with one for each connection, a silent client would cost a stack. At most three
//! threads serve a user and at most eight are idle, so the number of users bounds that of threads.
//!
//! A request that waits for room has no thread. Its waker changes what epoll reports of its
//! connection to "writable", which it is, because the client has read all answers. So a wake-up is
//! an event like others, with a ticket and within the threads of its user. A thread arms the
//! connection before it polls the future; a wake-up after that is reported again.
//!
//! Several threads could serve two events of one client in the wrong order: the client closes a
//! connection, allocates on another, and is refused because its first chunk is not free yet. So a
//! request that would be refused waits for all earlier events that may free something, and tries
//! again.
//!
//! # Locks
//!
//! A thread takes locks in this order.
//!
//! 1. `EventOrder::taking`, while it waits for an event and classifies it. Nothing blocks under it
//!    but the wait itself.
//! 2. `Connection::session`, while an event of that connection is served, calls of the framework
//!    included. Only the next event of the same connection waits for it; eviction tries it.
//! 3. The entry of an open file, while the descriptors of its memory are opened.
//! 4. All others, for some instructions or one system call that doesn't block; that of
//!    `Records::keeper` for one answer of the keeper. A few are held
//!    together, in these orders: `UserQueues::users`, `EventOrder::in_progress`;
//!    `Reclaimer::waiting`, `Reclaimer::attempts`, `EventOrder::in_progress`;
//!    `Reclaimer::waiting`, `Timer::deadline`; `ThreadPool::idle`, `MemoryReserve`. A waker runs in
//!    the framework, whoever frees memory; it takes none.
//!
//! Some locks are only tried, so they need no place in the order: a session under
//! `Connections::by_number`, the entry of an open file under `OpenFiles::chunks`, and
//! `Reclaimer::recovering`. The framework is called under a session, the entry of an open file, or
//! `Reclaimer::recovering`, and under no other lock.
//!
//! # Invariants
//!
//! 1. One thread waits for the next event, or is about to. A thread that can't start another one in
//!    its place doesn't serve.
//! 2. Events are classified one at a time, in ascending order of their tickets, and each is served
//!    by one thread.
//! 3. At most three events of a user are in progress. The user's others begin in order.
//! 4. No thread waits for a client: sockets don't block, and an answer is sent only when the one
//!    before it is read. No thread waits for room.
//! 5. A connection has one lease, keeps the chunk of one open file, has one request that waits, or
//!    has no chunk.
//! 6. A chunk is charged to its user before its client gets it, and until it is free; a request
//!    that waits, from its beginning to its end. It counts as freed only after its memory is free,
//!    and a wait that ended without a chunk only after the framework has forgotten the request.
//! 7. A slot is in use until its connection has ended and the connection's chunk is free.
//! 8. While the server runs, no chunk is freed whose memory a process holds.
//! 9. An allocation is refused for want of memory, quota or a spare slot, and a client for want of
//!    a slot, only after all earlier events that may free something, except those that are older
//!    than a second or deferred for another user. For a request that waits these are the events
//!    before the one that found its deadline passed. Refused at once are: a request for which the
//!    server process has no memory; and a client without a slot when its user has 64 deferred
//!    events.
//! 10. A quarter of all slots is kept for the first four of each user, and root's first four for
//!     root alone.
//! 11. A client is the user and process that the kernel reports (`SO_PEERCRED`).
//!
//! # What it leaves out
//!
//! - Waiting for a quota: a user whose requests wait for each other would wait for itself.
//! - Waiting for memory that is unusable. A request that waited and got a chunk whose memory a
//!   process still holds tries the other regions once, as one that doesn't wait, and is refused.
//! - A thread for a request that waits at the head of a region while all three threads of its user
//!   are blocked in allocators: the requests behind it wait for one of them, or for their own
//!   deadlines.
//! - Concurrent requests on a connection. A client opens several connections instead.
//! - Telling apart the processes that share a connection. The limits for a process count the
//!   connections that it opened; only those for a user can't be evaded.
//! - A notification when a process releases memory. The kernel has none, so the reclaimer retries.
//! - State that outlives a server without a keeper. A new one allocates the same addresses anew.

mod accounts;
mod address;
mod admission;
mod allocation;
mod attribute_reader;
mod connection;
mod connection_records;
mod connections;
mod deadlines;
mod error_reply;
mod event;
mod event_order;
mod lasting;
mod lease;
mod limits;
mod log;
mod memory_reserve;
mod open_files;
mod panics;
mod peer;
mod policy;
mod poller;
mod reclaimer;
mod request_handler;
mod resume;
mod rules;
mod server;
mod service;
mod settings;
mod shutdown;
mod socket_options;
mod stale_memory;
mod thread_pool;
mod timer;
mod user_queues;
mod waiting;

pub use address::{Address, BindError, SocketFile};
pub use lasting::{Discard, JournalWords, Lasting, RecordedRegion, RecoverError};
pub use limits::{Limits, Quota};
pub use peer::Peer;
pub use policy::{PolicyError, PolicyErrorKind};
pub use rules::Rules;
pub use server::Server;
pub use settings::Settings;
pub use shutdown::Shutdown;
