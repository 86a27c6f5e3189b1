//! The number of threads: one always waits for the next event while the others serve.

use parking_lot::Mutex;
use std::io;

/// Counts the idle threads, after the leader/followers pattern.
///
/// Before a thread serves an event it makes sure that another one waits in its place. So a request
/// that is stuck takes no thread away from other requests. There are as many threads as requests in
/// progress, and a few idle ones.
#[derive(Debug)]
pub(crate) struct ThreadPool {
    idle: Mutex<usize>,
    max_idle: usize,
}

impl ThreadPool {
    /// A pool of one idle thread, which keeps up to `max_idle` idle threads.
    pub(crate) fn new(max_idle: usize) -> Self {
        ThreadPool { idle: Mutex::new(1), max_idle }
    }

    /// Makes the calling thread busy, after `start` has started another one if this is the last
    /// idle thread.
    ///
    /// # Errors
    ///
    /// Those of `start`. Then the calling thread stays idle and has to wait for events itself.
    pub(crate) fn begin(&self, start: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut idle = self.idle.lock();
        if *idle > 1 {
            *idle -= 1;
            return Ok(());
        }
        // The new thread is idle in place of this one.
        start()
    }

    /// Ends the calling thread's work. Returns whether it stays and waits for more, or ends because
    /// enough threads are idle.
    pub(crate) fn finish(&self) -> bool {
        let mut idle = self.idle.lock();
        let stays = *idle < self.max_idle;
        *idle += usize::from(stays);
        stays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_is_always_idle_and_no_more_than_the_maximum_are_kept() {
        let pool = ThreadPool::new(2);
        let starts_another = || {
            let mut started = false;
            pool.begin(|| {
                started = true;
                Ok(())
            })
            .unwrap();
            started
        };
        // Three are busy, and a fourth is idle.
        assert!(starts_another() && starts_another() && starts_another());
        assert_eq!(*pool.idle.lock(), 1);
        assert_eq!([(); 3].map(|()| pool.finish()), [true, false, false]);
        assert_eq!(*pool.idle.lock(), 2);
        assert!(!starts_another());
        assert!(starts_another());
    }

    #[test]
    fn the_last_idle_thread_stays_idle_when_no_other_can_be_started() {
        let pool = ThreadPool::new(2);
        pool.begin(|| Err(io::ErrorKind::OutOfMemory.into())).unwrap_err();
        assert_eq!(*pool.idle.lock(), 1);
    }
}
