//! The checks of a placement, the counters, and the reasons of refusals.

use super::*;
use cma_api::Alignment;

const REGION: PageRange = PageRange::from_pages(0x100, 64);

fn range(first: u64, pages: u64) -> PageRange {
    PageRange::from_pages(first, pages)
}

fn request(pages: u64, alignment_pages: u64) -> Request {
    let alignment = Alignment::new(alignment_pages * cma_api::PAGE_SIZE).unwrap();
    Request::new(Pages::new(pages), alignment, Asker(7)).unwrap()
}

fn limited(
    pages: u64,
    alignment_pages: u64,
    (first, end): (u64, u64),
    boundary_pages: u64,
) -> Request {
    let boundary = Boundary::new(boundary_pages * cma_api::PAGE_SIZE).unwrap();
    request(pages, alignment_pages).limited(range(first, end - first), boundary).unwrap()
}

fn place(books: &mut Books, request: &Request, range: PageRange) -> Result<Slot, Misplacement> {
    books.place(request, range, Moment::from_tenths(1)).map(|(slot, event)| {
        assert_eq!(event, ChunkEvent::Placed { range });
        slot
    })
}

#[test]
fn a_faulty_placement_is_refused_and_changes_nothing() {
    let mut books = Books::new(REGION);
    place(&mut books, &request(4, 1), range(0x110, 4)).unwrap();
    let before = (books.live(), books.free(), books.statistics(), books.gaps());
    for (request, range, expected) in [
        (request(4, 1), range(0x100, 5), Misplacement::WrongSize as fn(_) -> _),
        (request(4, 1), range(0xff, 4), Misplacement::Outside),
        (request(4, 1), range(0x13d, 4), Misplacement::Outside),
        (request(4, 4), range(0x102, 4), Misplacement::Unaligned),
        (limited(4, 1, (0x108, 0x120), 8), range(0x104, 4), Misplacement::OutsideWindow),
        (limited(4, 1, (0x108, 0x120), 8), range(0x11d, 4), Misplacement::OutsideWindow),
        (limited(4, 1, (0x108, 0x120), 8), range(0x116, 4), Misplacement::CrossesBoundary),
        (request(4, 1), range(0x10d, 4), Misplacement::Overlaps),
        (request(1, 1), range(0x113, 1), Misplacement::Overlaps),
    ] {
        assert_eq!(place(&mut books, &request, range), Err(expected(range)));
        assert_eq!(before, (books.live(), books.free(), books.statistics(), books.gaps()));
    }
    books.check().unwrap();
}

#[test]
fn counters_follow_requests_and_not_ranges_that_are_kept() {
    let mut books = Books::new(REGION);
    let (all, part) = (range(0x100, 64), range(0x100, 8));
    let slot = place(&mut books, &request(64, 1), all).unwrap();
    assert_eq!(books.release(slot, all, Tag(3)).0, Tag(3));
    let kept = books.keep(part, Asker::NOBODY, Moment::from_tenths(1)).unwrap();
    let when = Moment::from_tenths(5);
    let Explanation::Reason(reason) = books.explain_refusal(&request(60, 1)) else { panic!() };
    books.refuse(&request(60, 1), reason, when);
    assert!(matches!(books.refusals().last().unwrap().reason, Reason::Full { .. }));
    let statistics = books.statistics();
    assert_eq!(
        (
            statistics.alloc_pages_success,
            statistics.alloc_pages_fail,
            statistics.release_pages_success,
            statistics.high_water_bytes
        ),
        (64, 60, 56, 64 * cma_api::PAGE_SIZE)
    );
    books.release(kept, part, Tag(0));
    assert_eq!(books.statistics().release_pages_success, 64);
    assert_eq!((books.live(), books.free()), (0, REGION.pages()));
}

#[test]
fn the_reason_of_a_refusal_agrees_with_the_books() {
    let mut books = Books::new(REGION);
    // Leaves 0x100..0x110 and 0x118..0x138.
    place(&mut books, &request(8, 1), range(0x110, 8)).unwrap();
    place(&mut books, &request(8, 1), range(0x138, 8)).unwrap();
    let (region, bytes) = (REGION, |pages: u64| pages * cma_api::PAGE_SIZE);
    let reason = |request| match books.explain_refusal(&request) {
        Explanation::Reason(reason) => reason,
        Explanation::Holds(range) => panic!("{range} holds {request:?}"),
    };
    for (request, expected) in [
        (request(65, 1), Reason::TooSmall { asked_bytes: bytes(65), region_bytes: REGION.bytes() }),
        (
            request(1, 512),
            Reason::NoPlace { region, limit: Limit::Alignment { bytes: bytes(512) } },
        ),
        (
            limited(1, 1, (0, 0x100), 8),
            Reason::NoPlace { region, limit: Limit::Window(range(0, 0x100)) },
        ),
        (
            limited(2, 1, (0x110, 0x114), 16),
            Reason::Window { window: range(0x110, 4), largest_inside_bytes: 0 },
        ),
        (request(49, 1), Reason::Full { free_bytes: bytes(48), region_bytes: REGION.bytes() }),
        (
            request(33, 1),
            Reason::Fragmented { free_bytes: bytes(48), largest_hole_bytes: bytes(32) },
        ),
        (
            request(32, 64),
            Reason::Alignment { alignment_bytes: bytes(64), largest_hole_bytes: bytes(32) },
        ),
        (
            limited(4, 1, (0x10d, 0x11b), 64),
            Reason::Window { window: range(0x10d, 14), largest_inside_bytes: bytes(3) },
        ),
        (limited(9, 1, (0x110, 0x128), 16), Reason::Boundary { boundary_bytes: bytes(16) }),
    ] {
        assert_eq!(reason(request), expected, "{request:?}");
    }
    assert_eq!(books.explain_refusal(&request(24, 8)), Explanation::Holds(range(0x118, 32)));
    let largest = Explanation::Holds(range(0x118, 32));
    assert_eq!(books.explain_refusal(&request(4, 1)), largest, "both holes hold it");
    assert_eq!(
        books.explain_refusal(&limited(4, 1, (0x100, 0x110), 8)),
        Explanation::Holds(range(0x100, 16))
    );
}

#[test]
fn the_log_keeps_the_last_refusals_in_order() {
    let (mut books, mut apart) = (Books::new(REGION), RefusalLog::default());
    for n in 0..20 {
        books.refuse(&request(n + 1, 1), Reason::TooManyChunks, Moment::from_tenths(1));
    }
    apart.count(&request(99, 1), Reason::TooManyChunks, Moment::from_tenths(2));
    books.append_refusals(apart);
    let sizes: Vec<_> = books.refusals().map(|refused| refused.request.pages().get()).collect();
    assert_eq!(sizes, (6..=20).chain([99]).collect::<Vec<_>>());
    assert_eq!(books.statistics().alloc_pages_fail, (1..=20).sum::<u64>() + 99);
}
