//! The books keep what was booked.

use super::*;

const REGION: PageRange = PageRange::from_pages(0x100, 1 << 40);

fn placement(first: u64, pages: u64, tag: u64) -> Placement {
    Placement { range: PageRange::from_pages(first, pages), tag: Tag(tag) }
}

#[test]
fn what_is_booked_comes_back_with_its_tag_and_its_asker() {
    let mut table = ChunkTable::new(REGION);
    let huge = placement(0x1000, 1 << 33, u64::MAX);
    let slots = [
        (table.book(placement(0x100, 1, 7), Asker(1)).unwrap(), placement(0x100, 1, 7)),
        (table.book(huge, Asker(2)).unwrap(), huge),
        (table.book(placement(0x101, 5, 9), Asker(3)).unwrap(), placement(0x101, 5, 9)),
    ];
    assert_eq!(table.live(), 3);
    let ascending: Vec<u64> = table.ascending().iter().map(|(_, b)| b.placement.range.first_page()).collect();
    assert_eq!(ascending, [0x100, 0x101, 0x1000]);
    for (slot, placement) in slots {
        assert_eq!(table.unbook(slot).placement, placement);
    }
    assert_eq!((table.live(), table.ascending().len(), table.huge.len()), (0, 0, 0));
}

#[test]
fn an_overlapping_placement_is_not_booked() {
    let mut table = ChunkTable::new(REGION);
    let slot = table.book(placement(0x200, 16, 0), Asker::NOBODY).unwrap();
    for (first, pages) in [(0x200, 16), (0x1ff, 2), (0x20f, 1), (0x204, 2), (0x100, 0x1000)] {
        assert_eq!(table.book(placement(first, pages, 0), Asker::NOBODY), Err(Overlaps));
    }
    assert_eq!(table.live(), 1);
    table.unbook(slot);
    assert!(table.book(placement(0x204, 2, 0), Asker::NOBODY).is_ok());
}

#[test]
fn vacant_slots_are_used_again() {
    let mut table = ChunkTable::new(PageRange::from_pages(0, 1024));
    for round in 0..10 {
        let slots: Vec<_> =
            (0..100).map(|i| table.book(placement(i * 10, 10, round), Asker::NOBODY).unwrap()).collect();
        slots.into_iter().for_each(|slot| {
            table.unbook(slot);
        });
    }
    assert_eq!(table.records.len(), 100);
}

#[test]
fn only_what_its_guard_gave_up_is_found_by_address() {
    let mut table = ChunkTable::new(REGION);
    let held = table.book(placement(0x200, 1, 0), Asker::NOBODY).unwrap();
    let given_up = table.book(placement(0x300, 1, 0), Asker::NOBODY).unwrap();
    table.index(given_up);
    assert_eq!(table.unindex(0x200), None);
    assert_eq!(table.unindex(0x300), Some(given_up));
    assert_eq!(table.unindex(0x300), None);
    assert!(table.starts_at(0x200) && !table.starts_at(0x201));
    table.unbook(held);
    assert!(!table.starts_at(0x200));
}
