//! Live chunks, slots, and the index by address.

use super::*;

const REGION: PageRange = PageRange::from_pages(0x100, 1 << 40);

fn range(first: u64, pages: u64) -> PageRange {
    PageRange::from_pages(first, pages)
}

fn book(table: &mut ChunkTable, range: PageRange) -> Result<Slot, Overlaps> {
    table.book(range, Asker::NOBODY, Moment::from_tenths(7))
}

#[test]
fn a_booked_chunk_is_listed_with_its_requester_until_it_is_unbooked() {
    let mut table = ChunkTable::new(REGION);
    let since = Moment::from_tenths(7);
    // One that fits into a record, one that is too large for it, one that is too far up.
    let all = [range(0x100, 1), range(0x1000, (1 << 32) - 1), range(1 << 39, 5), range(0x101, 5)];
    let slots: Vec<Slot> =
        (1..).zip(all).map(|(n, range)| table.book(range, Asker(n), since).unwrap()).collect();
    assert_eq!(table.live(), 4);
    let ascending: Vec<BookedChunk> =
        table.ascending().into_iter().map(|(_, booked)| booked).collect();
    let expected = [(all[0], 1), (all[3], 4), (all[1], 2), (all[2], 3)];
    assert_eq!(
        ascending,
        expected.map(|(range, n)| BookedChunk { range, asker: Asker(n), since }).to_vec()
    );
    for (slot, range) in slots.into_iter().zip(all) {
        assert_eq!(table.unbook(slot, range, Tag(7)), Tag(7));
    }
    assert_eq!((table.live(), table.ascending().len(), table.extras.len()), (0, 0, 0));
}

#[test]
fn an_overlapping_placement_is_not_booked() {
    let mut table = ChunkTable::new(REGION);
    let first = range(0x200, 16);
    let slot = book(&mut table, first).unwrap();
    for (first, pages) in [(0x200, 16), (0x1ff, 2), (0x20f, 1), (0x204, 2), (0x100, 0x1000)] {
        assert_eq!(book(&mut table, range(first, pages)), Err(Overlaps));
    }
    assert_eq!(table.live(), 1);
    table.unbook(slot, first, Tag(0));
    assert!(book(&mut table, range(0x204, 2)).is_ok());
}

#[test]
fn vacant_slots_are_reused() {
    let mut table = ChunkTable::new(PageRange::from_pages(0, 1024));
    for _ in 0..10 {
        let all: Vec<_> = (0..100).map(|i| range(i * 10, 10)).collect();
        let slots: Vec<_> = all.iter().map(|range| book(&mut table, *range).unwrap()).collect();
        for (slot, range) in slots.into_iter().zip(all) {
            table.unbook(slot, range, Tag(0));
        }
    }
    assert_eq!(table.records.len(), 100);
}

#[test]
fn only_chunks_without_a_guard_are_found_by_address() {
    let mut table = ChunkTable::new(REGION);
    // The second is a whole 16 TiB above the third, whose record has the same first page.
    let all = [range(0x200, 1), range((1 << 32) + 0x300, 2), range(0x300, 3)];
    let [held, high, low] = all.map(|range| book(&mut table, range).unwrap());
    table.index(high, Tag(8));
    assert_eq!(table.unindex(0x200), None);
    assert_eq!(table.unindex(0x300), None);
    table.index(low, Tag(9));
    assert_eq!(table.unindex(0x300), Some((low, Placement { range: all[2], tag: Tag(9) })));
    assert_eq!(
        table.unindex((1 << 32) + 0x300),
        Some((high, Placement { range: all[1], tag: Tag(8) }))
    );
    assert_eq!(table.unindex(0x300), None);
    assert!(table.starts_at(0x200) && !table.starts_at(0x201));
    table.unbook(held, all[0], Tag(0));
    assert!(!table.starts_at(0x200));
}

#[test]
fn a_chunk_is_freed_with_the_tag_of_its_present_allocator() {
    let mut table = ChunkTable::new(REGION);
    let [old, new] = [range(0x200, 1), range(0x300, 1)];
    let slot = book(&mut table, old).unwrap();
    table.retag([(slot, Tag(5))]);
    table.retag([(slot, Tag(6))]);
    let later = book(&mut table, new).unwrap();
    assert_eq!(table.unbook(later, new, Tag(1)), Tag(1));
    assert_eq!(table.unbook(slot, old, Tag(2)), Tag(6));
    // The next chunk in that slot is one that the present allocator has placed.
    let next = book(&mut table, old).unwrap();
    assert_eq!(next, slot);
    assert_eq!(table.unbook(next, old, Tag(3)), Tag(3));
}
