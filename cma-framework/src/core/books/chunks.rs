//! The table of live chunks: place, requester and time of each.
//!
//! A chunk's guard carries all that freeing needs, tag included, so freeing reads no record. Chunks
//! without a guard are indexed by address, with their tags. Booking checks a chunk against all
//! others.

use super::figures::Holder;
use super::occupancy::Occupancy;
use crate::core::moment::Moment;
use cma_api::{Asker, Boundary, PageRange, Placement, Request, Tag};
use hashbrown::{HashMap, HashTable};
use std::sync::Arc;

/// The position of a chunk's record. Valid as long as the chunk lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot(u32);

impl Slot {
    /// No slot at all.
    pub(crate) const NONE: Slot = Slot(NONE);
}

/// The live chunks of one region.
#[derive(Debug)]
pub(super) struct ChunkTable {
    region: PageRange,
    records: Vec<Record>,
    /// The head of the list of vacant records.
    vacant: u32,
    live: u32,
    occupancy: Occupancy,
    /// The slots and tags of the chunks that have no guard.
    by_address: HashTable<(u32, Tag)>,
    /// Rare properties, by slot.
    extras: HashMap<u32, Extra>,
}

/// Properties that only some chunks have.
#[derive(Debug, Default)]
struct Extra {
    /// The place of a chunk that doesn't fit into a record: its size or its offset in the region is
    /// 16 TiB or more.
    huge: Option<PageRange>,
    /// The tag that a later allocator gave the chunk when it adopted it. The guard has the first
    /// allocator's tag.
    retagged: Option<Tag>,
    /// The process that has it, if a front end noted one.
    holder: Option<Arc<Holder>>,
    /// The window and the boundary of its request, if that had any.
    limits: Option<(PageRange, Boundary)>,
    /// Whether it is memory that is set aside, and no chunk of a requester.
    set_aside: bool,
}

/// 16 bytes for each chunk.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// The first page, counted from the start of the region.
    first: u32,
    /// The number of pages; [`VACANT`], or [`HUGE`].
    pages: u32,
    /// The requester; in a vacant record, the next vacant one.
    asker: Asker,
    since: Moment,
}

const VACANT: u32 = 0;
const HUGE: u32 = u32::MAX;
const NONE: u32 = u32::MAX;

/// The placement overlaps a live chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overlaps;

/// A live chunk, as its record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BookedChunk {
    pub(crate) range: PageRange,
    pub(crate) asker: Asker,
    pub(crate) since: Moment,
}

impl ChunkTable {
    /// The most chunks that can be live: the number of slots.
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
    #[inline(always)]
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
        // Both fit into 32 bits, and neither is the value that marks a huge chunk.
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

    /// Takes the fields one by one: a record assembled in memory and copied by the caller causes a
    /// store-forwarding stall.
    #[cold]
    #[inline(never)]
    fn push(&mut self, first: u32, pages: u32, asker: Asker, since: Moment) -> u32 {
        if self.records.len() == self.records.capacity() {
            // By a quarter: doubling would leave up to half of the table unused.
            self.records.reserve_exact(self.records.len() / 4 + 16);
        }
        self.records.push(Record { first, pages, asker, since });
        // Fewer than `MOST` are live, so the number fits.
        (self.records.len() - 1) as u32
    }

    /// Removes the live chunk in `slot`, which was booked as `range` and placed with `tag`. Returns
    /// the tag by which its present allocator knows it.
    #[inline(always)]
    pub(super) fn unbook(&mut self, slot: Slot, range: PageRange, tag: Tag) -> Tag {
        let record = &mut self.records[slot.0 as usize];
        record.pages = VACANT;
        record.asker = Asker(self.vacant);
        self.vacant = slot.0;
        self.live -= 1;
        self.occupancy.release(self.offset(range), range.pages().get());
        if self.extras.is_empty() { tag } else { self.unbook_extra(slot, tag) }
    }

    /// Notes since when live chunks are in use, the last moment for each.
    pub(super) fn renew(&mut self, since: &[(Slot, Moment)]) {
        for (slot, since) in since {
            self.records[slot.0 as usize].since = *since;
        }
    }

    /// The offset of `range` in the region, in pages.
    #[inline]
    fn offset(&self, range: PageRange) -> u64 {
        range.first_page() - self.region.first_page()
    }

    #[cold]
    fn unbook_extra(&mut self, slot: Slot, tag: Tag) -> Tag {
        self.extras.remove(&slot.0).and_then(|extra| extra.retagged).unwrap_or(tag)
    }

    fn booked(&self, slot: u32) -> Option<BookedChunk> {
        let record = self.records[slot as usize];
        let range = match record.pages {
            VACANT => return None,
            HUGE => self.extras.get(&slot)?.huge?,
            pages => PageRange::from_pages(
                self.region.first_page() + u64::from(record.first),
                u64::from(pages),
            ),
        };
        Some(BookedChunk { range, asker: record.asker, since: record.since })
    }

