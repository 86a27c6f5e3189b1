//! A chunk of huge pages is one file, whatever other processes do to the pool and to the file.

mod machine;

use cma_framework::config::Bytes;
use cma_framework::memory::Contiguity;
use cma_framework::{ChunkRequest, Cma, DmaAddr, MemoryError, SharedChunk, Source};
use cma_memory::Hugetlb;
use machine::{
    HUGE, Machine, OtherProcess, POOL, Window, banks, follow, frame, free, mappings, open_files,
    region, role, say, total,
};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Instant;

const PAGE: usize = HUGE as usize;

fn hugetlb() -> Hugetlb {
    Hugetlb::new(banks()).with_page_size(HUGE)
}

/// A chunk of huge pages, at `page` of the region that starts at `start`.
fn share_at(cma: &Cma, start: DmaAddr, page: u64, pages: u64) -> SharedChunk {
    let at = start.checked_add(page * HUGE).unwrap();
    let request = ChunkRequest::new(Bytes(pages * HUGE)).at(at);
    let camera = Source::Device { name: "camera", kind: None };
    cma.allocate(camera, &request).unwrap().share().unwrap()
}

/// The pieces of a chunk, with their lengths.
fn pieces(shared: &SharedChunk) -> Vec<(Window, u64)> {
    let pieces = shared.pieces().unwrap().map(Result::unwrap);
    pieces
        .map(|piece| {
            assert_eq!(piece.offset, 0);
            let len = piece.len;
            (Window::onto(piece.into_file(), len), len)
        })
        .collect()
}

fn one_file(shared: &SharedChunk) -> OwnedFd {
    let mut pieces = shared.pieces().unwrap();
    assert_eq!(pieces.len(), 1);
    pieces.next().unwrap().unwrap().into_file()
}

/// Checks that every page of a chunk is where its address says, in its pieces, and zero; then
/// writes to it.
fn use_all(shared: &SharedChunk) -> usize {
    let (mut expected, pieces) = (shared.start().get() / 4096, pieces(shared));
    for (window, len) in &pieces {
        for at in (0..*len as usize).step_by(PAGE) {
            assert_eq!(window.frame_at(at), Some(expected));
            expected += HUGE / 4096;
            for at in (at..at + PAGE).step_by(511) {
                assert_eq!(window.read(at), 0);
                window.write(at, 0xa5);
            }
        }
    }
    assert_eq!(expected * 4096, shared.start().get() + shared.chunk().size());
    pieces.len()
}

