//! The cost of one chunk for another process (allocate, map, touch, free), compared with the
//! kernel's cost for the memory alone.
//!
//! `cargo bench -p cma-device-server`. The contestants alternate in rounds; the result is the
//! median of the rounds.

#[path = "../tests/common/mod.rs"]
mod common;

use cma_device_protocol::MESSAGE_BYTES;
use common::{TestServer, with_memory};
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create, open,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use std::io::Write;
use std::ptr::null_mut;
use std::time::Instant;

const SIZE: u64 = 1 << 20;
const ROUNDS: usize = 15;
/// Repetitions in each round.
const REPETITIONS: u32 = 1000;

/// Maps a whole file, touches its first byte and unmaps it.
fn touch(file: &OwnedFd) {
    let (protection, len) = (ProtFlags::READ | ProtFlags::WRITE, SIZE as usize);
    // SAFETY: the kernel chooses the address.
    let mapped = unsafe { mmap(null_mut(), len, protection, MapFlags::SHARED, file, 0) }.unwrap();
    // SAFETY: the address is mapped, and nothing else uses it.
    unsafe { mapped.cast::<u8>().write_volatile(1) };
    // SAFETY: nothing uses the mapping any more.
    unsafe { munmap(mapped, len) }.unwrap();
}

fn memfd() {
    let file = memfd_create("bench", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, SIZE).unwrap();
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
    touch(&file);
}

/// `struct dma_heap_allocation_data` of `linux/dma-heap.h`.
#[repr(C)]
struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

fn dma_heap(heap: &OwnedFd) {
    const ALLOC: libc::c_ulong = 0xc018_4800;
    let fd_flags = (OFlags::RDWR | OFlags::CLOEXEC).bits();
    let mut allocation = HeapAllocation { len: SIZE, fd: 0, fd_flags, heap_flags: 0 };
    // SAFETY: the kernel reads and writes one structure of that type.
    let status = unsafe { libc::ioctl(heap.as_raw_fd(), ALLOC, &raw mut allocation) };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just opened the descriptor for this process.
    touch(&unsafe { OwnedFd::from_raw_fd(allocation.fd as i32) });
}

/// A connection to a thread that sends every message back: the cost of a round trip without a
/// server.
fn echo() -> OwnedFd {
    let (here, there) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    std::thread::spawn(move || {
        let mut message = [0; MESSAGE_BYTES];
        while recv(&there, &mut message, RecvFlags::empty()).is_ok_and(|(_, length)| length > 0) {
            send(&there, &message, SendFlags::NOSIGNAL).unwrap();
        }
    });
    here
}

type Contestant<'c> = (&'static str, Box<dyn Fn() + 'c>);

fn main() {
    let heap = open("/dev/dma_heap/system", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let server = TestServer::start(with_memory());
    let client = server.client();
    let connection = server.connection();
    let echo = echo();
    let mut contestants: Vec<Contestant<'_>> = vec![
        ("memfd_create, seal, mmap, munmap, close: the kernel alone", Box::new(memfd)),
        (
            "a framework in this process: alloc, map, drop",
            Box::new(|| server.cma.alloc("camera", None, SIZE, 0).unwrap().map().unwrap()[0] = 1),
        ),
        (
            "512 bytes to another thread and back",
            Box::new(|| {
                send(&echo, &[0; MESSAGE_BYTES], SendFlags::NOSIGNAL).unwrap();
                recv(&echo, &mut [0; MESSAGE_BYTES], RecvFlags::empty()).unwrap();
            }),
        ),
        (
            "the server: a request and its answer, on an open connection",
            Box::new(|| {
                connection.send(1, &cma_device_protocol::Request::List { after: 0 });
                connection.receive().unwrap();
            }),
        ),
        (
            "the server: connect, alloc, map, drop",
            Box::new(|| client.alloc("camera", None, SIZE, 0).unwrap().map().unwrap()[0] = 1),
        ),
        (
            "the server: connect, alloc, map, free and wait for it",
            Box::new(|| {
                let mut mapped = client.alloc("camera", None, SIZE, 0).unwrap().map().unwrap();
                mapped[0] = 1;
                mapped.free().unwrap();
            }),
        ),
    ];
    match &heap {
        Ok(heap) => contestants.push((
            "/dev/dma_heap/system: alloc, mmap, munmap, close",
            Box::new(|| dma_heap(heap)),
        )),
        Err(error) => say(&format!("no /dev/dma_heap/system here: {error}")),
    }
    let mut rounds = vec![Vec::new(); contestants.len()];
    for _ in 0..ROUNDS {
        for ((_, work), rounds) in contestants.iter().zip(&mut rounds) {
            let begun = Instant::now();
            (0..REPETITIONS).for_each(|_| work());
            rounds.push(begun.elapsed() / REPETITIONS);
        }
    }
    say("a chunk of 1 MiB, its first page touched; microseconds, median (best, worst round)");
    for ((name, _), mut rounds) in contestants.iter().zip(rounds) {
        rounds.sort_unstable();
        let [median, best, worst] =
            [ROUNDS / 2, 0, ROUNDS - 1].map(|at| rounds[at].as_nanos() as f64 / 1000.0);
        say(&format!("{median:7.1} ({best:.1}, {worst:.1})  {name}"));
    }
}

fn say(line: &str) {
    let line = format!("{line}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}
