//! Chunks that this process maps while other processes have them.

mod machine;

use cma_framework::memory::Piece;
use cma_memory::{Hugetlb, Memfd, map_shared};
use machine::{HUGE, Machine, OtherProcess, Window, banks, boot, mappings, role, say};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

#[test]
fn a_mapped_chunk_and_another_process_see_each_others_bytes() {
    const NAME: &str = "a_mapped_chunk_and_another_process_see_each_others_bytes";
    if role().is_some() {
        let window = Window::onto(std::io::stdin().as_fd(), 1 << 20);
        say(&window.read(70_000).to_string());
        window.write(70_001, 9);
        say("written");
        std::thread::park();
    }
    let cma = boot("both=64M", &mut Memfd::new(banks()));
    let chunk = cma.alloc("camera", None, 1 << 20, 0).unwrap().share().unwrap();
    let bytes = map_shared(&chunk).unwrap();
    bytes[70_000].store(7, Ordering::Release);
    let piece = chunk.pieces().unwrap().next().unwrap().unwrap().into_file();
    let mut other = OtherProcess::with(NAME, "window", piece);
    assert_eq!(other.next_line(), "7");
    assert_eq!(other.next_line(), "written");
    assert_eq!(bytes[70_001].load(Ordering::Acquire), 9);
}

#[test]
fn a_chunk_is_not_reclaimed_while_this_process_maps_it() {
    let cma = boot("mapped=64M", &mut Memfd::new(banks()));
    let chunk = cma.alloc("camera", None, 1 << 20, 0).unwrap().share().unwrap();
    let (head, rest) = map_shared(&chunk).unwrap().split_at(4096);
    drop(rest);
    let chunk = chunk.reclaim().unwrap_err();
    drop(head);
    assert_eq!(mappings("mapped"), 0);
    drop(chunk.reclaim().unwrap());

    // The mapping outlives the chunk, and the next chunk there has other memory.
    let chunk = cma.alloc("camera", None, 64 << 20, 0).unwrap().share().unwrap();
    let bytes = map_shared(&chunk).unwrap();
    bytes.write(0, b"first");
    drop(chunk);
    let mut next = cma.alloc("camera", None, 64 << 20, 0).unwrap().map().unwrap();
    assert!(next[..5].iter().all(|byte| *byte == 0));
    next[..5].copy_from_slice(b"other");
    let mut found = [0; 5];
    bytes.read(0, &mut found);
    assert_eq!(&found, b"first");
}

#[test]
fn huge_pages_are_mapped_in_the_order_of_the_chunk_at_a_multiple_of_their_size() {
    const PAGES: u64 = 8;
    let Some(_machine) = Machine::with_huge_pages(PAGES) else { return };
    let cma = boot(&format!("huge={}", PAGES * HUGE), &mut Hugetlb::new(banks()));
    let chunk = cma.alloc("camera", None, PAGES * HUGE, 0).unwrap().share().unwrap();
    let bytes = map_shared(&chunk).unwrap();
    assert_eq!(bytes.len() as u64, PAGES * HUGE);
    assert!((bytes.as_ptr() as u64).is_multiple_of(HUGE));
    for number in 0..PAGES as usize {
        bytes.write(number * HUGE as usize + 5, &[number as u8 + 1]);
    }
    let mut number = 0;
    for piece in chunk.pieces().unwrap().map(Result::unwrap) {
        let Piece { offset, len, .. } = piece;
        assert_eq!(offset, 0);
        let window = Window::onto(piece, len);
        for at in (5..len as usize).step_by(HUGE as usize) {
            number += 1;
            assert_eq!(window.read(at), number);
        }
    }
    assert_eq!(u64::from(number), PAGES);
}
