//! A running server, or a trace in slow motion, on a terminal: regions as bars with their holes,
//! owners by bytes, rates, requests that wait, and the last refusals.
//!
//! [`server()`] shows a server and [`replay()`] a trace. Both return when the user quits or a
//! signal arrives, with the terminal as it was before. The keys are shown in the last line of the
//! screen.
//!
//! # Threads
//!
//! A thread of its own reads the server, or executes the trace, and sends what it finds (module
//! `sampler`). So a server or an allocator that does not answer never delays a key. The calling
//! thread draws, reads keys and looks for signals. When it returns, the other thread may still be
//! inside a call; it ends after that call.
//!
//! # The terminal
//!
//! It is restored when the call returns, when the calling thread panics (before the panic is
//! reported), and on SIGINT, SIGTERM, SIGHUP and SIGQUIT. While the screen is shown, a panic of
//! another thread, such as an allocator's, is kept and returned: printing it would destroy the
//! screen. Ctrl-Z and SIGTSTP restore the terminal until the process is continued.
//!
//! After the first call, also when it has returned, none of these signals ends or stops the process
//! by itself; the caller can give them their default effect (`signal_hook::flag`).

#![forbid(unsafe_code)]

mod cells;
mod keys;
mod model;
mod owners;
mod rates;
mod replay;
mod sampler;
mod screen;
mod server;
mod signals;
mod terminal;
mod theme;
mod units;
mod view;

pub use replay::{Replay, replay};
pub use server::server;

use std::io;

/// How the screen was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub by: ClosedBy,
    /// The panics of other threads while the screen was shown, at most eight.
    pub panics: Vec<String>,
}

/// Why the screen was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The user quit.
    User,
    /// This signal arrived; `SIGHUP` also when the terminal is gone. The caller decides what it
    /// does, usually what the signal does by default.
    Signal(i32),
}

/// Why there is no screen, or none any more. The terminal is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Standard output is no terminal, or one that can't be drawn on, or there is none to read.
    #[error("standard output is not a terminal that can be drawn on, or there are no keys")]
    NoTerminal,
    /// The terminal can't be read or written.
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
    /// The server can't be read.
    #[error(transparent)]
    Server(#[from] cma_running::Error),
    /// The trace can't be executed in its region.
    #[error("no replay: {0}")]
    Replay(#[from] cma_framework::errors::RegisterError),
    /// The thread that reads the server or executes the trace ended.
    #[error("the thread that reads the state ended{}", because(panics))]
    Reader {
        /// Its panics.
        panics: Vec<String>,
    },
}

fn because(panics: &[String]) -> String {
    panics.last().map_or(String::new(), |panic| format!(": {panic}"))
}
