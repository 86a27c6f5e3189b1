//! The signals of the keeper's process.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Signals that were sent to this process. Its descriptor is readable when there are some.
#[derive(Debug)]
pub(crate) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// From now on none of them ends the process by itself.
    pub(crate) fn receive() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        // SIGXFSZ comes when standard error is a file that has reached its limit.
        let signals = [SIGHUP, SIGINT, SIGTERM, SIGUSR2, SIGXFSZ];
        Ok(Signals(SignalDelivery::with_pipe(read, write, SignalOnly, signals)?))
    }

    /// Those that came since the last call.
    pub(crate) fn take(&mut self) -> Vec<Signal> {
        let known = |signal| {
            Some(match signal {
                SIGHUP => Signal::Reload,
                SIGINT | SIGTERM => Signal::End(signal),
                SIGUSR2 => Signal::Upgrade,
                _ => return None,
            })
        };
        self.0.pending().filter_map(known).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGHUP.
    Reload,
    /// SIGINT or SIGTERM.
    End(i32),
    /// SIGUSR2.
    Upgrade,
}
