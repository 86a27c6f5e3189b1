//! The books of one region: every live chunk, where it is, who asked, and when.
//!
//! What it takes to free a chunk is with its guard, tag included, so freeing reads no record.
//! Chunks whose owner keeps only the address are indexed by it, with their tags. Every chunk is
//! checked against the others before it is booked.

use super::holder::Holder;
use super::occupancy::Occupancy;
use crate::host::clock::Moment;
use cma_api::{Alignment, Asker, PageRange, Pages, Placement, Tag};
use hashbrown::{HashMap, HashTable};
use std::sync::Arc;

/// Where a chunk's record is. Valid as long as the chunk lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot(u32);

impl Slot {
    /// No slot at all.
    pub(crate) const NONE: Slot = Slot(NONE);
}

/// The books of one region.
#[derive(Debug)]
pub(super) struct ChunkTable {
    region: PageRange,
    records: Vec<Record>,
    /// The head of the list of vacant records.
    vacant: u32,
    live: u32,
    occupancy: Occupancy,
    /// The slots and tags of the chunks that are known by address alone.
    by_address: HashTable<(u32, Tag)>,
    /// What only some chunks have, by slot.
    extras: HashMap<u32, Extra>,
}

/// What only some chunks have.
#[derive(Debug, Default)]
struct Extra {
    /// The place of a chunk that doesn't fit into a record: of 16 TiB and more, or so far up its
    /// region.
    huge: Option<PageRange>,
    /// The tag of a chunk that another allocator than its first has adopted. Its guard doesn't
    /// know.
    retagged: Option<Tag>,
    /// Who has it, if a front end said so.
    holder: Option<Arc<Holder>>,
}

/// 16 bytes, of which there are as many as chunks.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// The first page, counted from the start of the region.
    first: u32,
    /// The number of pages; [`VACANT`], or [`HUGE`].
    pages: u32,
    /// In a vacant record, the next vacant one.
    asker: Asker,
    since: Moment,
}

const VACANT: u32 = 0;
const HUGE: u32 = u32::MAX;
const NONE: u32 = u32::MAX;

/// The placement overlaps a live chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overlaps;

/// A live chunk, as the books have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Booked {
    pub(super) range: PageRange,
    pub(super) asker: Asker,
    pub(super) since: Moment,
}

/// What the free ranges of a region have for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// The largest free range.
    pub(super) largest: Pages,
    /// The largest free range that holds the request at its alignment.
    pub(super) holds: Option<PageRange>,
}

impl ChunkTable {
    /// The most chunks that can be live: there are no more slots.
    pub(super) const MOST: u32 = NONE;

