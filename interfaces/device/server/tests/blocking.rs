//! Requests that block, and a server without descriptors, delay no other client.

mod common;
#[path = "common/hanging.rs"]
mod hanging;

use cma_client::Client;
use cma_device_protocol::{Answer, ChunkRequest, Message, RegionSelector, Request};
use cma_device_server::{Address, Limits, Rules, Server, Shutdown};
use common::{MIB, RawConnection, TestServer, alloc, eventually, with_map};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, SocketAddrUnix, send};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Between `fork` and `exec` a child has all descriptors of this process, and with them the chunks
/// of the other tests.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn a_blocked_allocator_delays_its_own_requests_only() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let server = TestServer::start(hanging::framework());
    let waits = server.connection();
    waits.send(1, &alloc("hanging", MIB));
    eventually("a request is blocked", || hanging::blocked_requests() == 1);
    // One of the blocked clients ends meanwhile.
    let leaves = server.connection();
    leaves.send(1, &alloc("hanging", MIB));
    drop(leaves);
    for _ in 0..100 {
        let mut chunk = server.client().alloc("camera", None, 64 * MIB, 0).unwrap().map().unwrap();
        chunk[0] = 1;
        drop(chunk);
    }
    assert!(!waits.has_message());
    hanging::release();
    assert_eq!(waits.refusal().0, 12);
}

const SOCKET: &str = "CMA_TEST_SOCKET";

/// The server process of the tests below: it serves with few descriptors. Without the variable it
/// does nothing.
#[test]
fn part() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let (cma, limits) = (
        with_map("ram=64M", "bare=bare;*=ram"),
        Limits::parse("connections=300,user-connections=300").unwrap(),
    );
    let server = Server::bind(&Address::new(&socket), cma, limits, Rules::default()).unwrap();
    // Fewer than when the server computed its limits.
    let fewer = Rlimit { current: Some(60), maximum: Some(60) };
    setrlimit(Resource::Nofile, fewer).unwrap();
    let shutdown = Shutdown::new().unwrap();
    std::thread::scope(|threads| {
        let server = threads.spawn(|| server.run(&shutdown));
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        shutdown.begin();
        server.join().unwrap().unwrap();
    });
}

/// Starts the server of `part` in a process of its own. It ends with its standard input.
fn start_with_few_descriptors(folder: &Path) -> (Child, SocketAddrUnix) {
    let socket = folder.join("cma.sock");
    let server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "part", "--quiet"])
        .env(SOCKET, &socket)
        .stdout(Stdio::null())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the server listens", || Client::connect(&socket).is_ok());
    (server, SocketAddrUnix::new(&socket).unwrap())
}

#[test]
fn a_server_without_descriptors_closes_idle_connections_for_new_ones() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (mut server, address) = start_with_few_descriptors(dir.path());
    let open = || RawConnection(cma_client::exchange::connect(&address).unwrap());
    let has_a_chunk = open();
    has_a_chunk.send(1, &alloc("camera", 4096));
    has_a_chunk.receive_with_descriptors().unwrap();
    let connections: Vec<RawConnection> = (0..200).map(|_| open()).collect();
    let late = open();
    late.send(1, &alloc("camera", 4096));
    let (_, memory) = late.receive_with_descriptors().unwrap();
    assert_eq!(memory.len(), 1);
    let closed = connections.iter().filter(|connection| connection.is_closed());
    assert!(closed.clone().count() > 140);
    assert!(!has_a_chunk.is_closed());
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_chunk_for_which_no_descriptor_is_left_gets_that_of_an_idle_connection() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (mut server, address) = start_with_few_descriptors(dir.path());
    let open = || RawConnection(cma_client::exchange::connect(&address).unwrap());
    let all: Vec<RawConnection> = (0..200).map(|_| open()).collect();
    // One that is answered was accepted. After that nobody takes what is closed.
    let is_served = |connection: &&RawConnection| {
        let request = Message::request(1, &Request::List { after: 0 }).unwrap();
        let sent = send(&connection.0, request.as_bytes(), SendFlags::NOSIGNAL).is_ok();
        sent && connection.receive().is_ok_and(|message| message.id() == 1)
    };
    let mut open: Vec<_> = all.iter().filter(is_served).collect();
    open.retain(|connection| !connection.is_closed());
    assert!(open.len() < 60, "the limit has no effect");
    // The connections that were served last are closed last.
    for (n, connection) in open.iter().rev().take(12).enumerate() {
        // Every second one may wait for room, which is a path of its own.
        let wait = (n % 2 == 1).then_some(Duration::from_secs(30));
        let chunk = ChunkRequest { wait, ..ChunkRequest::new(4096) };
        let from = RegionSelector::Device { device: "camera", kind: "" };
        connection.send(1, &Request::Alloc { from, chunk, memory: true });
        let (message, memory) = connection.receive_with_descriptors().unwrap();
        let answer = message.as_answer().unwrap().1;
        assert!(matches!(answer, Answer::Chunk(_)), "chunk {n}: {answer:?}");
        assert_eq!(memory.len(), 1);
    }
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
}

#[test]
fn without_descriptors_and_idle_connections_new_clients_wait() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (mut server, address) = start_with_few_descriptors(dir.path());
    let open = || RawConnection(cma_client::exchange::connect(&address).unwrap());
    // Each has a chunk, so the server may not close it.
    let mut connections = Vec::new();
    let late = loop {
        let connection = open();
        connection.send(1, &alloc("bare", 4096));
        let mut answered = [PollFd::new(&connection.0, PollFlags::IN)];
        if poll(&mut answered, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap() == 0 {
            break connection;
        }
        connections.push(connection);
    };
    assert!(!late.is_closed() && connections.len() > 20, "{}", connections.len());
    drop(connections);
    late.receive().unwrap();
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
}
