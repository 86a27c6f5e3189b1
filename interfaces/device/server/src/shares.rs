//! How many threads serve one user at once, so that there are some left for the others.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};

/// Work under way and put off, by user.
#[derive(Debug)]
pub(crate) struct Shares<Work> {
    most: usize,
    users: Mutex<HashMap<u32, Share<Work>>>,
}

#[derive(Debug)]
struct Share<Work> {
    under_way: usize,
    /// First come, first served.
    put_off: VecDeque<Work>,
}

impl<Work> Shares<Work> {
    /// At most `most` at once for each user.
    pub(crate) fn new(most: usize) -> Self {
        Shares { most, users: Mutex::default() }
    }

    /// The work, if it may begin. Otherwise it is put off until [`finish`](Self::finish) hands it
    /// out, and `put_off` is told of it.
    pub(crate) fn begin(&self, uid: u32, work: Work, put_off: impl FnOnce(&Work)) -> Option<Work> {
        let users = &mut *self.users.lock();
        let share = users.entry(uid).or_insert(Share { under_way: 0, put_off: VecDeque::new() });
        if share.under_way < self.most {
            share.under_way += 1;
            Some(work)
        } else {
            put_off(&work);
            share.put_off.push_back(work);
            None
        }
    }

    /// How much is put off for a user.
    pub(crate) fn put_off(&self, uid: u32) -> usize {
        self.users.lock().get(&uid).map_or(0, |share| share.put_off.len())
    }

    /// Ends what was begun for a user. What it had put off begins in its place, before anything
    /// new.
    pub(crate) fn finish(&self, uid: u32) -> Option<Work> {
        let users = &mut *self.users.lock();
        let share = users.get_mut(&uid)?;
        let next = share.put_off.pop_front();
        if next.is_none() {
            share.under_way -= 1;
            if share.under_way == 0 {
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
    fn a_user_has_its_share_and_no_more_whoever_else_is_served() {
        let shares = Shares::new(2);
        assert_eq!(
            [1, 2, 3, 4].map(|work| shares.begin(7, work, |_| ())),
            [Some(1), Some(2), None, None]
        );
        assert_eq!(shares.begin(8, 5, |_| ()), Some(5));
        assert_eq!([7, 8, 9].map(|uid| shares.put_off(uid)), [2, 0, 0]);
        assert_eq!(shares.finish(7), Some(3));
        assert_eq!(shares.begin(7, 6, |_| ()), None);
        assert_eq!([(); 4].map(|()| shares.finish(7)), [Some(4), Some(6), None, None]);
        assert_eq!(shares.begin(7, 9, |_| ()), Some(9));
        assert_eq!([7, 8].map(|uid| shares.finish(uid)), [None, None]);
        assert!(shares.users.lock().is_empty());
    }
}
