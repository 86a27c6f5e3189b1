//! Pictures that ffmpeg's decoder writes into a chunk.

use crate::program::{Running, client, compiled};
use crate::seen::{EMPTY_HASH, hashed};
use crate::server::Server;
use std::collections::HashSet;

const SIZE: u64 = 2 << 20;
/// 24 frames of three planes.
const PLANES: usize = 24 * 3;

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn a_decoder_of_ffmpeg_writes_its_pictures_into_a_chunk() {
    let libraries = ["cma", "libavcodec", "libavutil"];
    let Some(program) = compiled("decode", &libraries) else { return };
    let server = Server::of_memfd(SIZE);
    let mut decoder = Running::start(client(&program, &server.socket()).arg(SIZE.to_string()));
    let chunk = decoder.chunk();
    decoder.say("seen");
    let (mut planes, mut pictures) = (0, HashSet::new());
    while let Some(line) = decoder.line() {
        let (place, hash) = line.rsplit_once(' ').unwrap();
        let hash = u64::from_str_radix(hash, 16).unwrap();
        let place: Vec<usize> = place.split(' ').map(|field| field.parse().unwrap()).collect();
        let [offset, stride, width, height] = place[..] else { panic!("{line}") };
        let rows = (0..height).map(|row| chunk.read(offset + row * stride, width));
        let seen = rows.fold(EMPTY_HASH, |hash, row| hashed(hash, &row));
        assert_eq!(seen, hash, "plane {planes} at {offset}");
        pictures.insert(hash);
        planes += 1;
        if planes % 3 == 0 {
            decoder.say("shown");
        }
    }
    decoder.succeeded();
    assert_eq!((planes, pictures.len()), (PLANES, PLANES), "every picture is another one");
    drop(chunk);
    server.end();
}
