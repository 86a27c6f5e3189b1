//! The guarantees of huge pages. These tests set the size of the machine's pool, one test at a
//! time, and restore it.

mod machine;

use cma_framework::config;
use cma_framework::config::{Bank, Growth, Place};
use cma_framework::memory::Contiguity;
use cma_framework::reserve::{Banks, ReserveRequest, Reserver};
use cma_framework::{
    Alignment, Chunk, Cma, DmaAddr, EarlyState, MappedChunk, MemoryError, PageRange, Pages, Region,
    SharedChunk,
};
use cma_memory::{Hugetlb, Port, Ports};
use machine::{
    HUGE, LEASES, Machine, OtherProcess, POOL, POOL_1G, Window, all_pages, banks, boot, follow,
    frame, free, open_files, refusal, region, role, say, skipped, total,
};
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, ftruncate, open};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::Instant;

fn hugetlb() -> Hugetlb {
    Hugetlb::new(banks()).with_page_size(HUGE)
}

/// Checks by this test's own means that every page of a chunk is where its address says.
fn assert_contiguous(chunk: &MappedChunk) {
    let first = chunk.start().get() / 4096;
    for page in 0..chunk.len() as u64 / 4096 {
        assert_eq!(frame(chunk.as_ptr().addr() + page as usize * 4096), Some(first + page));
    }
}

/// The one file of a chunk. It may outlive the chunk.
fn file(shared: &SharedChunk) -> File {
    let mut pieces = shared.pieces().unwrap();
    assert_eq!(pieces.len(), 1);
    let piece = pieces.next().unwrap().unwrap();
    assert_eq!((piece.offset, piece.len), (0, shared.chunk().size()));
    File::from(piece.into_file())
}

