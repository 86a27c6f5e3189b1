//! Inode numbers for paths.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

/// The root's inode number in FUSE.
pub(crate) const ROOT: u64 = 1;

/// The paths that the kernel knows, by inode number. A path keeps its number until the kernel
/// forgets it.
#[derive(Debug)]
pub(crate) struct Inodes(HashMap<u64, KnownPath>);

#[derive(Debug)]
struct KnownPath {
    path: String,
    /// Number of lookups that the kernel has not forgotten.
    lookups: u64,
}

impl Inodes {
    pub(crate) fn new() -> Self {
        Inodes(HashMap::from([(ROOT, KnownPath { path: String::new(), lookups: 1 })]))
    }

    pub(crate) fn path(&self, number: u64) -> Option<&str> {
        self.0.get(&number).map(|known| known.path.as_str())
    }

    /// The number of `path`, for an answer to a lookup of the kernel.
    pub(crate) fn look_up(&mut self, path: &str) -> u64 {
        let mut number = preferred_number(path);
        // Paths with the same hash get different numbers. Users who name regions can cause this on
        // purpose.
        while self.0.get(&number).is_some_and(|known| known.path != path) {
            number = number.wrapping_add(1).max(ROOT + 1);
        }
        let known = self
            .0
            .entry(number)
            .or_insert_with(|| KnownPath { path: path.to_string(), lookups: 0 });
        known.lookups += 1;
        number
    }

    /// The kernel forgets `lookups` lookups of `number`.
    pub(crate) fn forget(&mut self, number: u64, lookups: u64) {
        if number == ROOT {
            return;
        }
        if let Some(known) = self.0.get_mut(&number) {
            known.lookups = known.lookups.saturating_sub(lookups);
            if known.lookups == 0 {
                self.0.remove(&number);
            }
        }
    }
}

/// The number of `path` unless another path has it: the same in every process.
pub(crate) fn preferred_number(path: &str) -> u64 {
    if path.is_empty() {
        return ROOT;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(path.as_bytes());
    hasher.finish().max(ROOT + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_number_until_the_kernel_has_forgotten_every_lookup() {
        let mut inodes = Inodes::new();
        let number = inodes.look_up("map");
        assert_eq!((inodes.look_up("map"), inodes.path(number)), (number, Some("map")));
        inodes.forget(number, 1);
        assert_eq!(inodes.path(number), Some("map"));
        inodes.forget(number, 1);
        assert_eq!(inodes.path(number), None);
        inodes.forget(ROOT, 1);
        assert_eq!(inodes.path(ROOT), Some(""));
    }

    #[test]
    fn two_paths_never_share_a_number() {
        let mut inodes = Inodes::new();
        let taken = preferred_number("map");
        inodes.0.insert(taken, KnownPath { path: "other".to_string(), lookups: 1 });
        let number = inodes.look_up("map");
        assert_ne!(number, taken);
        assert_eq!((inodes.path(taken), inodes.path(number)), (Some("other"), Some("map")));
        assert_eq!(inodes.look_up("map"), number);
    }
}
