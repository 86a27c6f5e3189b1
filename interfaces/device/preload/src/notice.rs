//! What a user of a preloaded program has to be told.

use crate::server;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::fs::fstat;
use rustix::io::{IoSlice, writev};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What standard error was when the program started, by device and inode.
static STANDARD_ERROR: OnceLock<Option<(u64, u64)>> = OnceLock::new();

fn standard_error() -> BorrowedFd<'static> {
    // SAFETY: it is looked at and written to; if it isn't open, so says the kernel.
    unsafe { BorrowedFd::borrow_raw(2) }
}

fn identity() -> Option<(u64, u64)> {
    fstat(standard_error()).ok().map(|found| (found.st_dev, found.st_ino))
}

/// Remembers what standard error is: a program may close it, and open something else under its
/// number.
pub(crate) extern "C" fn remember_standard_error() {
    let _ = STANDARD_ERROR.set(identity());
}

/// Says, once in each process, that there is no server, and how to name one. Whatever standard
/// error is, the program goes on.
pub(crate) fn no_server() {
    static SAID: AtomicBool = AtomicBool::new(false);
    if SAID.swap(true, Ordering::Relaxed) {
        return;
    }
    let then = STANDARD_ERROR.get().copied().flatten();
    if then.is_none() || then != identity() {
        return;
    }
    // Neither waits where nobody reads, nor ends the program where nobody can.
    let error = standard_error();
    let mut polled = [PollFd::new(&error, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut polled, Some(&now)) != Ok(1) || polled[0].revents() != PollFlags::OUT {
        return;
    }
    let words = [
        "cma: /dev/cma: no server listens at ".as_bytes(),
        server::path().to_bytes(),
        b"; start one with 'cma serve --socket PATH', and set CMA_SOCKET to its path\n",
    ];
    let _ = writev(error, &words.map(IoSlice::new));
}
