//! The test device for other processes (specification section 8): a server that gives chunks of a
//! framework to whoever may have them.
//!
//! A connection is what an open file of `/dev/cma` is: it has at most one chunk, and the kernel
//! counts who holds it. When the last of them is gone, whatever ended it, the server sees the line
//! hang up and frees the chunk; as long as somebody still holds its *memory*, by a descriptor or a
//! mapping, the chunk stays booked and charged to its user, as the kernel's driver frees at the
//! last reference. What is said on a connection is in [`cma_device_protocol`].
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
//!     // ... until a signal comes, or another door is done:
//!     shutdown.begin();
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works, and why so
//!
//! Threads wait at one epoll. Each event is for one of them alone (`EPOLLONESHOT`) and stands for
//! one request, so a connection that is silent costs a descriptor and some hundred bytes, and one
//! that says a thousand things at once takes its turn a thousand times. The thread that is woken
//! serves: nothing is handed on. Before it does, it sees to it that another thread waits (`thread_pool`).
//! So a request that takes long (a large chunk has to be zeroed, an allocator thinks) or never ends
//! takes a thread from nobody. One user is served by three threads at most (`user_queues`), so there are
//! no more threads than that for each user, and eight to spare.
//!
//! When all connections are taken, or the process can have no more descriptors, connections without
//! a chunk make room (`connections`): of the user with most, the one that was silent for longest. A
//! quarter of all is kept for the first four of each user, and root's first four from everybody
//! (`accounts`).
//!
//! Where memory for serving a request can't be had (`RLIMIT_AS`, an address space that is full),
//! the request is refused with `ENOMEM` (`memory_reserve`). A memory cgroup refuses nothing: its kernel
//! kills the process, so give the server one with room for its clients.
//!
//! A panic ends the connection that was being served, and no thread; a subscriber that panics ends
//! nothing (`log`).
//!
//! Nothing is kept for a client but its chunk. An answer is sent or the connection ends: a client
//! that asks again before it has read the last answer, says something that is no message, or stops
//! reading, is hung up on. Descriptors that a client sends are refused by the kernel
//! (`SO_PASSRIGHTS`) or closed by it before anybody sees them.
//!
//! Events come in the order in which things happened (`event_order`), so a client that closes one
//! connection and asks on another finds what it had given back, as with the driver, although two
//! threads serve the two.

mod accounts;
mod address;
mod admission;
mod allocation;
mod config;
mod connection;
mod connections;
mod error_reply;
mod event;
mod event_order;
mod lease;
mod limits;
mod log;
mod memory_reserve;
mod open_files;
mod peer;
mod poller;
mod reclaimer;
mod request_handler;
mod rules;
mod server;
mod service;
mod shutdown;
mod socket_options;
mod stale_memory;
mod thread_pool;
mod timer;
mod user_queues;

pub use address::{Address, BindError, SocketFile};
pub use config::{ConfigError, Mistake};
pub use limits::{Limits, Quota};
pub use peer::Peer;
pub use rules::Rules;
pub use server::Server;
pub use shutdown::Shutdown;
