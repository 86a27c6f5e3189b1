//! How many threads there are: one always waits for the next event, whatever the others do.

use parking_lot::Mutex;
use std::io;

/// Counts the threads that have nothing to do.
///
/// A thread that begins work first sees to it that another waits in its place. So a request that is
/// stuck takes a thread from nobody. There are as many threads as there are requests under way, and
/// some that are kept for the next ones.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<usize>,
    kept: usize,
}

impl Pool {
    /// A pool of one thread, which has nothing to do yet. It keeps up to `kept` threads without
    /// work.
    pub(crate) fn new(kept: usize) -> Self {
        Pool { idle: Mutex::new(1), kept }
    }

    /// The calling thread begins work, if another one waits in its place, which `start` starts if
    /// there is none. Whether it may.
    ///
    /// # Errors
    ///
    /// What `start` says. Then the calling thread has to wait itself.
    pub(crate) fn begin(&self, start: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut idle = self.idle.lock();
        if *idle > 1 {
            *idle -= 1;
            return Ok(());
        }
        // The new thread has nothing to do, in place of this one.
        start()
    }

    /// The calling thread has done its work. Whether it is to wait for more, or to end because
    /// enough others do.
    pub(crate) fn finish(&self) -> bool {
        let mut idle = self.idle.lock();
        let stays = *idle < self.kept;
        *idle += usize::from(stays);
        stays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_always_waits_and_no_more_than_are_kept() {
        let pool = Pool::new(2);
        let started = || {
            let mut started = false;
            pool.begin(|| {
                started = true;
                Ok(())
            })
            .unwrap();
            started
        };
        // Three are busy, and a fourth waits.
        assert!(started() && started() && started());
        assert_eq!(*pool.idle.lock(), 1);
        assert_eq!([(); 3].map(|()| pool.finish()), [true, false, false]);
        assert_eq!(*pool.idle.lock(), 2);
        assert!(!started());
        assert!(started());
    }

    #[test]
    fn the_last_thread_does_not_begin_when_no_other_can_be_started() {
        let pool = Pool::new(2);
        pool.begin(|| Err(io::ErrorKind::OutOfMemory.into())).unwrap_err();
        assert_eq!(*pool.idle.lock(), 1);
    }
}
