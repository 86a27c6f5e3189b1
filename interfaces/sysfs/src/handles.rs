//! What is open: the text of an attribute that is being read, the listing of a folder. How much of
//! it the server keeps is bounded, by user, however many files users open and never read to their
//! end.

use cma_framework::attributes::Entry;
use fuser::Errno;
use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;

/// As many files and folders one user may have open.
const MAX_OPEN_PER_USER: usize = 4096;

/// As many bytes of texts and listings are kept for one user, unless a single one is longer. Beyond
/// that, those that were sequence first are dropped.
const MAX_BYTES_PER_USER: usize = 16 << 20;

/// As many bytes are kept for all users. Beyond that, those of the user with most are dropped.
const MAX_BYTES: usize = 128 << 20;

/// What was in a folder when its listing began.
pub(crate) type Listing = Vec<(String, Entry)>;

/// What a handle has been read as, from its start on.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// It has not been read yet.
    Unread,
    Text(Arc<str>),
    Listing(Arc<Listing>),
    /// It was dropped to make room, so nothing can be read but from the start.
    Evicted,
}

impl Content {
    fn bytes(&self) -> usize {
        match self {
            Content::Unread | Content::Evicted => 0,
            Content::Text(text) => text.len(),
            Content::Listing(folder) => folder
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
    open: HashMap<u64, OpenHandle>,
    users: HashMap<u32, UserUsage>,
    /// What is kept for all users.
    bytes: usize,
}

#[derive(Debug)]
struct OpenHandle {
    user: u32,
    path: Arc<str>,
    content: Content,
    /// When it was sequence, counted with the handles.
    sequence: u64,
}

#[derive(Debug, Default)]
struct UserUsage {
    open: usize,
    bytes: usize,
    /// The handles for which something is kept, by when they were sequence.
    kept: BTreeMap<u64, u64>,
}

impl Handles {
    /// Opens `path` for `user`.
    pub(crate) fn open(&mut self, user: u32, path: String) -> Result<u64, Errno> {
        let whose = self.users.entry(user).or_default();
        if whose.open >= MAX_OPEN_PER_USER {
            return Err(Errno::EMFILE);
        }
        whose.open += 1;
        self.last += 1;
        self.open.insert(
            self.last,
            OpenHandle { user, path: path.into(), content: Content::Unread, sequence: 0 },
        );
        Ok(self.last)
    }

    /// The path of an open file or folder, and what it has been read as.
    pub(crate) fn get(&self, handle: u64) -> Option<(Arc<str>, Content)> {
        self.open.get(&handle).map(|open| (open.path.clone(), open.content.clone()))
    }

    /// Keeps what `handle` is read as from its start on.
    pub(crate) fn keep(&mut self, handle: u64, content: Content) {
        self.set(handle, content);
        let Some(user) = self.open.get(&handle).map(|open| open.user) else { return };
        while self.users.get(&user).is_some_and(|user| user.bytes > MAX_BYTES_PER_USER) {
            if !self.evict_oldest(user, handle) {
                break;
            }
        }
        while self.bytes > MAX_BYTES {
            let others = self
                .users
                .iter()
                .filter(|(_, user)| user.kept.values().any(|kept| *kept != handle));
            let most = others.max_by_key(|(_, user)| user.bytes).map(|(user, _)| *user);
            if !most.is_some_and(|user| self.evict_oldest(user, handle)) {
                break;
            }
        }
    }

    pub(crate) fn close(&mut self, handle: u64) {
        self.set(handle, Content::Unread);
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
    fn evict_oldest(&mut self, user: u32, handle: u64) -> bool {
        let first = self.users.get(&user).and_then(|user| user.kept.first_key_value());
        match first.map(|(_, first)| *first) {
            Some(first) if first != handle => {
                self.set(first, Content::Evicted);
                true
            }
            _ => false,
        }
    }

    /// Puts `content` in the place of what was kept for `handle`, in all books.
    fn set(&mut self, handle: u64, content: Content) {
        let Some(open) = self.open.get_mut(&handle) else { return };
        let Some(user) = self.users.get_mut(&open.user) else { return };
        let (before, after) = (open.content.bytes(), content.bytes());
        user.kept.remove(&open.sequence);
        if matches!(content, Content::Text(_) | Content::Listing(_)) {
            self.last += 1;
            open.sequence = self.last;
            user.kept.insert(open.sequence, handle);
        }
        drop(mem::replace(&mut open.content, content));
        user.bytes = user.bytes - before + after;
        self.bytes = self.bytes - before + after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Content {
        Content::Text("x".repeat(bytes).into())
    }

    fn has_text(handles: &Handles, handle: u64) -> bool {
        matches!(handles.get(handle), Some((_, Content::Text(_))))
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
        assert!(handles.bytes <= MAX_BYTES_PER_USER + 100);
        assert!(matches!(handles.get(hoarded[0]), Some((_, Content::Evicted))));
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
        assert!(handles.bytes <= MAX_BYTES);
        assert!(has_text(&handles, small));
    }

    #[test]
    fn one_text_that_is_longer_than_all_bounds_is_kept_until_the_next() {
        let mut handles = Handles::default();
        let [long, next] = [0; 2].map(|_| handles.open(1, "owners".to_string()).unwrap());
        handles.keep(long, text(MAX_BYTES + 1));
        assert!(has_text(&handles, long));
        handles.keep(next, text(1));
        assert!(!has_text(&handles, long) && has_text(&handles, next));
        assert_eq!(handles.bytes, 1);
    }

    #[test]
    fn a_user_may_open_so_many_and_another_still_some() {
        let mut handles = Handles::default();
        let first = handles.open(1, String::new()).unwrap();
        for _ in 1..MAX_OPEN_PER_USER {
            handles.open(1, String::new()).unwrap();
        }
        assert_eq!(handles.open(1, String::new()).unwrap_err().code(), Errno::EMFILE.code());
        handles.open(2, String::new()).unwrap();
        handles.close(first);
        handles.open(1, String::new()).unwrap();
    }
}
