//! Clients whose requests wait for room.

mod common;

use cma_client::RemoteChunk;
use cma_device_protocol::{Answer, ChunkRequest, InfoAnswer, RegionSelector, Request};
use common::{BASE, MIB, RawConnection, TestServer, alloc, eventually, is_root, with_memory};
use rustix::io::Errno;
use std::fs;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);

/// A request for `device` that waits.
fn waits(device: &str, size: u64, wait: Duration) -> Request<'_> {
    Request::Alloc {
        from: RegionSelector::Device { device, kind: "" },
        chunk: ChunkRequest::new(size).wait(wait),
        memory: true,
    }
}

/// A client's whole region, so that every other request for it waits.
fn everything(server: &TestServer) -> RemoteChunk {
    server.client().alloc("camera", None, 64 * MIB, 0).unwrap()
}

/// Sends a request that waits, and returns when it does.
fn begin_to_wait(server: &TestServer, connection: &RawConnection, size: u64) {
    let before = server.cma.waiters().len();
    connection.send(1, &waits("camera", size, LONG));
    eventually("the request waits", || server.cma.waiters().len() == before + 1);
}

/// Receives the chunk of request 1.
fn receive_chunk(connection: &RawConnection) {
    let (message, memory) = connection.receive_with_descriptors().unwrap();
    assert!(matches!(message.as_answer(), Ok((1, Answer::Chunk(_)))), "{message:?}");
    assert_eq!(memory.len(), 1);
}

fn errno(raw: i32) -> Errno {
    Errno::from_raw_os_error(raw)
}

#[test]
fn a_client_gets_the_memory_that_its_user_frees_on_another_connection() {
    let server = TestServer::start(with_memory());
    let held = everything(&server);
    let waiting = server.connection();
    begin_to_wait(&server, &waiting, MIB);
    assert!(!waiting.has_message());
    held.free().unwrap();
    receive_chunk(&waiting);
    assert_eq!(server.cma.waiters().len(), 0);
    assert_eq!(server.free_bytes("camera"), 63 * MIB);
    waiting.send(2, &Request::Free);
    assert_eq!(waiting.receive().unwrap().as_answer(), Ok((2, Answer::Freed)));
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn waiting_clients_are_served_in_the_order_of_their_requests() {
    let server = TestServer::start(with_memory());
    let held = everything(&server);
    let connections: Vec<RawConnection> = (0..8).map(|_| server.connection()).collect();
    for connection in &connections {
        begin_to_wait(&server, connection, 40 * MIB);
    }
    drop(held);
    let mut connections = connections.into_iter();
    while let Some(first) = connections.next() {
        receive_chunk(&first);
        assert!(connections.as_slice().iter().all(|later| !later.has_message()));
        assert_eq!(server.cma.waiters().len(), connections.len());
    }
}

#[test]
fn a_client_that_ends_lets_the_next_one_have_what_it_could_not() {
    let server = TestServer::start(with_memory());
    let held = server.client().alloc("camera", None, 32 * MIB, 0).unwrap();
    let (large, small) = (server.connection(), server.connection());
    begin_to_wait(&server, &large, 64 * MIB);
    begin_to_wait(&server, &small, MIB);
    assert!(!small.has_message());
    drop(large);
    receive_chunk(&small);
    drop(held);
}

/// The threads of the servers of this process.
fn server_threads() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "cma-device").count()
}

/// The other tests of this file have servers, too. None has more than a few threads.
#[test]
fn two_hundred_waiting_clients_take_no_threads() {
    let server = TestServer::start(with_memory());
    let held = everything(&server);
    let connections: Vec<RawConnection> = (0..200).map(|_| server.connection()).collect();
    for connection in &connections {
        connection.send(1, &waits("camera", MIB / 4, LONG));
    }
    eventually("all of them wait", || server.cma.waiters().len() == 200);
    eventually("the threads are idle", || server_threads() < 100);
    // Other requests are served.
    assert_eq!(server.client().info("camera", None).unwrap().free_bytes, 0);
    assert_eq!(server.client().alloc("bare", None, MIB, 0).unwrap().size(), MIB);
    drop(held);
    connections.iter().for_each(receive_chunk);
}

