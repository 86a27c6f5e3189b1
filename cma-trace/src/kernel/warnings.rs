//! What an import found that makes a trace less than the whole truth.

use std::collections::BTreeMap;
use std::fmt;

/// Kinds of warnings, with the line of the first of each and their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings(BTreeMap<Kind, (u64, u64)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Lost,
    BackInTime,
    Unfinished,
    Cut,
    DoubleRelease,
    LostRelease,
    NeverReleased,
    Partly,
    OldLists,
}

impl Warnings {
    fn add(&mut self, kind: Kind, line: u64, count: u64) {
        if count > 0 {
            let (_, sum) = self.0.entry(kind).or_insert((line, 0));
            *sum = sum.saturating_add(count);
        }
    }

    pub(super) fn lost(&mut self, line: u64, events: u64) {
        self.add(Kind::Lost, line, events);
    }

    pub(super) fn back_in_time(&mut self, line: u64) {
        self.add(Kind::BackInTime, line, 1);
    }

    pub(super) fn unfinished(&mut self, line: u64) {
        self.add(Kind::Unfinished, line, 1);
    }

    pub(super) fn cut(&mut self, line: u64, requests: u64) {
        self.add(Kind::Cut, line, requests);
    }

    pub(super) fn double_release(&mut self, line: u64) {
        self.add(Kind::DoubleRelease, line, 1);
    }

    pub(super) fn lost_release(&mut self, line: u64) {
        self.add(Kind::LostRelease, line, 1);
    }

    pub(super) fn never_released(&mut self, line: u64, ranges: u64) {
        self.add(Kind::NeverReleased, line, ranges);
    }

    pub(super) fn old_lists(&mut self, line: u64, lists: u64) {
        self.add(Kind::OldLists, line, lists);
    }

    pub(super) fn partly(&mut self, line: u64) {
        self.add(Kind::Partly, line, 1);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The warnings, one for each kind.
    pub fn iter(&self) -> impl Iterator<Item = Warning> {
        self.0.iter().map(|(kind, (line, count))| Warning {
            kind: *kind,
            line: *line,
            count: *count,
        })
    }
}

/// A warning: what was found, how often, and where first. Its text says it in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    kind: Kind,
    line: u64,
    count: u64,
}

impl Warning {
    /// The line of the first, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Their number.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { kind, line, count } = *self;
        let number = |one: &str, more: &str| {
            if count == 1 { format!("1 {one}") } else { format!("{count} {more}") }
        };
        let text = match kind {
            Kind::Lost => format!(
                "{}; chunks and releases may be missing (a larger buffer helps)",
                number("event of any kind was lost", "events of any kind were lost")
            ),
            Kind::BackInTime => format!(
                "{} before the line above, by up to 10 ms; they have its time",
                number("event has a time", "events have a time")
            ),
            Kind::Unfinished => format!(
                "{} and its thread made another one; it is left out",
                number("request never ended", "requests never ended")
            ),
            Kind::Cut => format!(
                "{} at the end of the recording; left out",
                number("request had not ended", "requests had not ended")
            ),
            Kind::DoubleRelease => format!(
                "{} that were free already, which changes nothing",
                number("release has pages", "releases have pages")
            ),
            Kind::LostRelease => format!(
                "{} whose release was lost; it was freed just before",
                number("chunk was allocated in pages", "chunks were allocated in pages")
            ),
            Kind::NeverReleased => format!(
                "{} while they belonged to a chunk, which is freed just before; its release is \
                 not in the recording",
                number("range of pages was allocated", "ranges of pages were allocated")
            ),
            Kind::OldLists => String::new(),
            Kind::Partly => format!(
                "{} of a part of a chunk; the trace frees the chunk with its last part",
                number("release", "releases")
            ),
        };
        if kind == Kind::OldLists {
            return write!(
                f,
                "line {line} of the log: {} before the recording, so it is not known what lived \
                 throughout",
                number("list of free pages is of a time", "lists of free pages are of times")
            );
        }
        let place = if matches!(kind, Kind::Cut) { "up to line" } else { "from line" };
        write!(f, "{place} {line}: {text}")
    }
}
