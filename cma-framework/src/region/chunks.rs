//! The books of one region: every live chunk, where it is, its allocator's tag, who asked.
//!
//! A chunk's record stays in one slot for its life, and a guard knows its slot, so freeing through a guard searches
//! nothing. Chunks whose owner keeps only the address are indexed by it. Every chunk is checked against the others
//! before it is booked.

use super::occupancy::Occupancy;
use cma_api::{Asker, PageRange, Placement, Tag};
use hashbrown::{HashMap, HashTable};

/// Where a chunk's record is. Valid as long as the chunk lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    /// No slot at all.
    pub(crate) const NONE: Slot = Slot(NONE);
}

/// The books of one region.
#[derive(Debug)]
pub(super) struct ChunkTable {
    records: Vec<Record>,
    /// The head of the list of vacant records.
    vacant: u32,
    live: u32,
    occupancy: Occupancy,
    /// The slots of the chunks that are known by address alone.
    by_address: HashTable<u32>,
    /// The sizes that don't fit into a record: 16 TiB and more.
    huge: HashMap<u32, u64>,
}

/// 24 bytes, of which there are as many as chunks.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// The first page; [`VACANT`] when the slot is.
    first: u64,
    tag: Tag,
    /// The number of pages, or [`HUGE`]; in a vacant slot, the next vacant one.
    pages: u32,
    asker: Asker,
}

const VACANT: u64 = u64::MAX;
const HUGE: u32 = u32::MAX;
const NONE: u32 = u32::MAX;

/// The placement overlaps a live chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overlaps;

/// A live chunk, as the books have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Booked {
    pub(super) placement: Placement,
    pub(super) asker: Asker,
}

impl ChunkTable {
    pub(super) fn new(region: PageRange) -> Self {
        ChunkTable {
            records: Vec::new(),
            vacant: NONE,
            live: 0,
            occupancy: Occupancy::new(region),
            by_address: HashTable::new(),
            huge: HashMap::new(),
        }
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Books a chunk, which must lie in the region, in the hands of a guard.
    #[inline]
    pub(super) fn book(&mut self, placement: Placement, asker: Asker) -> Result<Slot, Overlaps> {
        if !self.occupancy.take(placement.range) {
            return Err(Overlaps);
        }
        let pages = placement.range.pages().get();
        let record = Record {
            first: placement.range.first_page(),
            tag: placement.tag,
            pages: u32::try_from(pages).unwrap_or(HUGE),
            asker,
        };
        let slot = self.vacant;
        let slot = if let Some(vacant) = self.records.get_mut(slot as usize) {
            self.vacant = vacant.pages;
            *vacant = record;
            slot
        } else {
            if self.records.len() == self.records.capacity() {
                // By a quarter: doubling would leave up to half of the books empty.
                self.records.reserve_exact(self.records.len() / 4 + 16);
            }
            self.records.push(record);
            // Memory ends before 2^32 records of 24 bytes do.
            (self.records.len() - 1) as u32
        };
        if record.pages == HUGE {
            self.huge.insert(slot, pages);
        }
        self.live += 1;
        Ok(Slot(slot))
    }

    /// Takes the chunk in `slot`, which is live, off the books.
    #[inline]
    pub(super) fn unbook(&mut self, slot: Slot) -> Booked {
        let booked = self.get(slot);
        let record = &mut self.records[slot.0 as usize];
        if record.pages == HUGE {
            self.huge.remove(&slot.0);
        }
        record.first = VACANT;
        record.pages = self.vacant;
        self.vacant = slot.0;
        self.live -= 1;
        self.occupancy.release(booked.placement.range);
        booked
    }

    #[inline]
    fn get(&self, slot: Slot) -> Booked {
        let record = self.records[slot.0 as usize];
        debug_assert_ne!(record.first, VACANT, "slots are valid while their chunk lives");
        let pages = if record.pages == HUGE { self.huge[&slot.0] } else { u64::from(record.pages) };
        let range = PageRange::from_pages(record.first, pages);
        Booked { placement: Placement { range, tag: record.tag }, asker: record.asker }
    }

    /// Makes the chunk in `slot` known by its address, because its guard goes.
    pub(super) fn index(&mut self, slot: Slot) {
        let records = &self.records;
        self.by_address.insert_unique(hash(records[slot.0 as usize].first), slot.0, |slot| {
            hash(records[*slot as usize].first)
        });
    }

    /// Takes the chunk that starts at page `first` out of the index, so that whoever asked holds it.
    pub(super) fn unindex(&mut self, first: u64) -> Option<Slot> {
        let records = &self.records;
        let found =
            self.by_address.find_entry(hash(first), |slot| records[*slot as usize].first == first).ok()?;
        Some(Slot(found.remove().0))
    }

    /// Whether a live chunk starts at page `first` of the address space.
    pub(super) fn starts_at(&self, first: u64) -> bool {
        self.occupancy.starts_at(first)
    }

    /// The live chunks in ascending order of address.
    pub(super) fn ascending(&self) -> Vec<(Slot, Booked)> {
        let mut all: Vec<_> = (0..)
            .zip(&self.records)
            .filter(|(_, record)| record.first != VACANT)
            .map(|(slot, _)| (Slot(slot), self.get(Slot(slot))))
            .collect();
        all.sort_unstable_by_key(|(_, booked)| booked.placement.range.first_page());
        all
    }

    /// Gives the chunk in `slot` another tag, because another allocator has adopted it.
    pub(super) fn retag(&mut self, slot: Slot, tag: Tag) {
        self.records[slot.0 as usize].tag = tag;
    }
}

/// Fibonacci hashing: consecutive pages fall far apart, also in the upper bits that the table looks at first.
fn hash(first: u64) -> u64 {
    let product = first.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests;
