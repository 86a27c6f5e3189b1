//! The one message that this library prints: that no server was found, on standard error.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::fs::fstat;
use rustix::io::{IoSlice, writev};
use std::ffi::CStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Device and inode of standard error at the start of the program.
static STANDARD_ERROR: OnceLock<Option<(u64, u64)>> = OnceLock::new();

fn standard_error() -> BorrowedFd<'static> {
    // SAFETY: it is only used in system calls; if it isn't open, they fail.
    unsafe { BorrowedFd::borrow_raw(2) }
}

fn identity() -> Option<(u64, u64)> {
    fstat(standard_error()).ok().map(|found| (found.st_dev, found.st_ino))
}

/// Records the identity of standard error: a program may close it, and open another file under its
/// number.
pub(crate) extern "C" fn remember_standard_error() {
    let _ = STANDARD_ERROR.set(identity());
}

/// Prints, once in each process, that no server listens at `path`, and how to name one. Nothing is
/// printed where that could block, end the program, or write to another file.
pub(crate) fn no_server(path: &CStr) {
    static IS_PRINTED: AtomicBool = AtomicBool::new(false);
    if IS_PRINTED.swap(true, Ordering::Relaxed) {
        return;
    }
    let at_start = STANDARD_ERROR.get().copied().flatten();
    if at_start.is_none() || at_start != identity() {
        return;
    }
    // A full pipe would block the program, and one without a reader would end it (SIGPIPE).
    let error = standard_error();
    let mut polled = [PollFd::new(&error, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut polled, Some(&now)) != Ok(1) || polled[0].revents() != PollFlags::OUT {
        return;
    }
    let text = [
        "cma: /dev/cma: no server listens at ".as_bytes(),
        path.to_bytes(),
        b"; start one with 'cma serve --socket PATH', and set CMA_SOCKET to its path\n",
    ];
    let _ = writev(error, &text.map(IoSlice::new));
}
