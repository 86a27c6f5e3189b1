//! Fair sharing of the threads: a limit on the events of one user that are served at once, and a
//! queue for the user's further events.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};

/// Events in progress and deferred, by user.
#[derive(Debug)]
pub(crate) struct UserQueues<Event> {
    max_running: usize,
    users: Mutex<HashMap<u32, UserQueue<Event>>>,
}

#[derive(Debug)]
struct UserQueue<Event> {
    running: usize,
    /// In order of arrival.
    deferred: VecDeque<Event>,
}

impl<Event> UserQueues<Event> {
    /// Lets at most `max_running` events of each user be served at once.
    pub(crate) fn new(max_running: usize) -> Self {
        UserQueues { max_running, users: Mutex::default() }
    }

    /// Returns the event if the user is below its limit. Otherwise it calls `on_defer`, queues the
    /// event until [`finish`](Self::finish) returns it, and returns `None`.
    pub(crate) fn begin(
        &self,
        uid: u32,
        event: Event,
        on_defer: impl FnOnce(&Event),
    ) -> Option<Event> {
        let users = &mut *self.users.lock();
        let queue = users.entry(uid).or_insert(UserQueue { running: 0, deferred: VecDeque::new() });
        if queue.running < self.max_running {
            queue.running += 1;
            Some(event)
        } else {
            on_defer(&event);
            queue.deferred.push_back(event);
            None
        }
    }

    /// The number of deferred events of a user.
    pub(crate) fn deferred(&self, uid: u32) -> usize {
        self.users.lock().get(&uid).map_or(0, |queue| queue.deferred.len())
    }

    /// Ends an event of a user. Returns the user's oldest deferred event, which is in progress from
    /// now on in place of the ended one.
    pub(crate) fn finish(&self, uid: u32) -> Option<Event> {
        let users = &mut *self.users.lock();
        let queue = users.get_mut(&uid)?;
        let next = queue.deferred.pop_front();
        if next.is_none() {
            queue.running -= 1;
            if queue.running == 0 {
                users.remove(&uid);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_events_beyond_the_limit_are_deferred_and_other_users_are_not_affected() {
        let queues = UserQueues::new(2);
        assert_eq!(
            [1, 2, 3, 4].map(|event| queues.begin(7, event, |_| ())),
            [Some(1), Some(2), None, None]
        );
        assert_eq!(queues.begin(8, 5, |_| ()), Some(5));
        assert_eq!([7, 8, 9].map(|uid| queues.deferred(uid)), [2, 0, 0]);
        assert_eq!(queues.finish(7), Some(3));
        assert_eq!(queues.begin(7, 6, |_| ()), None);
        assert_eq!([(); 4].map(|()| queues.finish(7)), [Some(4), Some(6), None, None]);
        assert_eq!(queues.begin(7, 9, |_| ()), Some(9));
        assert_eq!([7, 8].map(|uid| queues.finish(uid)), [None, None]);
        assert!(queues.users.lock().is_empty());
    }
}
