//! No set of users takes the last thread or the last connection from another user.

mod common;
#[path = "common/hanging.rs"]
mod hanging;

use cma_device_protocol::{Answer, Message, Request};
use common::{MIB, RawConnection, TestServer, alloc, eventually, is_root, with_memory};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// Whether the client can allocate and free a chunk with memory.
fn can_allocate(connection: &RawConnection) -> bool {
    connection.send(1, &alloc("camera", 4096));
    let (answer, memory) = connection.receive_with_descriptors().unwrap();
    let has = matches!(answer.as_answer(), Ok((1, Answer::Chunk(_)))) && memory.len() == 1;
    drop(memory);
    connection.send(2, &Request::Free);
    has && connection.receive().unwrap().as_answer() == Ok((2, Answer::Freed))
}

#[test]
fn four_users_with_requests_stuck_in_an_allocator_take_no_thread_from_a_fifth() {
    if !is_root("four_users_with_requests_stuck_in_an_allocator_take_no_thread_from_a_fifth") {
        return;
    }
    let server = TestServer::start(hanging::framework());
    let stuck: Vec<RawConnection> =
        (1001..=1004).flat_map(|uid| server.connections_of(uid, 5)).collect();
    stuck.iter().for_each(|connection| connection.send(1, &alloc("hanging", MIB)));
    eventually("one of them is stuck", || hanging::blocked_requests() == 1);
    // Serving each of these needs a thread besides the blocked ones.
    let connections = server.connections_of(1005, 20);
    for _ in 0..10 {
        assert!(connections.iter().all(can_allocate));
    }
    // The same for a refusal, which waits for the frees before it.
    connections[0].send(3, &alloc("camera", 65 * MIB));
    assert_eq!(Errno::from_raw_os_error(connections[0].refusal().0), Errno::NOMEM);
    hanging::release();
    for connection in &stuck {
        connection.receive().unwrap();
    }
}

#[test]
fn two_users_with_all_connections_and_no_chunk_lock_no_other_user_out() {
    if !is_root("two_users_with_all_connections_and_no_chunk_lock_nobody_out") {
        return;
    }
    let server =
        TestServer::with_config(with_memory(), "user-connections=20,connections=40", "*=*");
    let with_chunk = server.connections_of(1001, 1);
    with_chunk[0].send(1, &alloc("camera", MIB));
    with_chunk[0].receive_with_descriptors().unwrap();
    let silent = [server.connections_of(1001, 19), server.connections_of(1002, 20)];
    let others: Vec<RawConnection> =
        [0, 1003, 1004, 0, 1003].iter().flat_map(|uid| server.connections_of(*uid, 4)).collect();
    assert!(others.iter().all(can_allocate));
    assert!(!with_chunk[0].is_closed());
    // Each of the two users lost the connections that were silent for longest. The last ones of the
    // second user found no slot.
    for connections in &silent {
        let closed = connections.iter().take_while(|connection| connection.is_closed()).count();
        assert!((1..=15).contains(&closed), "{closed}");
        assert!(connections[closed..17].iter().all(|connection| !connection.is_closed()));
        let (errno, reason) = connections[0].refusal();
        assert_eq!(Errno::from_raw_os_error(errno), Errno::USERS);
        assert!(reason.contains("connect again"), "{reason}");
    }
}

#[test]
fn two_users_that_read_no_answer_on_any_connection_lock_no_other_user_out() {
    if !is_root("two_users_who_ask_on_all_connections_and_read_no_answer_lock_nobody_out") {
        return;
    }
    let server =
        TestServer::with_config(with_memory(), "user-connections=20,connections=40", "*=*");
    // A connection that found no slot is closed already.
    let send_if_open = |connection: &RawConnection, request: &Request<'_>| {
        let _ = send(
            &connection.0,
            Message::request(1, request).unwrap().as_bytes(),
            SendFlags::NOSIGNAL,
        );
    };
    let silent: Vec<RawConnection> =
        [1001, 1002].iter().flat_map(|uid| server.connections_of(*uid, 20)).collect();
    // One request is answered, one is deferred until the answer is read, and the others stay
    // unread.
    (0..4).for_each(|_| {
        silent.iter().for_each(|connection| send_if_open(connection, &Request::List { after: 0 }));
    });
    eventually("another user is served", || {
        let connections = server.connections_of(1003, 1);
        send_if_open(&connections[0], &alloc("camera", 4096));
        let answer = connections[0].receive_with_descriptors();
        answer.is_ok_and(|(answer, _)| matches!(answer.as_answer(), Ok((1, Answer::Chunk(_)))))
    });
}

#[test]
fn users_whose_connections_all_have_chunks_leave_some_to_others_and_to_root() {
    if !is_root("users_whose_connections_all_have_chunks_leave_some_to_others_and_to_root") {
        return;
    }
    let server =
        TestServer::with_config(with_memory(), "user-connections=32,connections=64", "*=*");
    let mut have_chunks = Vec::new();
    for uid in [1001, 1002] {
        for connection in server.connections_of(uid, 40) {
            // A connection that found no slot is closed already.
            let request = Message::request(1, &alloc("camera", 4096)).unwrap();
            let _ = send(&connection.0, request.as_bytes(), SendFlags::NOSIGNAL);
            if matches!(
                connection.receive_with_descriptors().unwrap().0.as_answer(),
                Ok((1, Answer::Chunk(_)))
            ) {
                have_chunks.push(connection);
            }
        }
    }
    assert_eq!(have_chunks.len(), 32 + 24);
    for uid in [1003, 0] {
        assert!(server.connections_of(uid, 4).iter().all(can_allocate));
    }
    assert!(have_chunks.iter().all(|connection| !connection.is_closed()));
}
