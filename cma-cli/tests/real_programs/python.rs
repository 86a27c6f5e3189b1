//! A frame that Python fills, and a program in C inverts.

use crate::installed::{library_folder, root};
use crate::program::{Running, client, compiled, installed, source};
use crate::seen::{EMPTY_HASH, hashed};
use crate::server::Server;

const SIZE: u64 = 1 << 20;

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn python_fills_a_frame_of_a_chunk_and_passes_it_to_a_program_in_c() {
    let (Some(python), Some(program)) = (installed("python3"), compiled("invert", &[])) else {
        return;
    };
    let server = Server::of_memfd(SIZE);
    let (offset, len) = (5000, 320 * 240);
    let mut filling = Running::start(
        client(&python, &server.socket())
            .arg(source("fill.py"))
            .args([SIZE, offset, len].map(|number| number.to_string()))
            .arg(program)
            .env("PYTHONPATH", root().join("interfaces/python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("CMA_LIBRARY", library_folder().join("libcma.so.1")),
    );
    let chunk = filling.chunk();
    filling.say("seen");
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
    drop(chunk);
    server.end();
}
