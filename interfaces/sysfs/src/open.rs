//! What is open: the text of an attribute that is being read, the listing of a folder. How much of
//! it the server keeps is bounded, by user, however many files users open and never read to their
//! end.

use cma_framework::attributes::Entry;
use fuser::Errno;
use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;

/// As many files and folders one user may have open.
const MOST_OPEN: usize = 4096;

/// As many bytes of texts and listings are kept for one user, unless a single one is longer. Beyond
/// that, those that were begun first are dropped.
const MOST_OF_A_USER: usize = 16 << 20;

/// As many bytes are kept for all users. Beyond that, those of the user with most are dropped.
const MOST: usize = 128 << 20;

/// What was in a folder when its listing began.
pub(crate) type Folder = Vec<(String, Entry)>;

/// What a handle has been read as, from its start on.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// It has not been read yet.
    Nothing,
    Text(Arc<str>),
    Folder(Arc<Folder>),
    /// It was dropped to make room, so nothing can be read but from the start.
    Dropped,
}

impl Seen {
    fn bytes(&self) -> usize {
        match self {
            Seen::Nothing | Seen::Dropped => 0,
            Seen::Text(text) => text.len(),
            Seen::Folder(folder) => folder
                .iter()
                .map(|(name, entry)| {
                    let target = if let Entry::Link { target } = entry { target.len() } else { 0 };
                    size_of::<(String, Entry)>() + name.len() + target
                })
                .sum(),
        }
    }
}

/// The open files and folders, by the numbers of their handles.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    last: u64,
    open: HashMap<u64, Open>,
    users: HashMap<u32, User>,
    /// What is kept for all users.
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    user: u32,
    path: Arc<str>,
    seen: Seen,
    /// When it was begun, counted with the handles.
    begun: u64,
}

#[derive(Debug, Default)]
struct User {
    open: usize,
    bytes: usize,
    /// The handles for which something is kept, by when they were begun.
    kept: BTreeMap<u64, u64>,
}

impl Handles {
    /// Opens `path` for `user`.
    pub(crate) fn open(&mut self, user: u32, path: String) -> Result<u64, Errno> {
        let whose = self.users.entry(user).or_default();
        if whose.open >= MOST_OPEN {
            return Err(Errno::EMFILE);
        }
        whose.open += 1;
        self.last += 1;
        self.open
            .insert(self.last, Open { user, path: path.into(), seen: Seen::Nothing, begun: 0 });
        Ok(self.last)
    }

    /// The path of an open file or folder, and what it has been read as.
    pub(crate) fn get(&self, handle: u64) -> Option<(Arc<str>, Seen)> {
        self.open.get(&handle).map(|open| (open.path.clone(), open.seen.clone()))
    }

    /// Keeps what `handle` is read as from its start on.
    pub(crate) fn keep(&mut self, handle: u64, seen: Seen) {
        self.set(handle, seen);
        let Some(user) = self.open.get(&handle).map(|open| open.user) else { return };
        while self.users.get(&user).is_some_and(|user| user.bytes > MOST_OF_A_USER) {
            if !self.drop_first(user, handle) {
                break;
            }
        }
        while self.bytes > MOST {
            let others = self
                .users
                .iter()
                .filter(|(_, user)| user.kept.values().any(|kept| *kept != handle));
            let most = others.max_by_key(|(_, user)| user.bytes).map(|(user, _)| *user);
            if !most.is_some_and(|user| self.drop_first(user, handle)) {
                break;
            }
        }
    }

    pub(crate) fn close(&mut self, handle: u64) {
        self.set(handle, Seen::Nothing);
        if let Some(closed) = self.open.remove(&handle)
            && let Some(user) = self.users.get_mut(&closed.user)
        {
            user.open -= 1;
            if user.open == 0 {
                self.users.remove(&closed.user);
            }
        }
    }

    /// Drops what `user` began first, unless that is `handle`.
    fn drop_first(&mut self, user: u32, handle: u64) -> bool {
        let first = self.users.get(&user).and_then(|user| user.kept.first_key_value());
        match first.map(|(_, first)| *first) {
            Some(first) if first != handle => {
                self.set(first, Seen::Dropped);
                true
            }
            _ => false,
        }
    }

    /// Puts `seen` in the place of what was kept for `handle`, in all books.
    fn set(&mut self, handle: u64, seen: Seen) {
        let Some(open) = self.open.get_mut(&handle) else { return };
        let Some(user) = self.users.get_mut(&open.user) else { return };
        let (before, after) = (open.seen.bytes(), seen.bytes());
        user.kept.remove(&open.begun);
        if matches!(seen, Seen::Text(_) | Seen::Folder(_)) {
            self.last += 1;
            open.begun = self.last;
            user.kept.insert(open.begun, handle);
        }
        drop(mem::replace(&mut open.seen, seen));
        user.bytes = user.bytes - before + after;
        self.bytes = self.bytes - before + after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Seen {
        Seen::Text("x".repeat(bytes).into())
    }

    fn has_text(handles: &Handles, handle: u64) -> bool {
        matches!(handles.get(handle), Some((_, Seen::Text(_))))
    }

    #[test]
    fn texts_of_one_user_are_bounded_and_the_newest_is_kept_also_of_other_users() {
        let mut handles = Handles::default();
        let other = handles.open(2, "map".to_string()).unwrap();
        handles.keep(other, text(100));
        let hoarded: Vec<u64> = (0..1500)
            .map(|_| {
                let handle = handles.open(1, "owners".to_string()).unwrap();
                handles.keep(handle, text(1 << 20));
                assert!(has_text(&handles, handle));
                handle
            })
            .collect();
        assert!(handles.bytes <= MOST_OF_A_USER + 100);
        assert!(matches!(handles.get(hoarded[0]), Some((_, Seen::Dropped))));
        assert!(has_text(&handles, other));
        hoarded.into_iter().chain([other]).for_each(|handle| handles.close(handle));
        assert_eq!((handles.bytes, handles.open.len(), handles.users.len()), (0, 0, 0));
    }

    #[test]
    fn texts_of_many_users_are_bounded_and_who_has_least_keeps_its_own() {
        let mut handles = Handles::default();
        let small = handles.open(0, "map".to_string()).unwrap();
        handles.keep(small, text(1000));
        for user in 1..100 {
            for _ in 0..4 {
                let handle = handles.open(user, "owners".to_string()).unwrap();
                handles.keep(handle, text(4 << 20));
                assert!(has_text(&handles, handle));
            }
        }
        assert!(handles.bytes <= MOST);
        assert!(has_text(&handles, small));
    }

    #[test]
    fn one_text_that_is_longer_than_all_bounds_is_kept_until_the_next() {
        let mut handles = Handles::default();
        let [long, next] = [0; 2].map(|_| handles.open(1, "owners".to_string()).unwrap());
        handles.keep(long, text(MOST + 1));
        assert!(has_text(&handles, long));
        handles.keep(next, text(1));
        assert!(!has_text(&handles, long) && has_text(&handles, next));
        assert_eq!(handles.bytes, 1);
    }

    #[test]
    fn a_user_may_open_so_many_and_another_still_some() {
        let mut handles = Handles::default();
        let first = handles.open(1, String::new()).unwrap();
        for _ in 1..MOST_OPEN {
            handles.open(1, String::new()).unwrap();
        }
        assert_eq!(handles.open(1, String::new()).unwrap_err().code(), Errno::EMFILE.code());
        handles.open(2, String::new()).unwrap();
        handles.close(first);
        handles.open(1, String::new()).unwrap();
    }
}
