//! The guarantees of ordinary memory.

mod machine;

use cma_framework::config::Place;
use cma_framework::memory::{Backing, Contiguity};
use cma_framework::reserve::{ReserveRequest, Reserved, Reserver};
use cma_framework::{
    Alignment, AllocatorChoice, Cma, MemoryError, PageRange, Pages, Plugin, SharedChunk,
};
use cma_memory::Memfd;
use machine::{
    Machine, OtherProcess, Window, banks, boot, mappings, open_files, region, role, say,
};
use rustix::fs::{Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, open};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn memory(name: &str) -> Cma {
    boot(&format!("{name}=64M"), &mut Memfd::new(banks()))
}

/// The file of a chunk of one piece. It may outlive the chunk.
fn only(shared: &SharedChunk) -> File {
    let mut pieces = shared.pieces().unwrap();
    assert_eq!(pieces.len(), 1);
    let piece = pieces.next().unwrap().unwrap();
    assert_eq!(piece.offset, 0);
    let (len, file) = (piece.len, File::from(piece.into_file()));
    assert_eq!(file.metadata().unwrap().len(), len);
    file
}

fn reopened(file: &File, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags | OFlags::CLOEXEC, Mode::empty())
}

#[test]
fn its_backing_is_memfd_without_contiguity() {
    let (_cma, region) = region("says=64M", &mut Memfd::new(banks()));
    let granule = Pages::new(1);
    assert_eq!(
        region.backing(),
        Some(Backing { kind: "memfd", contiguity: Contiguity::No, granule })
    );
}

#[test]
fn bytes_persist_and_the_next_chunk_starts_as_zero() {
    let cma = memory("bytes");
    let mut first = cma.alloc("camera", None, 3 << 20, 0).unwrap().map().unwrap();
    assert_eq!(first.len(), 3 << 20);
    assert!(first.iter().all(|byte| *byte == 0));
    first.fill(0xa5);
    assert!(first.iter().all(|byte| *byte == 0xa5));
    let start = first.start();
    drop(first);
    let second = cma.alloc("camera", None, 3 << 20, 0).unwrap().map().unwrap();
    assert_eq!(second.start(), start);
    assert!(second.iter().all(|byte| *byte == 0));
}

#[test]
fn a_chunk_takes_only_the_memory_that_was_written_to() {
    let cma = boot("lazy=512G", &mut Memfd::new(banks()));
    let mut chunk = cma.alloc("camera", None, 256 << 30, 0).unwrap().map().unwrap();
    chunk[12345] = 1;
    chunk[200 << 30] = 1;
    let file = only(&chunk.share());
    assert_eq!(file.metadata().unwrap().blocks() * 512, 2 * 4096);
}

#[test]
fn a_piece_has_the_bytes_written_before_sharing() {
    let cma = memory("before");
    let mut chunk = cma.alloc("camera", None, 8192, 0).unwrap().map().unwrap();
    chunk[5000] = 7;
    let shared = chunk.share();
    let mut byte = [0];
    only(&shared).read_exact_at(&mut byte, 5000).unwrap();
    assert_eq!(byte, [7]);
}

#[test]
fn a_piece_reaches_no_neighbour_of_its_chunk() {
    let cma = memory("apart");
    let mut chunks: Vec<_> =
        (0..3).map(|_| cma.alloc("camera", None, 8192, 0).unwrap().map().unwrap()).collect();
    chunks.iter_mut().zip(1..).for_each(|(chunk, byte)| chunk.fill(byte));
    assert_eq!(chunks[1].start().get() - chunks[0].start().get(), 8192);
    let [left, middle, right] = <[_; 3]>::try_from(chunks).unwrap();
    let file = only(&middle.share());
    let mut bytes = vec![0; 1 << 20];
    let had = file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(had, 8192);
    assert!(bytes[..had].iter().all(|byte| *byte == 2));
    file.write_all_at(&[9; 8192], 0).unwrap();
    assert!(left.iter().all(|byte| *byte == 1) && right.iter().all(|byte| *byte == 3));
}

