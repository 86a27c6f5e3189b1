//! The log of the last refused writes to attributes. A process that writes to a file receives only
//! an errno; the log has the message.

use crate::vocabulary::Errno;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The number of errors that are kept.
const KEPT: usize = 8;

/// The length limit of a message in characters. Messages quote the written text, which may be long.
const LONGEST: usize = 400;

#[derive(Debug, Default)]
pub(crate) struct WriteErrorLog(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    /// The number of errors since the start.
    count: u64,
    lines: VecDeque<String>,
}

impl WriteErrorLog {
    /// Adds that writing to `path` failed with `errno`, because of `reason`.
    pub(crate) fn record(&self, path: &str, errno: Errno, mut reason: String) {
        if let Some((end, _)) = reason.char_indices().nth(LONGEST) {
            reason.truncate(end);
            reason.push_str(" ...");
        }
        let log = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.count += 1;
        if log.lines.len() == KEPT {
            log.lines.pop_front();
        }
        log.lines.push_back(format!("{} {path}: {errno:?}: {reason}\n", log.count));
    }
}

impl fmt::Display for WriteErrorLog {
    /// A line for each error, the newest last: its number, the attribute, the errno, the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.lines.iter().try_for_each(|line| f.write_str(line))
    }
}