#[test]
fn clients_that_are_gone_while_they_wait_leave_nothing() {
    let limits = "chunks=51,user-connections=52";
    let server = TestServer::with_config(with_memory(), limits, "*=*");
    let mut held = everything(&server);
    for _ in 0..3 {
        let connections: Vec<RawConnection> = (0..50).map(|_| server.connection()).collect();
        connections.iter().for_each(|each| each.send(1, &waits("camera", MIB, LONG)));
        eventually("all of them wait", || server.cma.waiters().len() == 50);
        drop(connections);
        eventually("none of them waits", || server.cma.waiters().is_empty());
        held.free().unwrap();
        assert_eq!(server.free_bytes("camera"), 64 * MIB);
        // They have left their chunks and their connections in the accounts.
        let client = server.client();
        let chunks: Vec<_> =
            (0..51).map(|_| client.alloc("camera", None, MIB, 0).unwrap()).collect();
        chunks.into_iter().for_each(|chunk| chunk.free().unwrap());
        held = everything(&server);
    }
}

#[test]
fn a_wait_ends_in_time_with_the_reasons_of_the_last_try() {
    let server = TestServer::start(with_memory());
    let held = everything(&server);
    let from = RegionSelector::Device { device: "camera", kind: "" };
    for wait in [Duration::ZERO, Duration::from_millis(50)] {
        let begun = Instant::now();
        let request = ChunkRequest::new(MIB).wait(wait);
        let error = server.client().allocate(from, &request).unwrap_err();
        assert_eq!(errno(error.errno()), Errno::TIMEDOUT, "{error}");
        assert!(error.to_string().contains("ram: full: 0 of 64M free"), "{error}");
        assert!(begun.elapsed() >= wait);
        assert_eq!(server.cma.waiters().len(), 0);
    }
    // Two deadlines in the reverse order of the requests.
    let (late, early) = (server.connection(), server.connection());
    late.send(1, &waits("camera", MIB, Duration::from_millis(400)));
    early.send(1, &waits("camera", MIB, Duration::from_millis(20)));
    assert_eq!(errno(early.refusal().0), Errno::TIMEDOUT);
    assert_eq!(errno(late.refusal().0), Errno::TIMEDOUT);
    drop(held);
    // The connection can be used again.
    early.send(1, &waits("camera", MIB, LONG));
    receive_chunk(&early);
}

#[test]
fn a_request_that_no_region_could_serve_is_refused_at_once() {
    let server = TestServer::start(with_memory());
    let connection = server.connection();
    connection.send(1, &waits("camera", 65 * MIB, LONG));
    let (number, reason) = connection.refusal();
    assert_eq!(errno(number), Errno::NOMEM, "{reason}");
    let chunk = ChunkRequest::new(MIB).above(BASE + (1 << 40)).wait(LONG);
    let from = RegionSelector::Device { device: "camera", kind: "" };
    connection.send(2, &Request::Alloc { from, chunk, memory: true });
    let (number, reason) = connection.refusal();
    assert_eq!(errno(number), Errno::NOMEM, "{reason}");
    assert_eq!(server.cma.waiters().len(), 0);
}

#[test]
fn a_request_waits_no_longer_than_the_server_allows() {
    let server = TestServer::with_config(with_memory(), "wait=1500ms", "*=*");
    let _held = everything(&server);
    let connection = server.connection();
    connection.send(1, &waits("camera", MIB, Duration::from_millis(1501)));
    let (number, reason) = connection.refusal();
    assert_eq!(errno(number), Errno::INVAL);
    assert!(reason.contains("lets a request wait for 1500ms at most"), "{reason}");
    connection.send(2, &waits("camera", MIB, Duration::from_millis(1500)));
    assert_eq!(errno(connection.refusal().0), Errno::TIMEDOUT);
}

#[test]
fn a_further_request_of_a_waiting_connection_is_answered_after_the_first() {
    let server = TestServer::start(with_memory());
    let held = everything(&server);
    let waiting = server.connection();
    begin_to_wait(&server, &waiting, MIB);
    waiting.send(2, &Request::Info(RegionSelector::Regions("ram")));
    waiting.send(3, &alloc("camera", MIB));
    std::thread::sleep(Duration::from_millis(20));
    assert!(!waiting.has_message());
    held.free().unwrap();
    receive_chunk(&waiting);
    let message = waiting.receive().unwrap();
    let Ok((2, Answer::Info(InfoAnswer { free_bytes, .. }))) = message.as_answer() else {
        panic!("{message:?}");
    };
    assert_eq!(free_bytes, 63 * MIB);
    assert_eq!(errno(waiting.refusal().0), Errno::BADFD);
}

