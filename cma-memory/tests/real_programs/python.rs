//! A frame that Python fills, and a program in C inverts.

use crate::chunk::{EMPTY_HASH, TestChunk, hashed};
use crate::program::{Running, compiled, installed, source};
use std::process::Command;

const SIZE: u64 = 1 << 20;

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn python_fills_a_frame_of_a_chunk_and_passes_it_to_a_program_in_c() {
    let (Some(python), Some(program)) = (installed("python3"), compiled("invert", &[])) else {
        return;
    };
    let chunk = TestChunk::of_memfd(SIZE);
    let (offset, len) = (5000, 320 * 240);
    let place = [chunk.descriptor().unwrap() as u64, SIZE, offset, len];
    let mut filling = Running::start(
        Command::new(python).arg(source("fill.py")).args(place.map(|n| n.to_string())).arg(program),
    );
    let line = filling.line();
    filling.succeeded();
    let frame = chunk.read(offset as usize, len as usize);
    let expected: Vec<u8> = (0..len).map(|at| !((at * 7 + at / 251) as u8)).collect();
    assert!(frame == expected, "the frame's bytes are not those of the program");
    assert_eq!(line, Some(format!("{:016x}", hashed(EMPTY_HASH, &frame))));
    // Nothing beside the frame has changed.
    assert!(chunk.read(0, offset as usize).iter().all(|byte| *byte == 0));
    let after = (offset + len) as usize;
    assert!(chunk.read(after, SIZE as usize - after).iter().all(|byte| *byte == 0));
    chunk.free();
}
