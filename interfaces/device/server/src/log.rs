//! Logging that can't harm the server: a subscriber that panics ends no thread, and no client can
//! flood the log.

use crate::error_reply::ErrorReply;
use crate::peer::Peer;
use cma_device_protocol::ChunkAnswer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// The number of errors of one user that are logged within [`WINDOW`].
const MAX_PER_WINDOW: u64 = 10;

/// The time after which a user's count starts again.
const WINDOW: Duration = Duration::from_secs(10);

/// The number of users with a count of their own. All others share one more count.
const MAX_USERS: usize = 1024;

/// Runs code that emits log events. A subscriber's panic is reported by the panic hook and ends
/// here.
pub(crate) fn emit(events: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(events));
}

/// Logs that the connection of `peer` was closed to make room.
pub(crate) fn evicted(peer: &Peer) {
    let Peer { uid, pid, .. } = *peer;
    tracing::info!(uid, pid, process = peer.process(), "idle connection closed to make room");
}

/// Logs the errors sent to clients, and chunks in several files, at a limited rate for each user.
#[derive(Debug, Default)]
pub(crate) struct ErrorLog(Mutex<HashMap<Option<u32>, Count>>);

#[derive(Clone, Copy, Debug)]
struct Count {
    window_start: Instant,
    logged: u64,
    suppressed: u64,
}

impl ErrorLog {
    /// Logs that a request of `peer` was refused, unless the user's limit is reached.
    pub(crate) fn log(&self, peer: &Peer, error: &ErrorReply) {
        let Some(suppressed) = self.count(peer.uid, Instant::now()) else { return };
        emit(|| {
            let Peer { uid, pid, .. } = *peer;
            let (process, reason) = (peer.process(), &error.reason);
            tracing::info!(uid, pid, process, errno = error.errno, suppressed, reason, "refused");
        });
    }

    /// Logs that the memory of a chunk of `peer` is in several files, unless the user's limit is
    /// reached.
    pub(crate) fn log_in_pieces(&self, peer: &Peer, chunk: &ChunkAnswer) {
        let Some(suppressed) = self.count(peer.uid, Instant::now()) else { return };
        emit(|| {
            let (Peer { uid, pid, .. }, ChunkAnswer { start, pieces, .. }) = (peer, chunk);
            let (process, start) = (peer.process(), format_args!("{start:#x}"));
            tracing::info!(
                uid,
                pid,
                process,
                %start,
                pieces,
                suppressed,
                "the chunk's memory is in several files; a program that accepts one file can't use it"
            );
        });
    }

    /// Counts one more event of a user. If it is to be logged, returns how many were suppressed
    /// before it.
    fn count(&self, uid: u32, now: Instant) -> Option<u64> {
        let counts = &mut *self.0.lock();
        let is_new = !counts.contains_key(&Some(uid));
        if is_new && counts.len() >= MAX_USERS {
            counts.retain(|_, count| now < count.window_start + WINDOW);
        }
        let user = (!is_new || counts.len() < MAX_USERS).then_some(uid);
        let new = Count { window_start: now, logged: 0, suppressed: 0 };
        let count = counts.entry(user).or_insert(new);
        if now >= count.window_start + WINDOW {
            *count = Count { window_start: now, logged: 0, ..*count };
        }
        if count.logged == MAX_PER_WINDOW {
            count.suppressed += 1;
            return None;
        }
        count.logged += 1;
        Some(std::mem::take(&mut count.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_errors_are_limited_and_do_not_suppress_those_of_other_users() {
        let (log, now) = (ErrorLog::default(), Instant::now());
        for _ in 0..MAX_PER_WINDOW {
            assert_eq!(log.count(1, now), Some(0));
        }
        assert_eq!([(); 3].map(|()| log.count(1, now)), [None; 3]);
        assert_eq!(log.count(2, now), Some(0));
        assert_eq!(log.count(1, now + WINDOW), Some(3));
    }

    #[test]
    fn the_counts_of_many_users_take_bounded_memory() {
        let (log, now) = (ErrorLog::default(), Instant::now());
        let logged = (0..5000).filter(|uid| log.count(*uid, now).is_some()).count();
        assert_eq!(logged, MAX_USERS - 1 + MAX_PER_WINDOW as usize + 1);
        assert!(log.0.lock().len() <= MAX_USERS + 1);
        assert_eq!(log.count(6000, now + WINDOW), Some(0));
        assert!(log.0.lock().len() < MAX_USERS);
    }
}