#[test]
fn a_waiting_request_counts_for_its_user_until_the_client_ends() {
    let server = TestServer::with_config(with_memory(), "user-chunks=2", "*=*");
    let _held = everything(&server);
    let client = server.client();
    for _ in 0..100 {
        let waiting = server.connection();
        begin_to_wait(&server, &waiting, MIB);
        let refused = client.alloc("bare", None, MIB, 0).unwrap_err();
        assert_eq!(errno(refused.errno()), Errno::DQUOT, "{refused}");
        // The next request comes after the end of the wait, whichever thread serves it.
        drop(waiting);
        client.alloc("bare", None, MIB, 0).unwrap().free().unwrap();
    }
}

#[test]
fn a_waiting_connection_is_not_closed_to_make_room() {
    if !is_root("a_waiting_connection_is_not_closed_to_make_room") {
        return;
    }
    let server =
        TestServer::with_config(with_memory(), "connections=40,user-connections=36", "*=*");
    let held = everything(&server);
    let waiting = server.connections_of(1001, 2);
    for connection in &waiting {
        begin_to_wait(&server, connection, MIB);
    }
    let idle = server.connections_of(1001, 24);
    // More than there are slots; but user 1001 still has more of them.
    let others = server.connections_of(1002, 16);
    others[15].send(1, &Request::Info(RegionSelector::Device { device: "camera", kind: "" }));
    others[15].receive().unwrap();
    assert!(idle.iter().any(RawConnection::is_closed));
    held.free().unwrap();
    waiting.iter().for_each(receive_chunk);
}

#[test]
fn a_shutdown_ends_the_waits_with_an_error() {
    let server = TestServer::start(with_memory());
    let cma = server.cma.clone();
    let _held = everything(&server);
    let waiting: Vec<RawConnection> = (0..3).map(|_| server.connection()).collect();
    waiting.iter().for_each(|connection| begin_to_wait(&server, connection, MIB));
    server.stop().unwrap();
    for connection in &waiting {
        assert_eq!(errno(connection.refusal().0), Errno::SHUTDOWN);
        assert!(connection.is_closed_after_messages());
    }
    assert_eq!(cma.waiters().len(), 0);
}

#[test]
fn a_place_that_is_taken_is_refused_with_its_owner() {
    let server = TestServer::start(with_memory());
    let held = server.client().alloc("codec", Some("fw"), MIB, 0).unwrap();
    let from = RegionSelector::Device { device: "camera", kind: "" };
    let at = ChunkRequest::new(4096).at(held.start());
    let error = server.client().allocate(from, &at).unwrap_err();
    assert_eq!(errno(error.errno()), Errno::BUSY, "{error}");
    let process = format!("(process {} of user ", std::process::id());
    assert!(error.to_string().contains("codec/fw"), "{error}");
    assert!(error.to_string().contains(&process), "{error}");
    // It can be waited for.
    let waiting = server.connection();
    let request = Request::Alloc { from, chunk: at.wait(LONG), memory: true };
    waiting.send(1, &request);
    eventually("the request waits", || server.cma.waiters().len() == 1);
    held.free().unwrap();
    receive_chunk(&waiting);
}

#[test]
fn clients_that_end_at_any_moment_leave_nothing_while_others_are_served() {
    let server = TestServer::with_config(with_memory(), "chunks=40,user-connections=40", "*=*");
    std::thread::scope(|threads| {
        for thread in 0..4_u64 {
            let server = &server;
            threads.spawn(move || {
                let mut state = thread + 1;
                let mut below = |bound| {
                    // xorshift
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state % bound
                };
                for _ in 0..300 {
                    let connection = server.connection();
                    let size = MIB + below(50 * MIB);
                    match below(4) {
                        0 => connection.send(1, &waits("camera", size, LONG)),
                        1 => {
                            connection.send(1, &waits("camera", size, LONG));
                            std::thread::sleep(Duration::from_micros(below(1000)));
                        }
                        2 => {
                            let wait = Duration::from_micros(below(2000));
                            connection.send(1, &waits("camera", size, wait));
                            connection.receive().unwrap();
                        }
                        _ => {
                            connection.send(1, &waits("camera", size, LONG));
                            receive_chunk(&connection);
                        }
                    }
                }
            });
        }
    });
    eventually("none of them waits", || server.cma.waiters().is_empty());
    server.wait_until_free("camera", 64 * MIB);
    let client = server.client();
    let chunks: Vec<_> = (0..39).map(|_| client.alloc("camera", None, MIB, 0).unwrap()).collect();
    drop(chunks);
}