#[test]
fn the_holder_of_a_piece_cant_resize_or_seal_it_even_after_reopening() {
    let cma = memory("sealed");
    let file = only(&cma.alloc("camera", None, 8192, 0).unwrap().share().unwrap());
    let again = File::from(reopened(&file, OFlags::RDWR).unwrap());
    for file in [&file, &again] {
        assert_eq!(ftruncate(file, 4096), Err(Errno::PERM));
        assert_eq!(ftruncate(file, 16384), Err(Errno::PERM));
        assert!(file.write_at(&[1], 8192).is_err());
        assert_eq!(fcntl_add_seals(file, SealFlags::WRITE), Err(Errno::PERM));
        assert_eq!(file.metadata().unwrap().len(), 8192);
    }
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn dropped_chunks_and_pieces_are_released() {
    let cma = memory("dropped");
    let mapped = cma.alloc("camera", None, 1 << 20, 0).unwrap().map().unwrap();
    let shared = cma.alloc("camera", None, 1 << 20, 0).unwrap().share().unwrap();
    let pieces: Vec<_> = shared.pieces().unwrap().map(|piece| piece.unwrap().into_file()).collect();
    assert_eq!((open_files("cma:dropped"), mappings("cma:dropped")), (3, 1));
    drop((mapped, shared, pieces));
    assert_eq!((open_files("cma:dropped"), mappings("cma:dropped")), (0, 0));
}

#[test]
fn chunks_dropped_by_a_panic_are_released() {
    let cma = memory("panic");
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _mapped = cma.alloc("camera", None, 1 << 20, 0).unwrap().map().unwrap();
        let _shared = cma.alloc("camera", None, 1 << 20, 0).unwrap().share().unwrap();
        assert_eq!((open_files("cma:panic"), mappings("cma:panic")), (2, 1));
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(caught.is_err());
    assert_eq!((open_files("cma:panic"), mappings("cma:panic")), (0, 0));
    assert_eq!(cma.regions()[0].status().users, 0);
}

#[test]
fn a_chunk_is_reclaimed_once_no_other_process_has_it() {
    if role().is_some() {
        return hold_a_mapping();
    }
    // Another test switches leases off.
    let _machine = Machine::lock();
    let cma = memory("reclaim");
    let shared = cma.alloc("camera", None, 8192, 0).unwrap().share().unwrap();
    let shared = shared.reclaim().map(|chunk| chunk.share().unwrap()).unwrap();

    // A descriptor, and a read-only one reopened from it.
    let file = only(&shared);
    let reading = reopened(&file, OFlags::RDONLY).unwrap();
    let shared = shared.reclaim().unwrap_err();
    drop(file);
    let shared = shared.reclaim().unwrap_err();
    drop(reading);
    let shared = shared.reclaim().map(|chunk| chunk.share().unwrap()).unwrap();

    // A mapping of another process, which has closed the descriptor.
    let name = "a_chunk_is_reclaimed_once_no_other_process_has_it";
    let mut other = OtherProcess::with(name, "hold", only(&shared).into());
    assert_eq!(other.next_line(), "mapped");
    let shared = shared.reclaim().unwrap_err();
    other.end();
    let chunk = shared.reclaim().unwrap();
    assert!(chunk.map().unwrap().iter().all(|byte| *byte == 0));
}

/// The other process: it maps its standard input, closes it, and waits to be killed.
fn hold_a_mapping() {
    let _window = Window::onto(rustix::stdio::stdin(), 8192);
    // SAFETY: standard input is not used later.
    drop(unsafe { rustix::stdio::take_stdin() });
    say("mapped");
    loop {
        std::thread::park();
    }
}

#[test]
fn the_next_chunk_at_a_place_that_is_still_held_has_other_memory() {
    let cma = memory("stale");
    let shared = cma.alloc("camera", None, 8192, 0).unwrap().share().unwrap();
    let start = shared.start();
    let stale = only(&shared);
    drop(shared);
    let mut chunk = cma.alloc("camera", None, 8192, 0).unwrap().map().unwrap();
    assert_eq!(chunk.start(), start);
    stale.write_all_at(&[1; 8192], 0).unwrap();
    assert!(chunk.iter().all(|byte| *byte == 0));
    chunk.fill(2);
    let mut byte = [0];
    stale.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [1]);
}

#[test]
fn a_dropped_region_returns_its_addresses() {
    use cma_framework::reserve::{ReserveRequest, Reserver};
    use cma_framework::{Alignment, DmaAddr};
    let mut memfd = Memfd::new(banks());
    let request = ReserveRequest {
        name: None,
        pages: Pages::new(16),
        alignment: Alignment::PAGE,
        place: Place::At(DmaAddr::new(0x4000_0000)),
    };
    let first = memfd.reserve(&request).unwrap();
    assert!(memfd.reserve(&request).unwrap_err().to_string().contains("overlaps"));
    drop(first);
    assert!(memfd.reserve(&request).is_ok());
}

/// Memory that is registered at other addresses than it was reserved at.
#[test]
fn claims_outside_of_the_regions_own_range_are_refused() {
    let request = ReserveRequest {
        name: None,
        pages: Pages::new(64),
        alignment: Alignment::PAGE,
        place: Place::Anywhere,
    };
    let Reserved { range, memory } = Memfd::new(banks()).reserve(&request).unwrap();
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    // The memory lies behind the second half of these addresses.
    let shifted = PageRange::from_pages(range.first_page() - 32, 64);
    let reserved = Reserved { range: shifted, memory };
    let region = cma.region_register_reserved(None, reserved, AllocatorChoice::Default).unwrap();
    for (outside, pages) in [(true, 16), (true, 32), (false, 16)] {
        let chunk = cma.alloc_from_region(&region, pages << 12, 0).unwrap();
        let range = chunk.range();
        match chunk.share() {
            Ok(shared) => assert!(!outside && shared.chunk().range() == range),
            Err(refused) => {
                assert!(
                    outside
                        && matches!(refused.error, MemoryError::Elsewhere { range: of } if of == range)
                );
                let _ = refused.chunk.into_addr();
            }
        }
    }
}
