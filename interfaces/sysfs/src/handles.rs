//! Open handles, with the text of an attribute that is being read or the listing of a folder. The
//! memory for these is bounded by user, however many files users open and never read to the end.

use cma_framework::attributes::Entry;
use fuser::Errno;
use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;

/// The most files and folders that one user may have open.
const MAX_OPEN_PER_USER: usize = 4096;

/// The most bytes of texts and listings that are kept for one user, unless a single one is longer.
/// Beyond that, the oldest are evicted.
const MAX_BYTES_PER_USER: usize = 16 << 20;

/// The most bytes that are kept for all users. Beyond that, the oldest of the user with most are
/// evicted.
const MAX_BYTES: usize = 128 << 20;

/// The entries of a folder.
pub(crate) type Listing = Vec<(String, Entry)>;

/// The content of a handle, as of its last read at the start.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Not read yet.
    Unread,
    Text(Arc<str>),
    Listing(Arc<Listing>),
    /// Evicted: the handle must be read from the start again.
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

/// The open handles, by number.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    last: u64,
    open: HashMap<u64, OpenHandle>,
    users: HashMap<u32, UserUsage>,
    /// The bytes that are kept for all users.
    bytes: usize,
}

#[derive(Debug)]
struct OpenHandle {
    user: u32,
    path: Arc<str>,
    content: Content,
    /// Position in the order of the last reads at the start; from the same counter as handle
    /// numbers.
    sequence: u64,
}

#[derive(Debug, Default)]
struct UserUsage {
    open: usize,
    bytes: usize,
    /// The handles with content, by `sequence`.
    kept: BTreeMap<u64, u64>,
}

impl Handles {
    /// Opens `path` for `user`.
    pub(crate) fn open(&mut self, user: u32, path: String) -> Result<u64, Errno> {
        let usage = self.users.entry(user).or_default();
        if usage.open >= MAX_OPEN_PER_USER {
            return Err(Errno::EMFILE);
        }
        usage.open += 1;
        self.last += 1;
        self.open.insert(
            self.last,
            OpenHandle { user, path: path.into(), content: Content::Unread, sequence: 0 },
        );
        Ok(self.last)
    }

    /// The path and the content of a handle.
    pub(crate) fn get(&self, handle: u64) -> Option<(Arc<str>, Content)> {
        self.open.get(&handle).map(|open| (open.path.clone(), open.content.clone()))
    }

    /// Stores the content of `handle`, and evicts others until the limits hold.
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

    /// Evicts the oldest content of `user`; fails if that is `handle`'s.
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

    /// Replaces the content of `handle`, and updates all counters.
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
    fn the_texts_of_one_user_are_bounded_and_the_newest_and_those_of_others_are_kept() {
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
    fn the_texts_of_many_users_are_bounded_and_those_of_the_user_with_least_are_kept() {
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
    fn a_text_longer_than_all_limits_is_kept_until_the_next_one() {
        let mut handles = Handles::default();
        let [long, next] = [0; 2].map(|_| handles.open(1, "owners".to_string()).unwrap());
        handles.keep(long, text(MAX_BYTES + 1));
        assert!(has_text(&handles, long));
        handles.keep(next, text(1));
        assert!(!has_text(&handles, long) && has_text(&handles, next));
        assert_eq!(handles.bytes, 1);
    }

    #[test]
    fn the_number_of_handles_is_bounded_by_user() {
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
