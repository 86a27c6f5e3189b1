//! Memory that is set aside, and when to check it again.
//!
//! A part of a region is set aside while a process that had its memory before still holds it, or
//! when such a process has returned it to the system, so that it is lost. The part stays booked. It
//! is checked at growing intervals.

use crate::core::books::LiveChunk;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first interval between checks. A process that is killed closes its connection some
/// microseconds before its memory is released.
pub(crate) const FIRST_INTERVAL: Duration = Duration::from_millis(2);

/// The longest interval for memory that a process holds.
pub(crate) const LONGEST_INTERVAL_HELD: Duration = Duration::from_millis(500);

/// The longest interval for memory that is lost: a check may take pages out of a pool.
const LONGEST_INTERVAL_LOST: Duration = Duration::from_secs(10);

/// The most parts that are checked at once.
const MOST_CHECKED: usize = 32;

/// The parts of a region that are set aside. Those checked longest ago come first, so that each has
/// its turn.
#[derive(Debug, Default)]
pub(crate) struct SetAsideParts(VecDeque<SetAside>);

/// A part that is set aside. It is booked as a live chunk.
#[derive(Debug)]
pub(crate) struct SetAside {
    chunk: LiveChunk,
    lost: bool,
    due: Instant,
    interval: Duration,
}

/// Why memory that is set aside is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recheck {
    /// The check is due.
    Due,
    /// A request would be refused. Memory that a process holds is checked even if it is not due,
    /// because that costs little.
    Needed,
}

impl SetAside {
    /// The part, as it is booked.
    pub(crate) fn chunk(&self) -> LiveChunk {
        self.chunk
    }

    /// Notes a check at `now` that found the memory unusable.
    pub(crate) fn still_unusable(&mut self, lost: bool, now: Instant) {
        let longest = if lost { LONGEST_INTERVAL_LOST } else { LONGEST_INTERVAL_HELD };
        self.lost = lost;
        self.interval = (self.interval * 2).min(longest);
        self.due = now + self.interval;
    }
}

impl SetAsideParts {
    /// The number of parts.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the next check is due; `None` when nothing is set aside.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.iter().map(|part| part.due).min()
    }

    /// Adds a part.
    pub(crate) fn add(&mut self, chunk: LiveChunk, lost: bool, now: Instant) {
        let (due, interval) = (now + FIRST_INTERVAL, FIRST_INTERVAL);
        self.0.push_back(SetAside { chunk, lost, due, interval });
    }

    /// Adds a part that was taken and checked.
    pub(crate) fn put_back(&mut self, part: SetAside) {
        self.0.push_back(part);
    }

    /// Takes out the parts to be checked now.
    pub(crate) fn take_due(&mut self, why: Recheck, now: Instant) -> Vec<SetAside> {
        let mut taken = Vec::new();
        for _ in 0..self.0.len() {
            let Some(part) = self.0.pop_front() else { break };
            let is_due = part.due <= now || why == Recheck::Needed && !part.lost;
            if is_due && taken.len() < MOST_CHECKED {
                taken.push(part);
            } else {
                self.0.push_back(part);
            }
        }
        taken
    }

    /// Takes out all parts.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = LiveChunk> + use<> {
        std::mem::take(&mut self.0).into_iter().map(|part| part.chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::books::Slot;
    use cma_api::{PageRange, Tag};

    fn chunk(first: u64) -> LiveChunk {
        LiveChunk { range: PageRange::from_pages(first, 1), tag: Tag(0), slot: Slot::NONE }
    }

    #[test]
    fn parts_are_checked_in_turn_at_growing_intervals() {
        let (mut parts, start) = (SetAsideParts::default(), Instant::now());
        for first in 0..40 {
            parts.add(chunk(first), first == 0, start);
        }
        assert!(parts.take_due(Recheck::Due, start).is_empty());
        // A lost part is not checked before it is due.
        let needed = parts.take_due(Recheck::Needed, start);
        assert_eq!((needed.len(), parts.len()), (MOST_CHECKED, 8));
        assert!(needed.iter().all(|part| part.chunk().range.first_page() != 0));
        for (mut part, lost) in needed.into_iter().zip([true, false].into_iter().cycle()) {
            for (n, longest) in (1..20).zip(std::iter::repeat(if lost { 10_000 } else { 500 })) {
                part.still_unusable(lost, start);
                let expected = (2 << n.min(15)).min(longest);
                assert_eq!(part.due, start + Duration::from_millis(expected), "check {n}");
            }
            parts.put_back(part);
        }
        assert_eq!(parts.next_due(), Some(start + FIRST_INTERVAL));
        assert_eq!(parts.take_due(Recheck::Due, start + FIRST_INTERVAL).len(), 8);
        assert_eq!((parts.take_all().count(), parts.next_due()), (32, None));
    }
}