fn reopened(file: impl AsFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open(
        format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()),
        flags | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn error(chunk: Chunk) -> MemoryError {
    chunk.map().unwrap_err().error
}

fn alloc(cma: &Cma, size: u64) -> Chunk {
    cma.alloc("camera", None, size, 0).unwrap()
}

#[test]
fn sixty_four_mib_are_contiguous_at_their_physical_addresses() {
    let Some(_machine) = Machine::with_huge_pages(34) else { return };
    let (cma, region) = region("b=64M", &mut hugetlb());
    let backing = region.backing().unwrap();
    assert_eq!((backing.kind, backing.contiguity), ("hugetlb", Contiguity::Verified));
    assert_eq!(backing.granule, Pages::covering(HUGE));
    assert_eq!(region.range().bytes(), 64 << 20);
    assert_eq!(free(POOL), 34 - 32, "it keeps what it needs and returns the rest");
    let all = alloc(&cma, 64 << 20).map().unwrap();
    assert_contiguous(&all);
    drop(all);
    let frames: Vec<_> = (0..8)
        .map(|_| cma.alloc("camera", None, 3_133_440, 64 << 10).unwrap().map().unwrap())
        .collect();
    frames.iter().for_each(assert_contiguous);
}

#[test]
fn a_region_has_the_alignment_it_requests() {
    let Some(_machine) = Machine::with_huge_pages(34) else { return };
    let (_cma, region) = region("b=8M/16M", &mut hugetlb());
    assert!(region.range().start().is_aligned(Alignment::new(16 << 20).unwrap()));
    assert_eq!(region.backing().unwrap().contiguity, Contiguity::Verified);
}

#[test]
fn bytes_persist_and_the_next_chunk_starts_as_zero() {
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let (cma, _) = region("b=8M", &mut hugetlb());
    let mut left = alloc(&cma, 3 << 20).map().unwrap();
    let mut right = alloc(&cma, 3 << 20).map().unwrap();
    left.fill(1);
    right.fill(2);
    assert!(left.iter().all(|byte| *byte == 1) && right.iter().all(|byte| *byte == 2));
    let start = left.start();
    drop(left);
    let again = alloc(&cma, 3 << 20).map().unwrap();
    assert_eq!(again.start(), start);
    assert!(again.iter().all(|byte| *byte == 0) && right.iter().all(|byte| *byte == 2));
}

/// Its pages stay in the file of the chunk before, move, or serve parts of pages.
#[test]
fn whatever_had_the_pages_before_the_next_chunk_starts_as_zero() {
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let (cma, _) = region("b=8M", &mut hugetlb());
    let (whole, part) = (4 << 20, 3 << 20);
    for (before, after) in [(whole, whole), (whole, part), (part, whole), (part, part)] {
        for is_shared in [false, true] {
            let mut old = alloc(&cma, before).map().unwrap();
            let start = old.start();
            old.fill(1);
            // A part of a page has no file of its own to share.
            let shared = (is_shared && before == whole).then(|| old.share());
            if let Some(shared) = &shared {
                let window = Window::onto(file(shared), whole);
                assert_eq!([window.read(0), window.read(before as usize - 1)], [1, 1]);
                window.write(5, 2);
            }
            drop(shared);
            let again = alloc(&cma, after).map().unwrap();
            assert_eq!(again.start(), start);
            assert!(again.iter().all(|byte| *byte == 0), "{before} {after} {is_shared}");
        }
    }
}

#[test]
fn a_chunk_is_one_file_with_its_pages_in_order() {
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let (cma, _) = region("b=12M", &mut hugetlb());
    let left = alloc(&cma, 4 << 20).share().unwrap();
    let mut right = alloc(&cma, 4 << 20).map().unwrap();
    right.fill(7);
    right[HUGE as usize] = 8;
    let start = right.start();
    let right = right.share();
    let (left, right) = (Window::onto(file(&left), 2 * HUGE), Window::onto(file(&right), 2 * HUGE));
    let second = HUGE as usize;
    assert_eq!([right.read(0), right.read(5), right.read(second)], [7, 7, 8]);
    right.write(5, 9);
    assert_eq!([left.read(0), left.read(5), left.read(second)], [0, 0, 0]);
    // A device would find them at the chunk's address.
    let first = start.get() / 4096;
    assert_eq!([right.frame(), right.frame_at(second)], [Some(first), Some(first + 512)]);
}

#[test]
fn the_holder_of_a_piece_cant_resize_it() {
    let Some(_machine) = Machine::with_huge_pages(2) else { return };
    let (cma, _) = region("b=4M", &mut hugetlb());
    let chunk = alloc(&cma, 2 << 20).share().unwrap();
    let file = file(&chunk);
    let again = reopened(&file, OFlags::RDWR).unwrap();
    for file in [file.as_fd(), again.as_fd()] {
        assert_eq!(ftruncate(file, 0), Err(Errno::PERM));
        assert_eq!(ftruncate(file, 2 * HUGE), Err(Errno::PERM));
    }
}

#[test]
fn a_chunk_that_is_not_whole_huge_pages_has_no_pieces() {
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let (cma, _) = region("b=8M", &mut hugetlb());
    let small = alloc(&cma, 64 << 10).share().unwrap();
    let error = small.pieces().unwrap_err();
    assert!(
        matches!(error, MemoryError::Granule { granule, .. } if granule.bytes() == HUGE),
        "{error}"
    );
    let rest = alloc(&cma, HUGE - (64 << 10)).share().unwrap();
    assert_eq!((rest.chunk().range().end_page() % 512, rest.start().get() % HUGE), (0, 64 << 10));
    assert!(matches!(rest.pieces(), Err(MemoryError::Granule { .. })));
    let askew = alloc(&cma, 4096).share().unwrap();
    assert_eq!(askew.start().get() % HUGE, 0);
    assert!(matches!(askew.pieces(), Err(MemoryError::Granule { .. })));
    let whole = cma.alloc("camera", None, HUGE, HUGE).unwrap().share().unwrap();
    assert_eq!(whole.pieces().unwrap().len(), 1);
}

#[test]
fn memory_that_another_process_still_maps_is_not_used_again() {
    const NAME: &str = "memory_that_another_process_still_maps_is_not_used_again";
    if role().is_some() {
        return hold_a_mapping();
    }
    let Some(_machine) = Machine::with_huge_pages(3) else { return };
    let (cma, _) = region("b=6M", &mut hugetlb());
    let shared = alloc(&cma, 4 << 20).share().unwrap();
    let start = shared.start();
    let mut other = OtherProcess::with(NAME, "hold", file(&shared).into());
    assert_eq!(other.next_line(), "mapped");
    // The other process has a mapping of one of the pages, and no descriptor.
    let shared = shared.reclaim().unwrap_err();
    drop(shared);
    let chunk = alloc(&cma, 6 << 20);
    let refused = chunk.map().unwrap_err();
    let held = PageRange::from_bytes(start, 4 << 20).unwrap();
    assert!(
        matches!(refused.error, MemoryError::Held { range } if range == held),
        "{}",
        refused.error
    );
    // The third page can be used meanwhile; the file is set aside as a whole.
    drop(refused.chunk);
    let third = alloc(&cma, 64 << 10).map().unwrap();
    assert!(!third.chunk().range().overlaps(held));
    assert!(cma.alloc("camera", None, HUGE, 0).is_err());
    drop(third);
    other.end();
    let chunk = alloc(&cma, 6 << 20).map().unwrap();
    assert!(chunk.iter().all(|byte| *byte == 0));
    assert_contiguous(&chunk);
}

/// The other process: it maps its standard input, writes to it, closes it, and waits to be killed.
fn hold_a_mapping() {
    let window = Window::onto(rustix::stdio::stdin(), HUGE);
    window.write(17, 17);
    // SAFETY: standard input is not used later.
    drop(unsafe { rustix::stdio::take_stdin() });
    say("mapped");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_read_only_descriptor_reopened_from_a_piece_holds_it_too() {
    let Some(_machine) = Machine::with_huge_pages(1) else { return };
    let (cma, _) = region("b=2M", &mut hugetlb());
    let shared = alloc(&cma, HUGE).share().unwrap();
    let reading = reopened(file(&shared), OFlags::RDONLY).unwrap();
    let shared = shared.reclaim().unwrap_err();
    drop(reading);
    let chunk = shared.reclaim().unwrap();
    assert_contiguous(&chunk.map().unwrap());
}

#[test]
fn without_leases_a_shared_page_is_never_used_again() {
    let Some(mut machine) = Machine::with_huge_pages(2) else { return };
    if let Err(why) = machine.set(LEASES, "0") {
        return skipped(&format!("{LEASES}: {why}"));
    }
    let (cma, _) = region("b=4M", &mut hugetlb());
    let shared = alloc(&cma, HUGE).share().unwrap();
    let start = shared.start();
    drop(file(&shared));
    drop(shared.reclaim().unwrap_err());
    assert!(matches!(error(alloc(&cma, 2 * HUGE)), MemoryError::Held { .. }));
    assert_ne!(alloc(&cma, HUGE).map().unwrap().start(), start, "the other page was never shared");
}

#[test]
fn a_process_that_opens_a_page_during_the_check_does_no_harm() {
    const NAME: &str = "a_process_that_opens_a_page_during_the_check_does_no_harm";
    if role().is_some() {
        // Another process of the same user, as one that inspects /proc.
        let file = reopened(rustix::stdio::stdin(), OFlags::PATH).unwrap();
        // SAFETY: standard input is not used later.
        drop(unsafe { rustix::stdio::take_stdin() });
        say("opening");
        loop {
            drop(reopened(&file, OFlags::RDWR | OFlags::NONBLOCK));
        }
    }
    let Some(_machine) = Machine::with_huge_pages(1) else { return };
    let (cma, _) = region("b=2M", &mut hugetlb());
    let mut met = 0;
    for _ in 0..20 {
        let shared = alloc(&cma, HUGE).share().unwrap();
        let mut other = OtherProcess::with(NAME, "open", file(&shared).into());
        assert_eq!(other.next_line(), "opening");
        drop(shared);
        while let Err(refused) = alloc(&cma, 4096).map() {
            assert!(matches!(refused.error, MemoryError::Held { .. }), "{}", refused.error);
            met += 1;
        }
        other.end();
    }
    assert!(met > 0, "no check met the other process");
}

#[test]
fn a_page_that_a_process_freed_is_not_allocated_to_another_process() {
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let (cma, _) = region("b=4M", &mut hugetlb());
    let shared = alloc(&cma, HUGE).share().unwrap();
    let start = shared.start();
    let piece = file(&shared);
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&piece, hole, 0, HUGE).unwrap();
    // A device that has this address still has the memory to itself.
    let pages = all_pages();
    assert_eq!(pages.len(), 4);
    assert!(pages.iter().all(|(frame, _)| *frame != start.get() / 4096));
    // The next use repairs the page, even while the pool has no other free page.
    drop((shared, piece));
    let mapped = alloc(&cma, HUGE).map().unwrap();
    assert_eq!(mapped.start(), start);
    assert_contiguous(&mapped);
    assert!(mapped.iter().all(|byte| *byte == 0));
    drop(pages);
    assert_eq!(free(POOL), 4);
}

/// A process that kept only a page in a pipe could read what the next owner of the page wrote.
#[test]
fn a_page_that_a_process_had_pinned_is_not_used_until_it_is_unpinned() {
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let (cma, _) = region("b=4M", &mut hugetlb());
    let shared = alloc(&cma, HUGE).share().unwrap();
    let start = shared.start();
    let window = Window::onto(file(&shared), HUGE);
    window.write(0, 1);
    let pipe = window.pinned();
    drop((window, shared));
    let lost = |cma: &Cma| error(alloc(cma, 2 * HUGE));
    for _ in 0..3 {
        assert!(matches!(lost(&cma), MemoryError::Lost { range } if range.start() == start));
        assert_eq!(free(POOL), 4, "the page that came in its place was returned");
    }
    // The rest of the region stays in service: a chunk moves there.
    let moved = alloc(&cma, HUGE).map().unwrap();
    assert_ne!(moved.start(), start);
    assert_contiguous(&moved);
    drop(moved);
    let mut byte = [0];
    File::from(pipe).read_exact(&mut byte).unwrap();
    assert_eq!(byte, [1], "nothing was written there");
    // Other processes may have allocated and freed pages since.
    drop(all_pages());
    while let Some(due) = cma.recover_memory() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let mapped = alloc(&cma, 2 * HUGE).map().unwrap();
    assert_contiguous(&mapped);
    assert!(mapped.iter().all(|byte| *byte == 0));
}

#[test]
fn a_process_that_grows_its_piece_reaches_no_other_memory_and_keeps_none() {
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let (cma, _) = region("b=6M", &mut hugetlb());
    let left = alloc(&cma, HUGE).map().unwrap();
    let shared = alloc(&cma, HUGE).share().unwrap();
    let mut right = alloc(&cma, HUGE).map().unwrap();
    right.fill(3);
    let piece = file(&shared);
    assert_eq!(free(POOL), 3);
    let wide = Window::onto(&piece, 3 * HUGE);
    wide.write(HUGE as usize, 5);
    wide.write(3 * HUGE as usize - 1, 5);
    assert_eq!(free(POOL), 1, "it has taken from the pool");
    assert!(left.iter().all(|byte| *byte == 0) && right.iter().all(|byte| *byte == 3));
    drop((wide, piece));
    let chunk = shared.reclaim().unwrap();
    assert_eq!(free(POOL), 3, "the pages it took were returned");
    let chunk = chunk.map().unwrap();
    assert_contiguous(&chunk);
    assert!(chunk.iter().all(|byte| *byte == 0));
}

#[test]
fn an_unregistered_region_returns_its_pages() {
    let Some(_machine) = Machine::with_huge_pages(8) else { return };
    let (cma, region) = region("ends=8M", &mut hugetlb());
    let mapped = alloc(&cma, 1 << 20).map().unwrap();
    assert_eq!((free(POOL), mappings_of_pages()), (4, 1));
    cma.region_unregister(&region).unwrap_err();
    assert_eq!(free(POOL), 4, "a live chunk keeps its region's memory");
    drop(mapped);
    cma.region_unregister(&region).unwrap();
    assert_eq!((free(POOL), open_files("cma:ends"), mappings_of_pages()), (8, 0, 0));
}

fn mappings_of_pages() -> usize {
    machine::mappings("cma:ends")
}

#[test]
fn a_region_dropped_by_a_panic_returns_its_pages() {
    let Some(_machine) = Machine::with_huge_pages(8) else { return };
    let caught = catch_unwind(|| {
        let (cma, _) = region("panics=8M", &mut hugetlb());
        let _mapped = alloc(&cma, 1 << 20).map().unwrap();
        let _shared = alloc(&cma, 1 << 20).share().unwrap();
        assert_eq!(free(POOL), 4);
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(caught.is_err());
    assert_eq!((free(POOL), open_files("cma:panics"), machine::mappings("cma:panics")), (8, 0, 0));
}

#[test]
fn regions_of_one_pool_are_disjoint_and_returned_pages_serve_another() {
    let Some(_machine) = Machine::with_huge_pages(24) else { return };
    let mut reserver = hugetlb();
    let cma = boot("a=16M;b=16M;c=16M", &mut reserver);
    assert_eq!(free(POOL), 0);
    let verified = |region: &Region| region.backing().unwrap().contiguity == Contiguity::Verified;
    assert!(cma.regions().iter().all(verified));
    let disjoint = cma.regions().windows(2).all(|two| !two[0].range().overlaps(two[1].range()));
    assert!(disjoint);
    assert!(refusal("d=2M", &mut reserver).contains("the pool has 0 free"));
    drop(cma);
    assert!(verified(&region("d=32M", &mut reserver).1));
}

#[test]
fn the_error_for_a_small_pool_says_what_it_lacks_and_the_remedy_works() {
    let Some(_machine) = Machine::with_huge_pages(3) else { return };
    let taken = total(POOL) - 3;
    let why = refusal("b=64M", &mut hugetlb());
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let expected = "it takes 32 huge pages of 2M and the pool has 3 free; as root: echo ";
    assert_eq!(why, format!("{expected}{} > {path}", taken + 32));
    assert_eq!(free(POOL), 3, "nothing is kept");
    follow(&why);
    assert_eq!(free(POOL), 32);
}

/// Each refusal gave a command that sized the pool for its own region, so that the last one undid
/// the others.
#[test]
fn refused_regions_get_one_remedy_for_all_of_them() {
    let Some(_machine) = Machine::with_huge_pages(3) else { return };
    let taken = total(POOL) - 3;
    let refused = |reserver: &mut dyn Reserver| {
        let cma = Cma::new();
        cma.command_line(Some("a=8M;odd=3M;b=16M;c=6M;d=64M"), None).unwrap();
        let early = cma.early_regions_reserve(reserver);
        early
            .iter()
            .map(|early| match early.state() {
                EarlyState::NotReserved(error) => error.to_string(),
                _ => String::new(),
            })
            .collect::<Vec<_>>()
    };
    let mut ports = Ports::new(banks(), Port::Hugetlb);
    for why in [refused(&mut hugetlb()), refused(&mut ports)] {
        let [a, odd, b, c, d] = &why[..] else { panic!("{why:?}") };
        let command =
            format!("as root: echo {} > {POOL} (room for this region and 3 more)", taken + 47);
        assert!(a.ends_with(&command), "{a}");
        assert!(odd.contains("make it 4M") && c.is_empty(), "{odd} {c}");
        for (other, free) in [(b, 3), (d, 0)] {
            let counted = format!("has {free} free; the command given for region a makes room");
            assert!(other.contains(&counted), "{other}");
        }
    }
    follow(&refused(&mut hugetlb())[0]);
    assert_eq!(total(POOL), taken + 47, "as many as all of them need");
}

/// A server with a pool of the exact size could not be restarted until the last client of the old
/// one had ended, and the error did not name that client.
#[test]
fn the_error_names_the_process_that_holds_the_missing_pages() {
    const NAME: &str = "the_error_names_the_process_that_holds_the_missing_pages";
    match role().as_deref() {
        Some("hold") => return hold_a_mapping(),
        Some("keep") => {
            say("ready");
            loop {
                std::thread::park();
            }
        }
        _ => {}
    }
    let Some(_machine) = Machine::with_huge_pages(2) else { return };
    for role in ["hold", "keep"] {
        let (cma, _) = region("left=4M", &mut hugetlb());
        let shared = alloc(&cma, HUGE).share().unwrap();
        let mut other = OtherProcess::with(NAME, role, file(&shared).into());
        other.next_line();
        drop((shared, cma));
        assert_eq!(free(POOL), 1, "the server has ended, its client has not");
        let why = refusal("b=4M", &mut hugetlb());
        let name = std::fs::read_to_string(format!("/proc/{}/comm", other.pid())).unwrap();
        let held =
            format!("has 1 free; process {} ({}) holds 2M of cma:left; ", other.pid(), name.trim());
        assert!(why.contains(&held), "{why}");
        assert!(
            why.contains("free when the process releases them or ends; as root: echo "),
            "{why}"
        );
        other.end();
        drop(region("b=4M", &mut hugetlb()));
    }
}

#[test]
fn the_error_for_a_missing_run_says_the_longest_and_the_remedy_works() {
    let Some(mut machine) = Machine::with_huge_pages(16) else { return };
    // Every third page stays allocated, so no more than two are adjacent.
    let taken: Vec<_> =
        all_pages().into_iter().enumerate().filter(|(index, _)| index % 3 == 2).collect();
    assert_eq!((taken.len(), free(POOL)), (5, 11));
    let why = refusal("b=6M", &mut hugetlb());
    let expected = "of the 11 free huge pages of 2M in the pool, at most 2 are adjacent, and it takes 3; as root: ";
    assert!(why.starts_with(expected), "{why}");
    let enough = format!("hugepagesz=2M hugepages={} on the kernel's command line", total(POOL));
    assert!(why.ends_with(&enough), "{why}");
    assert_eq!(free(POOL), 11, "nothing is kept");
    let verified = |region: Region| region.backing().unwrap().contiguity == Contiguity::Verified;
    assert!(verified(region("b=4M", &mut hugetlb()).1));
    // The remedy works where the machine has a contiguous gigabyte.
    machine.set(POOL_1G, "0").unwrap();
    follow(&why);
    if total(POOL) < 512 {
        return skipped("the machine has no contiguous gigabyte to try the remedy");
    }
    assert!(verified(region("b=6M", &mut hugetlb()).1));
}

#[test]
fn a_size_that_is_not_whole_huge_pages_is_refused_with_the_size_to_use() {
    if !Path::new(POOL).exists() {
        return skipped("the machine has no huge pages of 2M");
    }
    assert_eq!(
        refusal("fw=1M/128K", &mut hugetlb()),
        "1M is not whole huge pages of 2M: make it 2M"
    );
    let nothing = ReserveRequest {
        name: None,
        pages: Pages::ZERO,
        alignment: Alignment::PAGE,
        place: Place::Anywhere,
    };
    assert!(
        hugetlb()
            .reserve(&nothing)
            .unwrap_err()
            .to_string()
            .starts_with("0 is not whole huge pages")
    );
    assert!(
        refusal("b=2M@0x40100000", &mut hugetlb())
            .contains("starts at 0x40100000 is not whole huge pages of 2M")
    );
    assert_eq!(
        refusal("b=2M@0x40100000-0x40300000", &mut hugetlb()),
        "the window 0x40100000-0x40300000 has no 2M in whole huge pages of 2M: widen it"
    );
    let odd = Hugetlb::new(banks()).with_page_size(3 << 20);
    assert!(
        refusal("b=3M", &mut odd.clone())
            .starts_with("this machine has no huge pages of 3M; it has some of ")
    );
}

#[test]
fn a_requested_start_is_met_exactly_or_refused() {
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let pages = all_pages();
    let frames: Vec<u64> = pages.iter().map(|(frame, _)| *frame).collect();
    drop(pages);
    let Some(place) = (1..5).find(|i| frames[i + 1] == frames[*i] + 512) else {
        return skipped("no two huge pages are adjacent");
    };
    let request = |page: u64| ReserveRequest {
        name: None,
        pages: Pages::covering(2 * HUGE),
        alignment: Alignment::PAGE,
        place: Place::At(DmaAddr::new(page * 4096)),
    };
    let reserved = hugetlb().reserve(&request(frames[place])).unwrap();
    assert_eq!(reserved.range.first_page(), frames[place]);
    drop(reserved);
    let why = hugetlb().reserve(&request(frames[5] + 512)).unwrap_err().to_string();
    assert!(why.contains("long enough starts at") && why.contains("leave the start out"), "{why}");
    assert_eq!(free(POOL), 6);
}

#[test]
fn a_region_lies_within_its_window_or_is_refused() {
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let pages = all_pages();
    let frames: Vec<u64> = pages.iter().map(|(frame, _)| *frame).collect();
    drop(pages);
    let request = |first: u64, end: u64, pages: u64| ReserveRequest {
        name: None,
        pages: Pages::new(pages),
        alignment: Alignment::PAGE,
        place: Place::Within(config::Window::new(first * 4096, end * 4096).unwrap()),
    };
    // Windows that are not whole huge pages: the third page alone, and the last three.
    let third = hugetlb().reserve(&request(frames[2] - 511, frames[2] + 512, 512)).unwrap();
    assert_eq!(third.range.first_page(), frames[2]);
    drop(third);
    let last = hugetlb().reserve(&request(frames[3] - 1, frames[5] + 512, 512)).unwrap();
    assert!(frames[3..].contains(&last.range.first_page()), "{}", last.range);
    drop(last);
    let why = hugetlb()
        .reserve(&request(frames[5] + 512, frames[5] + 4096, 512))
        .unwrap_err()
        .to_string();
    assert!(why.contains("has at most 0 there") && why.contains("widen the window"), "{why}");
    let why = hugetlb().reserve(&request(frames[5], frames[5] + 1024, 1024)).unwrap_err();
    assert!(why.to_string().contains("has at most 1 there"), "{why}");
    assert_eq!(free(POOL), 6);
}

#[test]
fn no_region_of_the_board_has_the_addresses_of_physical_memory() {
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let pages = all_pages();
    let (lowest, highest) = (pages[0].0, pages[3].0 + 512);
    drop(pages);
    // A board whose memory is where the pool's pages are.
    let mut addresses =
        Banks::new(&[Bank(PageRange::from_pages(lowest, highest - lowest))], Growth::Down);
    let request = |place| ReserveRequest {
        name: None,
        pages: Pages::new(1),
        alignment: Alignment::PAGE,
        place,
    };
    let board = addresses.place(&request(Place::Anywhere)).unwrap();
    let mut ports = cma_memory::Ports::new(
        addresses,
        "b=hugetlb,simulated".parse::<cma_memory::Choice>().unwrap(),
    );
    // The pool has four pages, one of them at the address of a region of the board.
    assert!(refusal("b=8M", &mut ports).contains("the pool has 3 free"));
    let (_cma, region) = region("b=6M", &mut ports);
    assert!(!region.range().overlaps(board));
    assert_eq!(free(POOL), 1, "the page at the board's address was returned");
    let simulated = ports.reserve(&request(Place::At(region.range().start())));
    assert!(simulated.is_err(), "{simulated:?}");
}

#[test]
fn without_access_to_physical_addresses_contiguity_is_unknown() {
    const NAME: &str = "without_access_to_physical_addresses_contiguity_is_unknown";
    if role().is_some() {
        return unprivileged();
    }
    let Some(_machine) = Machine::with_huge_pages(8) else { return };
    let mut command = OtherProcess::command(NAME, "unprivileged");
    let other = OtherProcess::start({
        command.uid(65534).gid(65534);
        command
    });
    other.succeed();
}

/// The other process, as an unprivileged user.
fn unprivileged() {
    let local = 0_u8;
    assert_eq!(
        frame((&raw const local).addr()),
        Some(0),
        "this process can read physical addresses"
    );
    let odd = Banks::new(&[Bank::new(0x4000_1000, 1 << 30)], Growth::Up);
    let (cma, region) = region("b=8M", &mut Hugetlb::new(odd).with_page_size(HUGE));
    let Contiguity::Unknown(why) = region.backing().unwrap().contiguity else {
        panic!("{:?}", region.backing())
    };
    assert!(why.contains("hidden from this process") && why.contains("run it as root"), "{why}");
    assert_eq!(region.range().start(), DmaAddr::new(0x4020_0000), "the bank's, at a huge page");
    // It is memory all the same, and can be shared and reclaimed.
    let mut mapped = alloc(&cma, 2 * HUGE).map().unwrap();
    mapped.fill(1);
    let shared = mapped.share();
    let one = file(&shared);
    assert_eq!(Window::onto(&one, 2 * HUGE).read(HUGE as usize), 1);
    let shared = shared.reclaim().unwrap_err();
    drop(one);
    assert!(shared.reclaim().unwrap().map().unwrap().iter().all(|byte| *byte == 0));
    // A process that had the kernel pin a page doesn't reach its successor.
    let shared = alloc(&cma, HUGE).share().unwrap();
    let window = Window::onto(file(&shared), HUGE);
    window.write(0, 1);
    let pipe = window.pinned();
    drop(window);
    let mut mapped = shared.reclaim().unwrap().map().unwrap();
    mapped.fill(2);
    let mut byte = [0];
    File::from(pipe).read_exact(&mut byte).unwrap();
    assert_eq!((byte, mapped[0]), ([1], 2));
    drop(mapped);
    // A page that a process freed is replaced by another: its address is not a physical one.
    let shared = alloc(&cma, 4 * HUGE).share().unwrap();
    let piece = file(&shared);
    fallocate(&piece, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, HUGE).unwrap();
    drop(piece);
    // If there is no other, that is an error and no fatal signal.
    let pages = all_pages();
    let refused = shared.reclaim().unwrap().map().unwrap_err();
    assert!(matches!(refused.error, MemoryError::Lost { .. }), "{}", refused.error);
    drop(pages);
    assert!(refused.chunk.map().unwrap().iter().all(|byte| *byte == 0));
}

/// Every huge page took a descriptor, so that a chunk of 32 GiB needed 16,384.
#[test]
fn descriptors_are_as_few_as_chunks_and_a_lack_of_them_is_an_error() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    const NAME: &str = "descriptors_are_as_few_as_chunks_and_a_lack_of_them_is_an_error";
    if role().is_some() {
        // A limit is a number that descriptors stay below, and inherited ones have any numbers. The
        // region has its home, pagemap and a ring.
        let mut unused = unused_descriptors();
        let (current, maximum) = (unused.next(), unused.nth(7));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        let (cma, region) = region("few=48M", &mut hugetlb());
        assert_eq!(region.backing().unwrap().contiguity, Contiguity::Verified);
        let all = alloc(&cma, 48 << 20).share().unwrap();
        drop(file(&all));
        drop(all);
        // As many chunks as possible are shared at once. The next one gets an error.
        let mut shared = Vec::new();
        let refused = loop {
            match alloc(&cma, HUGE).share() {
                Ok(one) => shared.push(one),
                Err(refused) => break refused,
            }
        };
        assert!((2..24).contains(&shared.len()), "{}", shared.len());
        let why = refused.error.to_string();
        assert!(why.contains("raise the hard limit on open files"), "{why}");
        return;
    }
    let Some(_machine) = Machine::with_huge_pages(24) else { return };
    OtherProcess::start(OtherProcess::command(NAME, "limited")).succeed();
}

/// The numbers that no descriptor of this process has, in ascending order.
fn unused_descriptors() -> impl Iterator<Item = u64> {
    let used: BTreeSet<u64> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    (0..).filter(move |number| !used.contains(number))
}

#[test]
fn a_region_can_consist_of_pages_of_one_gib() {
    let mut machine = Machine::lock();
    if let Err(why) = machine.set(POOL_1G, "1") {
        return skipped(&format!("{POOL_1G}: {why}"));
    } else if free(POOL_1G) < 1 {
        return skipped("the machine has no contiguous gigabyte");
    }
    let (cma, region) = region("b=1G", &mut Hugetlb::new(banks()).with_page_size(1 << 30));
    assert_eq!(region.backing().unwrap().contiguity, Contiguity::Verified);
    let mut chunk = cma.alloc("camera", None, 64 << 20, 0).unwrap().map().unwrap();
    chunk.fill(1);
    assert_contiguous(&chunk);
}

#[test]
fn different_threads_can_use_chunks_of_one_huge_page() {
    let Some(_machine) = Machine::with_huge_pages(1) else { return };
    let (cma, _) = region("b=2M", &mut hugetlb());
    let work = |mine: u8| {
        let cma = cma.clone();
        move || {
            for turn in 0..200_usize {
                let mut chunk = alloc(&cma, 4096 * (1 + turn as u64 % 7)).map().unwrap();
                assert!(chunk.iter().all(|byte| *byte == 0));
                chunk.fill(mine);
                std::thread::yield_now();
                assert!(chunk.iter().all(|byte| *byte == mine));
            }
        }
    };
    let threads: Vec<_> = (1..5).map(|mine| std::thread::spawn(work(mine))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
