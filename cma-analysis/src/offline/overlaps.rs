//! Which chunks of a trace are live at a common moment.

use crate::demand::Lifetime;
use cma_framework::PageRange;

/// An index that finds the chunks whose lives overlap that of a given one.
///
/// Chunks are numbered in the order of their births, so those that are born in the life of a chunk
/// have consecutive numbers after its own. Those that are live at its birth are taken from the list
/// of those that were live at an earlier birth, which is stored for every `step`th, and from the
/// numbers since; the ones that have died are left out.
#[derive(Debug)]
pub(super) struct Overlaps {
    step: usize,
    /// One behind the other: the chunks that were live when chunk number `n * step` was born.
    live: Vec<u32>,
    /// The end of each list in `live`.
    ends: Vec<usize>,
}

/// A chunk's life and its place, in as few bytes as possible: visiting many is all that a layout
/// takes time for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) first: u64,
    pub(super) end: u64,
    birth: u32,
    death: u32,
}

impl Placed {
    /// `chunk`, which has no place yet.
    pub(super) fn nowhere(chunk: &Lifetime) -> Self {
        Placed { first: 0, end: 0, birth: chunk.birth, death: chunk.death }
    }

    pub(super) fn is_placed(&self) -> bool {
        self.first < self.end
    }

    pub(super) fn put(&mut self, place: PageRange) {
        (self.first, self.end) = (place.first_page(), place.end_page());
    }

    pub(super) fn range(&self) -> PageRange {
        PageRange::from_pages(self.first, self.end - self.first)
    }
}

/// The most entries of all lists together, roughly.
const ENTRIES: u64 = 1 << 23;

/// The least distance of two lists.
const LEAST_STEP: u64 = 64;

impl Overlaps {
    /// The index of `chunks`, of which `pairs` pairs overlap.
    pub(super) fn new(chunks: &[Lifetime], pairs: u64) -> Self {
        let step = (pairs / ENTRIES).max(LEAST_STEP);
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let mut overlaps = Overlaps { step, live: Vec::new(), ends: Vec::new() };
        let mut live: Vec<u32> = Vec::new();
        for (number, chunk) in (0_u32..).zip(chunks) {
            if (number as usize).is_multiple_of(step) {
                live.retain(|other| chunks[*other as usize].death > chunk.birth);
                overlaps.live.extend(&live);
                overlaps.ends.push(overlaps.live.len());
            }
            live.push(number);
        }
        overlaps
    }

    /// Visits the chunks that live at a time at which chunk number `number` does.
    pub(super) fn visit(&self, number: u32, all: &[Placed], mut visit: impl FnMut(&Placed)) {
        let number = number as usize;
        let Placed { birth, death, .. } = all[number];
        let list = number / self.step;
        let listed = if list == 0 { 0 } else { self.ends[list - 1] }..self.ends[list];
        let listed = self.live[listed].iter().map(|other| &all[*other as usize]);
        let before = listed.chain(&all[list * self.step..number]);
        before.filter(|other| other.death > birth).for_each(&mut visit);
        all[number + 1..].iter().take_while(|other| other.birth < death).for_each(visit);
    }
}
