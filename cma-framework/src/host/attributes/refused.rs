//! The last writes that were refused. Whoever writes to a file learns a number; here is what it
//! means.

use super::AttributeError;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// As many are kept.
const KEPT: usize = 8;

/// A reason longer than this is cut, in characters: it quotes what was written.
const LONGEST: usize = 400;

#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    /// How many there ever were.
    count: u64,
    lines: VecDeque<String>,
}

impl Refused {
    pub(super) fn note(&self, path: &str, error: &AttributeError) {
        let mut reason = error.to_string();
        if let Some((end, _)) = reason.char_indices().nth(LONGEST) {
            reason.truncate(end);
            reason.push_str(" ...");
        }
        let log = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.count += 1;
        if log.lines.len() == KEPT {
            log.lines.pop_front();
        }
        log.lines.push_back(format!("{} {path}: {:?}: {reason}\n", log.count, error.errno()));
    }
}

impl fmt::Display for Refused {
    /// A line for each, the newest last: its number, the attribute, the errno, the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.lines.iter().try_for_each(|line| f.write_str(line))
    }
}
