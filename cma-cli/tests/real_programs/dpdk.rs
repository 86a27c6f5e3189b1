//! A chunk as the memory of DPDK's packets.

use crate::program::{Running, client, compiled};
use crate::server::Server;
use std::collections::HashMap;

const SIZE: u64 = 8 << 20;
/// The bytes that the device writes to each packet that it receives.
const RECEIVED: usize = 64;

#[test]
#[ignore = "a real program: cargo xtask real-programs"]
fn packets_of_dpdk_move_in_a_chunk_of_huge_pages() {
    let Some(program) = compiled("packets", &["cma", "libdpdk"]) else { return };
    let Some(server) = Server::of_huge_pages(SIZE) else { return };
    let mut packets = Running::start(client(&program, &server.socket()).arg(SIZE.to_string()));
    let chunk = packets.chunk();
    // What the device receives is zero.
    chunk.write(0, &vec![0xff; SIZE as usize]);
    packets.say("filled");
    // The last packet at each place.
    let mut places = HashMap::new();
    let mut number = 0_u64;
    while let Some(line) = packets.line() {
        // DPDK prints, too.
        let Some(offset) = line.strip_prefix("packet ") else { continue };
        places.insert(offset.parse::<usize>().unwrap(), number);
        number += 1;
    }
    packets.succeeded();
    assert_eq!(number, 2048);
    assert!(places.len() >= 32, "{} places", places.len());
    for (offset, number) in places {
        let packet = chunk.read(offset, RECEIVED + 9);
        assert_eq!(packet[..RECEIVED], [0; RECEIVED], "packet {number} was not received here");
        assert_eq!(packet[RECEIVED..RECEIVED + 8], number.to_ne_bytes());
        assert_eq!(packet[RECEIVED + 8], 0xff);
    }
    drop(chunk);
    server.end();
}
