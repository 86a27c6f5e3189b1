//! What the server logs. It can't do harm: a subscriber that panics ends no thread, and no client
//! can fill the log.

use crate::peer::Peer;
use crate::refusal::Refusal;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How many refusals of one user are logged within [`WINDOW`].
const MOST: u64 = 10;

/// The time after which a user's refusals are logged again.
const WINDOW: Duration = Duration::from_secs(10);

/// How many users are counted one by one. All others together count as one more.
const MOST_USERS: usize = 1024;

/// Emits log lines. A panic of whoever receives them is reported by the panic hook and ends here.
pub(crate) fn emit(lines: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(lines));
}

/// The refusals that were logged, counted by user.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<Option<u32>, Count>>);

#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    logged: u64,
    left_out: u64,
}

impl Refusals {
    /// Logs that `peer` was refused something, unless this user was refused too much lately.
    pub(crate) fn log(&self, peer: &Peer, refusal: &Refusal) {
        let Some(left_out) = self.count(peer.uid, Instant::now()) else { return };
        emit(|| {
            let Peer { uid, pid, .. } = *peer;
            let (process, reason) = (peer.process(), &refusal.words);
            tracing::info!(uid, pid, process, errno = refusal.errno, left_out, reason, "refused");
        });
    }

    /// Whether one more refusal of a user is to be logged; if so, how many were left out before it.
    fn count(&self, uid: u32, now: Instant) -> Option<u64> {
        let counts = &mut *self.0.lock();
        let is_new = !counts.contains_key(&Some(uid));
        if is_new && counts.len() >= MOST_USERS {
            counts.retain(|_, count| now < count.since + WINDOW);
        }
        let user = (!is_new || counts.len() < MOST_USERS).then_some(uid);
        let count = counts.entry(user).or_insert(Count { since: now, logged: 0, left_out: 0 });
        if now >= count.since + WINDOW {
            *count = Count { since: now, logged: 0, ..*count };
        }
        if count.logged == MOST {
            count.left_out += 1;
            return None;
        }
        count.logged += 1;
        Some(std::mem::take(&mut count.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_fills_no_log_and_keeps_no_other_user_out_of_it() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        for _ in 0..MOST {
            assert_eq!(refusals.count(1, now), Some(0));
        }
        assert_eq!([(); 3].map(|()| refusals.count(1, now)), [None; 3]);
        assert_eq!(refusals.count(2, now), Some(0));
        assert_eq!(refusals.count(1, now + WINDOW), Some(3));
    }

    #[test]
    fn many_users_take_no_memory() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let logged = (0..5000).filter(|uid| refusals.count(*uid, now).is_some()).count();
        assert_eq!(logged, MOST_USERS - 1 + MOST as usize + 1);
        assert!(refusals.0.lock().len() <= MOST_USERS + 1);
        assert_eq!(refusals.count(6000, now + WINDOW), Some(0));
        assert!(refusals.0.lock().len() < MOST_USERS);
    }
}