    /// The requester of the live chunk in `slot`.
    pub(super) fn asker(&self, slot: Slot) -> Asker {
        self.booked(slot.0).map_or(Asker::NOBODY, |booked| booked.asker)
    }

    /// Adds the chunk in `slot` to the index by address, because its guard gives it up.
    pub(super) fn index(&mut self, slot: Slot, tag: Tag) {
        let records = &self.records;
        self.by_address.insert_unique(
            hash(records[slot.0 as usize].first),
            (slot.0, tag),
            |(slot, _)| hash(records[*slot as usize].first),
        );
    }

    /// Removes the chunk that starts at page `first` of the address space from the index by
    /// address. The caller holds it from then on.
    pub(super) fn unindex(&mut self, first: u64) -> Option<(Slot, Placement)> {
        // The hash covers the lower 32 bits of the offset; `starts` compares all of it.
        let low = first.wrapping_sub(self.region.first_page()) as u32;
        let starts =
            |slot: u32| self.booked(slot).is_some_and(|booked| booked.range.first_page() == first);
        let found = self.by_address.find(hash(low), |(slot, _)| starts(*slot)).copied();
        let (slot, tag) = found?;
        let range = self.booked(slot)?.range;
        self.by_address.find_entry(hash(low), |(other, _)| *other == slot).ok()?.remove();
        Some((Slot(slot), Placement { range, tag }))
    }

    /// Whether a live chunk starts at page `first`, which lies in the region. If the page is taken,
    /// this is a pass over all chunks.
    pub(super) fn starts_at(&self, first: u64) -> bool {
        self.occupancy.is_taken(first - self.region.first_page())
            && self.iter().any(|(_, booked)| booked.range.first_page() == first)
    }

    /// The lowest live chunk that shares a page with `range`, which lies in the region. If there is
    /// one, this is a pass over all chunks.
    pub(super) fn lowest_in(&self, range: PageRange) -> Option<(Slot, BookedChunk)> {
        if self.occupancy.is_free(self.offset(range), range.pages().get()) {
            return None;
        }
        let there = self.iter().filter(|(_, booked)| booked.range.overlaps(range));
        there.min_by_key(|(_, booked)| booked.range.first_page())
    }

    /// The holes: the maximal free ranges, in ascending order of address.
    pub(super) fn holes(&self) -> impl Iterator<Item = PageRange> {
        let base = self.region.first_page();
        let holes = self.occupancy.holes(self.region.pages().get());
        holes.map(move |(first, pages)| PageRange::from_pages(base + first, pages))
    }

    fn iter(&self) -> impl Iterator<Item = (Slot, BookedChunk)> {
        let slots = 0..self.records.len() as u32;
        slots.filter_map(|slot| Some((Slot(slot), self.booked(slot)?)))
    }

    /// The requester of each live chunk.
    pub(super) fn askers(&self) -> impl Iterator<Item = Asker> {
        self.iter().map(|(_, booked)| booked.asker)
    }

    /// The live chunks in ascending order of address.
    pub(super) fn ascending(&self) -> Vec<(Slot, BookedChunk)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by_key(|(_, booked)| booked.range.first_page());
        all
    }

    /// Sets the tags of live chunks that another allocator has adopted.
    pub(super) fn retag(&mut self, tags: impl IntoIterator<Item = (Slot, Tag)>) {
        for (Slot(slot), tag) in tags {
            self.extras.entry(slot).or_default().retagged = Some(tag);
        }
    }

    /// Notes the holder of the live chunk in `slot`.
    pub(super) fn hold(&mut self, slot: Slot, holder: Arc<Holder>) {
        self.extras.entry(slot.0).or_default().holder = Some(holder);
    }

    /// Notes the limits of the request of the live chunk in `slot`.
    #[cold]
    pub(super) fn limit(&mut self, slot: Slot, request: &Request) {
        let limits = (request.window(), request.boundary());
        self.extras.entry(slot.0).or_default().limits = Some(limits);
    }

    /// The window and the boundary within which the live chunk in `slot` was requested, if any.
    pub(super) fn limits(&self, slot: Slot) -> Option<(PageRange, Boundary)> {
        self.extras.get(&slot.0)?.limits
    }

    /// Notes that the chunk in `slot` is memory that is set aside.
    pub(super) fn set_aside(&mut self, slot: Slot) {
        self.extras.entry(slot.0).or_default().set_aside = true;
    }

    /// Whether the chunk in `slot` is memory that is set aside.
    pub(super) fn is_set_aside(&self, slot: Slot) -> bool {
        self.extras.get(&slot.0).is_some_and(|extra| extra.set_aside)
    }

    /// The holder of the live chunk in `slot`, if a front end noted one.
    pub(super) fn holder(&self, slot: Slot) -> Option<&Arc<Holder>> {
        self.extras.get(&slot.0)?.holder.as_ref()
    }
}

/// Fibonacci hashing: spreads consecutive pages, also in the upper bits that the table compares
/// first.
fn hash(first: u32) -> u64 {
    let product = u64::from(first).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests;
