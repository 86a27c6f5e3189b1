//! Frames in a chunk, through a pipeline of GStreamer in each of two processes.

use crate::installed::cma;
use crate::program::{Running, compiled};
use crate::seen::{EMPTY_HASH, hashed};
use crate::server::Server;
use std::collections::HashSet;
use std::process::Command;

const SIZE: u64 = 1 << 20;
const FRAME: usize = 320 * 240;

/// What a pipeline reports of a frame: its place, its bytes' hash and its file.
fn parsed(line: &str) -> (usize, usize, u64, u64) {
    let fields: Vec<&str> = line.split(' ').collect();
    let number = |index: usize| fields[index].parse().unwrap();
    (number(0) as usize, number(1) as usize, u64::from_str_radix(fields[2], 16).unwrap(), number(3))
}

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn frames_of_gstreamer_go_from_process_to_process_without_a_copy() {
    let libraries = ["gstreamer-1.0", "gstreamer-allocators-1.0", "gstreamer-app-1.0"];
    let Some(program) = compiled("frames", &libraries) else { return };
    let server = Server::of_memfd(SIZE);
    let mut exec = cma();
    exec.args(["exec", "--chunk", "frames=camera/frame/1M", "--socket"]).arg(server.socket());
    exec.arg("--").arg(&program).args(["produce", "{frames.path}", "{frames.size}"]);
    let mut producer = Running::start(&mut exec);
    let chunk = producer.chunk();
    let mut consume = Command::new(&program);
    let mut consumer = Running::start(consume.args(["consume", chunk.file(), &SIZE.to_string()]));
    producer.say("seen");
    let (mut pictures, mut slots, mut frames) = (HashSet::new(), HashSet::new(), 0);
    while let Some(line) = producer.line() {
        let (offset, len, hash, inode) = parsed(&line);
        assert_eq!((len, inode), (FRAME, chunk.inode()), "{line}");
        // The source drew into the chunk.
        let frame = chunk.read(offset, len);
        assert_eq!(hashed(EMPTY_HASH, &frame), hash);
        // The owner changes a byte, and the consumer's pipeline has the change: neither of them has
        // a copy.
        chunk.write(offset + frames, &[!frame[frames]]);
        let changed = hashed(EMPTY_HASH, &chunk.read(offset, len));
        consumer.say(&format!("{offset} {len}"));
        let line = consumer.line().unwrap_or_default();
        assert_eq!(line, format!("{offset} {len} {changed:016x} {inode}"));
        producer.say("shown");
        pictures.insert(hash);
        slots.insert(offset);
        frames += 1;
    }
    producer.succeeded();
    consumer.succeeded();
    assert_eq!(frames, 20);
    assert!(pictures.len() > 10, "the ball moves: {} pictures", pictures.len());
    assert!(slots.len() <= 4, "{slots:?}");
    drop(chunk);
    server.end();
}
