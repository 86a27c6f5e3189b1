//! Who may ask on a line: one at a time, of the threads of this process and of all processes that have it.
//!
//! Threads exclude each other by a word that holds the owner's thread number, so that an owner can be seen to be gone: after a fork the words are
//! copied, and the threads that they name are not. Processes exclude each other by a record lock on the line, which the kernel takes
//! back from who ends. What was asked by somebody who did not live to read the answer is passed over by the next, see
//! [`cma_client::line`].

use rustix::fd::BorrowedFd;
use rustix::fs::{FlockOperation, fcntl_lock, fstat};
use rustix::io::Errno;
use rustix::thread::{Timespec, futex, gettid};
use std::sync::atomic::{AtomicU32, Ordering};

/// Lines share these; two threads with different lines rarely meet at one.
static WORDS: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];

/// How long one waits before looking whether the owner is still there.
const A_WHILE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Leave to ask on a line, until it is dropped.
pub(crate) struct Turn<'l> {
    word: &'static AtomicU32,
    line: BorrowedFd<'l>,
}

impl<'l> Turn<'l> {
    /// Waits for the turn.
    ///
    /// # Errors
    ///
    /// `EDEADLK` in a signal handler that interrupted this very thread in its turn.
    pub(crate) fn take(line: BorrowedFd<'l>) -> Result<Self, Errno> {
        let word = &WORDS[fstat(line)?.st_ino as usize % WORDS.len()];
        take(word)?;
        let turn = Turn { word, line };
        loop {
            match fcntl_lock(line, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                // The kernel takes the threads of a process for one, and two processes that hold one line each, and wait for the other's,
                // for a deadlock. Neither waits with a line of its own.
                Err(Errno::DEADLK) => pause(),
                // Without locks, whoever else has the line may take an answer that is meant for us. It is passed over then.
                Ok(()) | Err(_) => return Ok(turn),
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = fcntl_lock(self.line, FlockOperation::Unlock);
        self.word.store(0, Ordering::Release);
        let _ = futex::wake(self.word, futex::Flags::PRIVATE, 1);
    }
}

fn take(word: &AtomicU32) -> Result<(), Errno> {
    let me = gettid().as_raw_nonzero().get() as u32;
    loop {
        let Err(owner) = word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) else {
            return Ok(());
        };
        if owner == me {
            return Err(Errno::DEADLK);
        }
        let waited = futex::wait(word, futex::Flags::PRIVATE, owner, Some(&A_WHILE));
        let gone = waited == Err(Errno::TIMEDOUT) && !is_thread(owner);
        if gone && word.compare_exchange(owner, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Ok(());
        }
    }
}

/// Whether this process has a thread of that number.
fn is_thread(number: u32) -> bool {
    // SAFETY: signal 0 is sent to nobody.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), number, 0) };
    sent == 0 || Errno::from_io_error(&std::io::Error::last_os_error()) != Some(Errno::SRCH)
}

fn pause() {
    let _ = rustix::thread::nanosleep(&Timespec { tv_sec: 0, tv_nsec: 200_000 });
}
