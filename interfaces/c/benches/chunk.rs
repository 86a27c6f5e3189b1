//! A chunk of a server by the calls of `libcma` and by those of the client in Rust: connect,
//! allocate, map, touch, free and wait for it.
//!
//! `cargo bench -p cma-c`. The two alternate in rounds; the result is the median of the rounds.

#[path = "../tests/server/mod.rs"]
mod server;

use cma::{cma_chunk_free, cma_chunk_map, cma_client_alloc, cma_client_close, cma_client_open};
use cma_client::Client;
use server::TestServer;
use std::ffi::{CString, c_int};
use std::io::Write;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Instant;

const SIZE: u64 = 1 << 20;
const ROUNDS: usize = 15;
/// Repetitions in each round.
const REPETITIONS: u32 = 1000;

fn made<T>(call: impl FnOnce(&mut MaybeUninit<T>) -> c_int) -> T {
    let mut result = MaybeUninit::uninit();
    assert_eq!(call(&mut result), 0);
    // SAFETY: a call that has succeeded has written its result.
    unsafe { result.assume_init() }
}

fn main() {
    let server = TestServer::start();
    let client = Client::connect(&server.socket).unwrap();
    let path = CString::new(server.socket.to_str().unwrap()).unwrap();
    // SAFETY: the text outlives the call.
    let from_c = made(|client| unsafe { cma_client_open(path.as_ptr(), Some(client)) });
    let in_rust = || {
        let mut mapped = client.alloc("camera", None, SIZE, 0).unwrap().map().unwrap();
        mapped[0] = 1;
        mapped.free().unwrap();
    };
    let in_c = || {
        let device = c"camera".as_ptr();
        // SAFETY: the text is static.
        let chunk = made(|chunk| unsafe {
            cma_client_alloc(from_c, device, ptr::null(), SIZE, 0, Some(chunk))
        });
        let address = made(|address| cma_chunk_map(chunk, Some(address)));
        // SAFETY: the chunk is mapped there, and nothing else uses it.
        unsafe { address.cast::<u8>().write_volatile(1) };
        assert_eq!(cma_chunk_free(chunk), 0);
    };
    let contestants: [(&str, &dyn Fn()); 2] = [("Rust", &in_rust), ("libcma", &in_c)];
    let mut rounds = contestants.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, work), rounds) in contestants.iter().zip(&mut rounds) {
            let begun = Instant::now();
            (0..REPETITIONS).for_each(|_| work());
            rounds.push(begun.elapsed() / REPETITIONS);
        }
    }
    let mut report =
        String::from("a chunk of 1 MiB of a server; microseconds, median (best, worst round)\n");
    for ((name, _), mut rounds) in contestants.iter().zip(rounds) {
        rounds.sort_unstable();
        let [median, best, worst] =
            [ROUNDS / 2, 0, ROUNDS - 1].map(|at| rounds[at].as_nanos() as f64 / 1000.0);
        report += &format!("{median:7.1} ({best:.1}, {worst:.1})  {name}\n");
    }
    std::io::stdout().write_all(report.as_bytes()).unwrap();
    assert_eq!(cma_client_close(from_c), 0);
}