    pub(super) fn new(region: PageRange) -> Self {
        ChunkTable {
            region,
            records: Vec::new(),
            vacant: NONE,
            live: 0,
            occupancy: Occupancy::new(region.pages().get()),
            by_address: HashTable::new(),
            extras: HashMap::new(),
        }
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Books a chunk, which must lie in the region. Fewer than [`MOST`](Self::MOST) are live.
    #[inline]
    pub(super) fn book(
        &mut self,
        range: PageRange,
        asker: Asker,
        since: Moment,
    ) -> Result<Slot, Overlaps> {
        let (first, pages) = (self.offset(range), range.pages().get());
        if !self.occupancy.take(first, pages) {
            return Err(Overlaps);
        }
        // Neither has a bit that a record has no place for, and they are not all ones.
        let fits = first | pages < u64::from(HUGE);
        let (first, pages) = (first as u32, if fits { pages as u32 } else { HUGE });
        let slot = self.vacant;
        let slot = if let Some(record) = self.records.get_mut(slot as usize) {
            self.vacant = record.asker.0;
            *record = Record { first, pages, asker, since };
            slot
        } else {
            self.push(first, pages, asker, since)
        };
        if !fits {
            self.extras.entry(slot).or_default().huge = Some(range);
        }
        self.live += 1;
        Ok(Slot(slot))
    }

    /// Takes the record in parts: one that is put together in memory first is read from there
    /// before its parts have arrived, which stalls.
    #[cold]
    #[inline(never)]
    fn push(&mut self, first: u32, pages: u32, asker: Asker, since: Moment) -> u32 {
        if self.records.len() == self.records.capacity() {
            // By a quarter: doubling would leave up to half of the books empty.
            self.records.reserve_exact(self.records.len() / 4 + 16);
        }
        self.records.push(Record { first, pages, asker, since });
        // Fewer than `MOST` were live, so there is a slot.
        (self.records.len() - 1) as u32
    }

    /// Takes the chunk in `slot`, which is live, off the books. It was booked as `range`, and
    /// placed with `tag`. The answer is the tag that its present allocator knows it by.
    #[inline]
    pub(super) fn unbook(&mut self, slot: Slot, range: PageRange, tag: Tag) -> Tag {
        let record = &mut self.records[slot.0 as usize];
        record.pages = VACANT;
        record.asker = Asker(self.vacant);
        self.vacant = slot.0;
        self.live -= 1;
        self.occupancy.release(self.offset(range), range.pages().get());
        if self.extras.is_empty() { tag } else { self.unbook_extra(slot, tag) }
    }

    /// How far up the region `range` begins, in pages.
    #[inline]
    fn offset(&self, range: PageRange) -> u64 {
        range.first_page() - self.region.first_page()
    }

    #[cold]
    fn unbook_extra(&mut self, slot: Slot, tag: Tag) -> Tag {
        self.extras.remove(&slot.0).and_then(|extra| extra.retagged).unwrap_or(tag)
    }

    fn booked(&self, slot: u32) -> Option<Booked> {
        let record = self.records[slot as usize];
        let range = match record.pages {
            VACANT => return None,
            HUGE => self.extras.get(&slot)?.huge?,
            pages => PageRange::from_pages(
                self.region.first_page() + u64::from(record.first),
                u64::from(pages),
            ),
        };
        Some(Booked { range, asker: record.asker, since: record.since })
    }

    /// Who asked for the live chunk in `slot`.
    pub(super) fn asker(&self, slot: Slot) -> Asker {
        self.booked(slot.0).map_or(Asker::NOBODY, |booked| booked.asker)
    }

    /// Makes the chunk in `slot` known by its address, because its guard goes.
    pub(super) fn index(&mut self, slot: Slot, tag: Tag) {
        let records = &self.records;
        self.by_address.insert_unique(
            hash(records[slot.0 as usize].first),
            (slot.0, tag),
            |(slot, _)| hash(records[*slot as usize].first),
        );
    }

    /// Takes the chunk that starts at page `first` of the address space out of the index, so that
    /// whoever asked holds it.
    pub(super) fn unindex(&mut self, first: u64) -> Option<(Slot, Placement)> {
        // Of pages that don't fit into a record the lower half is compared here, and all of it
        // below.
        let low = first.wrapping_sub(self.region.first_page()) as u32;
        let starts =
            |slot: u32| self.booked(slot).is_some_and(|booked| booked.range.first_page() == first);
        let found = self.by_address.find(hash(low), |(slot, _)| starts(*slot)).copied();
        let (slot, tag) = found?;
        let range = self.booked(slot)?.range;
        self.by_address.find_entry(hash(low), |(other, _)| *other == slot).ok()?.remove();
        Some((Slot(slot), Placement { range, tag }))
    }

    /// Whether a live chunk starts at page `first` of the region. Looks at all of them, if the page
    /// is taken.
    pub(super) fn starts_at(&self, first: u64) -> bool {
        self.occupancy.is_taken(first - self.region.first_page())
            && self.iter().any(|(_, booked)| booked.range.first_page() == first)
    }

    /// The free ranges, as pages from the start of the region.
    fn holes(&self) -> impl Iterator<Item = (u64, u64)> {
        self.occupancy.holes(self.region.pages().get())
    }

    /// The largest free range.
    pub(super) fn largest_hole(&self) -> Pages {
        Pages::new(self.holes().map(|(_, pages)| pages).max().unwrap_or(0))
    }

    /// What the free ranges have for `pages` at a multiple of `alignment`. Looks at all of them.
    pub(super) fn room(&self, pages: Pages, alignment: Alignment) -> Room {
        let mut room = Room { largest: Pages::ZERO, holds: None };
        for (first, free) in self.holes() {
            let hole = PageRange::from_pages(self.region.first_page() + first, free);
            room.largest = room.largest.max(hole.pages());
            let start = hole.first_page().checked_next_multiple_of(alignment.pages().get());
            let fits = start
                .and_then(|start| start.checked_add(pages.get()))
                .is_some_and(|end| end <= hole.end_page());
            if fits && room.holds.is_none_or(|known| known.pages() < hole.pages()) {
                room.holds = Some(hole);
            }
        }
        room
    }

    fn iter(&self) -> impl Iterator<Item = (Slot, Booked)> {
        // As many as fit into a slot's number.
        let slots = 0..self.records.len() as u32;
        slots.filter_map(|slot| Some((Slot(slot), self.booked(slot)?)))
    }

    /// Who asked for each live chunk.
    pub(super) fn askers(&self) -> impl Iterator<Item = Asker> {
        self.iter().map(|(_, booked)| booked.asker)
    }

    /// The live chunks in ascending order of address.
    pub(super) fn ascending(&self) -> Vec<(Slot, Booked)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by_key(|(_, booked)| booked.range.first_page());
        all
    }

    /// Gives live chunks other tags, because another allocator has adopted them all.
    pub(super) fn retag(&mut self, tags: impl IntoIterator<Item = (Slot, Tag)>) {
        for (Slot(slot), tag) in tags {
            self.extras.entry(slot).or_default().retagged = Some(tag);
        }
    }

    /// Notes who has the live chunk in `slot`.
    pub(super) fn hold(&mut self, slot: Slot, holder: Arc<Holder>) {
        self.extras.entry(slot.0).or_default().holder = Some(holder);
    }

    /// Who has the chunk in `slot`, if a front end said so.
    pub(super) fn holder(&self, slot: Slot) -> Option<&Arc<Holder>> {
        self.extras.get(&slot.0)?.holder.as_ref()
    }
}

/// Fibonacci hashing: consecutive pages fall far apart, also in the upper bits that the table looks
/// at first.
fn hash(first: u32) -> u64 {
    let product = u64::from(first).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests;