/// Rechecks what was set aside until nothing is.
fn recover(cma: &Cma) {
    while let Some(due) = cma.recover_memory() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn all_of_64_pages_are_in_one_file_where_the_chunk_says_each_time() {
    let Some(_machine) = Machine::with_huge_pages(64) else { return };
    let (cma, region) = region("b=128M", &mut hugetlb());
    let start = region.range().start();
    for _ in 0..2 {
        assert_eq!(use_all(&share_at(&cma, start, 0, 64)), 1);
        for (page, pages) in [(0, 1), (1, 30), (31, 2), (33, 31), (5, 40)] {
            assert_eq!(use_all(&share_at(&cma, start, page, pages)), 1);
        }
    }
    assert_eq!(free(POOL), 0);
}

#[test]
fn another_user_of_the_pool_never_misplaces_a_page_and_none_stays_lost() {
    const NAME: &str = "another_user_of_the_pool_never_misplaces_a_page_and_none_stays_lost";
    if role().is_some() {
        return use_the_pool();
    }
    let Some(_machine) = Machine::with_huge_pages(12) else { return };
    let (cma, _) = region("b=16M", &mut hugetlb());
    let mut other = OtherProcess::start(OtherProcess::command(NAME, "use the pool"));
    assert_eq!(other.next_line(), "using");
    let (mut shared, mut refused) = (0, 0);
    for turn in 0..400 {
        let Ok(chunk) = cma.alloc("camera", None, (1 + turn % 5) * HUGE, 0) else {
            refused += 1;
            cma.recover_memory();
            continue;
        };
        match chunk.share() {
            Ok(chunk) => {
                use_all(&chunk);
                shared += 1;
            }
            Err(error) => {
                assert!(matches!(error.error, MemoryError::Lost { .. }), "{}", error.error);
                refused += 1;
            }
        }
    }
    assert!(shared > 0, "{refused} were refused");
    other.end();
    recover(&cma);
    let all = cma.alloc("camera", None, 8 * HUGE, 0).unwrap().share().unwrap();
    assert_eq!((use_all(&all), free(POOL)), (1, 4));
}

/// The other process: it takes pages out of the pool and returns them, without a pause.
fn use_the_pool() {
    let mut taken: Vec<OwnedFd> = Vec::new();
    for turn in 0_usize.. {
        let file =
            memfd_create("other", MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB | MemfdFlags::CLOEXEC)
                .unwrap();
        ftruncate(&file, HUGE).unwrap();
        if fallocate(&file, FallocateFlags::empty(), 0, HUGE).is_ok() {
            taken.push(file);
        }
        if turn % 3 == 2 {
            taken.clear();
        }
        if turn == 0 {
            say("using");
        }
    }
}

#[test]
fn a_pinned_page_of_a_chunk_is_set_aside_and_the_others_are_used() {
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let (cma, region) = region("b=8M", &mut hugetlb());
    let start = region.range().start();
    let shared = share_at(&cma, start, 0, 4);
    let window = Window::onto(one_file(&shared), 4 * HUGE);
    window.write(2 * PAGE, 7);
    let pipe = window.pinned_at(2 * PAGE);
    drop((window, shared));
    let all = cma.alloc("camera", None, 4 * HUGE, 0).unwrap();
    let (error, pinned) = (all.share().unwrap_err().error, start.checked_add(2 * HUGE).unwrap());
    assert!(matches!(error, MemoryError::Lost { range } if range.start() == pinned), "{error}");
    let left = share_at(&cma, start, 0, 2);
    let right = share_at(&cma, start, 3, 1);
    assert_eq!((use_all(&left), use_all(&right)), (1, 1));
    drop((left, right));
    let mut byte = [0];
    File::from(pipe).read_exact(&mut byte).unwrap();
    assert_eq!(byte, [7], "no other chunk was there");
    recover(&cma);
    assert_eq!(use_all(&share_at(&cma, start, 0, 4)), 1);
    assert_eq!(free(POOL), 2);
}

#[test]
fn no_part_of_a_pinned_page_serves_a_small_chunk() {
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let (cma, region) = region("b=6M", &mut hugetlb());
    let start = region.range().start();
    let shared = share_at(&cma, start, 0, 3);
    let window = Window::onto(one_file(&shared), 3 * HUGE);
    window.write(PAGE, 7);
    let pipe = window.pinned_at(PAGE);
    drop((window, shared));
    // On the last 64 KiB of the first page and the first ones of the second.
    let at = start.checked_add(HUGE - (64 << 10)).unwrap();
    let request = ChunkRequest::new(Bytes(128 << 10)).at(at);
    let small = || {
        let camera = Source::Device { name: "camera", kind: None };
        cma.allocate(camera, &request).unwrap().map()
    };
    let error = small().unwrap_err().error;
    let pinned = start.checked_add(HUGE).unwrap();
    assert!(matches!(error, MemoryError::Lost { range } if range.start() == pinned), "{error}");
    drop(pipe);
    let mut mapped = small().unwrap();
    assert!(mapped.iter().all(|byte| *byte == 0));
    for part in [0, 64 << 10] {
        let expected = (mapped.start().get() + part) / 4096;
        assert_eq!(frame(mapped.as_ptr().addr() + part as usize), Some(expected));
    }
    mapped.fill(1);
    drop(mapped);
    assert_eq!((use_all(&share_at(&cma, start, 0, 3)), free(POOL)), (1, 1));
}

#[test]
fn a_punched_hole_is_filled_with_its_own_page_also_when_the_process_has_filled_it() {
    let Some(_machine) = Machine::with_huge_pages(7) else { return };
    let (cma, region) = region("b=8M", &mut hugetlb());
    let start = region.range().start();
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for fills_it in [false, true] {
        let shared = share_at(&cma, start, 0, 4);
        let file = one_file(&shared);
        fallocate(&file, hole, HUGE, 2 * HUGE).unwrap();
        if fills_it {
            Window::onto(&file, 4 * HUGE).write(PAGE, 1);
            assert_eq!(free(POOL), 1, "the pages are pinned: the pool has not got them");
        }
        drop((file, shared));
        assert_eq!(use_all(&share_at(&cma, start, 1, 3)), 1);
        assert_eq!(use_all(&share_at(&cma, start, 0, 4)), 1);
        assert_eq!(free(POOL), 3);
    }
}

#[test]
fn a_grown_file_reaches_no_other_chunk_and_the_pool_gets_its_pages_back() {
    let Some(_machine) = Machine::with_huge_pages(7) else { return };
    let (cma, region) = region("b=8M", &mut hugetlb());
    let start = region.range().start();
    let (left, right) = (share_at(&cma, start, 0, 2), share_at(&cma, start, 2, 2));
    let other = Window::onto(one_file(&right), 2 * HUGE);
    other.write(0, 3);
    let grown = Window::onto(one_file(&left), 4 * HUGE);
    assert_eq!(free(POOL), 1, "it has taken from the pool");
    grown.write(2 * PAGE, 9);
    assert_eq!(other.read(0), 3);
    drop(grown);
    let left = left.reclaim().unwrap();
    assert_eq!(free(POOL), 3);
    assert_eq!(use_all(&left.share().unwrap()), 1);
}

/// The files of freed chunks keep their pages, so that these are cleared once for each chunk; but
/// not so many files that the process lacks descriptors.
#[test]
fn the_files_of_freed_chunks_are_few() {
    let Some(_machine) = Machine::with_huge_pages(20) else { return };
    let (cma, region) = region("few=40M", &mut hugetlb());
    assert_eq!(region.backing().unwrap().contiguity, Contiguity::Verified);
    let start = region.range().start();
    assert_eq!(open_files("cma:few"), 1);
    // A chunk as large as the region and the pool has a file of its own, too: pages return to the
    // region's.
    use_all(&share_at(&cma, start, 0, 20));
    assert_eq!(open_files("cma:few"), 2);
    for page in (0..20).chain((0..20).rev()) {
        use_all(&share_at(&cma, start, page, 1));
        assert!(open_files("cma:few") <= 1 + 16);
    }
    assert_eq!(use_all(&share_at(&cma, start, 0, 20)), 1);
    assert_eq!((open_files("cma:few"), mappings("cma:few")), (2, 1));
    drop(cma);
    drop(region);
    assert_eq!((open_files("cma:few"), free(POOL)), (0, 20));
}

/// The kernel removes a freed page from a pool that was made smaller than what is in use.
#[test]
fn in_a_pool_that_was_made_smaller_no_page_is_lost_and_the_remedy_works() {
    let Some(mut machine) = Machine::with_huge_pages(4) else { return };
    let (cma, _) = region("b=8M", &mut hugetlb());
    let chunk = cma.alloc("camera", None, 2 * HUGE, 0).unwrap();
    let pages = total(POOL);
    machine.set(POOL, &(pages - 4).to_string()).unwrap();
    let refused = chunk.share().unwrap_err();
    let why = refused.error.to_string();
    assert!(why.contains("the pool has 4 more than it is set to"), "{why}");
    assert!(why.ends_with(&format!("; as root: echo {pages} > {POOL}")), "{why}");
    follow(&why);
    assert_eq!(use_all(&refused.chunk.share().unwrap()), 1);
    assert_eq!(use_all(&cma.alloc("camera", None, 4 * HUGE, 0).unwrap().share().unwrap()), 1);
}

/// A chunk that is mapped has its file from the beginning, so its pages stay when it is shared.
#[test]
fn a_mapped_chunk_keeps_its_pages_and_bytes_when_it_is_shared() {
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let (cma, _) = region("b=8M", &mut hugetlb());
    for byte in 1..4 {
        let mut mapped = cma.alloc("camera", None, 3 * HUGE, 0).unwrap().map().unwrap();
        assert!(mapped.iter().all(|byte| *byte == 0));
        mapped.fill(byte);
        let shared = mapped.share();
        let window = Window::onto(one_file(&shared), 3 * HUGE);
        assert!((0..3 * PAGE).step_by(509).all(|at| window.read(at) == byte));
        assert_eq!(window.frame(), Some(shared.start().get() / 4096));
        // Parts of the same pages serve small chunks later.
        drop((window, shared));
        let mut small = cma.alloc("camera", None, 3 << 20, 0).unwrap().map().unwrap();
        assert!(small.iter().all(|byte| *byte == 0));
        small.fill(byte);
    }
}
