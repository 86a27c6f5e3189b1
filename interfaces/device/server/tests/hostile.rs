//! Hostile clients harm themselves only.

mod common;

use cma_client::Error;
use cma_device_protocol::{Answer, ChunkRequest, MESSAGE_BYTES, Message, RegionSelector, Request};
use common::{MIB, RawConnection, TestServer, alloc, eventually, with_memory};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{SendFlags, send};
use std::path::Path;
use std::time::{Duration, Instant};

/// The number of descriptors of this process that refer to that file.
fn times_open(path: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter(|link| std::fs::read_link(link.as_ref().unwrap().path()).is_ok_and(|to| to == path))
        .count()
}

/// Asserts that another client is served without delay.
fn assert_others_are_served(server: &TestServer) {
    let sent = Instant::now();
    let mut chunk = server.client().alloc("video", None, 4096, 0).unwrap().map().unwrap();
    chunk[0] = 1;
    chunk.free().unwrap();
    // Generous for a loaded machine: a server that waits for a silent client waits for ever.
    assert!(sent.elapsed() < Duration::from_secs(5));
}

fn errno(refusal: &(i32, String)) -> Errno {
    Errno::from_raw_os_error(refusal.0)
}

#[test]
fn a_malformed_message_closes_the_connection() {
    let server = TestServer::start(with_memory());
    let message = Message::request(1, &alloc("camera", 4096)).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = *message.as_bytes();
        bytes[at] = byte;
        bytes.to_vec()
    };
    for (bytes, expected) in [
        (message.as_bytes()[..MESSAGE_BYTES / 2].to_vec(), Errno::PROTO),
        ([&message.as_bytes()[..], b"x"].concat(), Errno::PROTO),
        (vec![0; 100_000], Errno::PROTO),
        (vec![b'x'], Errno::PROTO),
        (with(0, 0), Errno::PROTO),
        (with(4, 99), Errno::PROTONOSUPPORT),
        (with(6, 77), Errno::PROTO),
        (with(MESSAGE_BYTES - 1, 1), Errno::PROTO),
    ] {
        let connection = server.connection();
        connection.send_bytes(&bytes);
        assert_eq!(errno(&connection.refusal()), expected);
        assert!(connection.is_closed_after_messages());
        assert_others_are_served(&server);
    }
    // An empty message is treated as the end.
    let connection = server.connection();
    connection.send_bytes(&[]);
    assert!(connection.is_closed_after_messages());
}

#[test]
fn a_malformed_message_frees_the_clients_chunk() {
    let server = TestServer::start(with_memory());
    let connection = server.connection();
    connection.send(1, &alloc("camera", MIB));
    connection.receive().unwrap();
    assert_eq!(server.free_bytes("camera"), 63 * MIB);
    connection.send_bytes(b"nonsense");
    assert!(connection.is_closed_after_messages());
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn a_connection_has_one_chunk() {
    let server = TestServer::start(with_memory());
    let connection = server.connection();
    connection.send(1, &Request::Chunk { first: 0 });
    assert_eq!(errno(&connection.refusal()), Errno::BADFD);
    connection.send(2, &Request::Free);
    assert_eq!(errno(&connection.refusal()), Errno::BADFD);
    connection.send(3, &alloc("camera", 4096));
    connection.receive().unwrap();
    connection.send(4, &alloc("camera", 4096));
    assert_eq!(errno(&connection.refusal()), Errno::BADFD);
    connection.send(5, &Request::Chunk { first: u64::MAX });
    let message = connection.receive().unwrap();
    let Ok((5, Answer::Chunk(chunk))) = message.as_answer() else { panic!("{message:?}") };
    assert_eq!((chunk.size, chunk.pieces, chunk.extents.len()), (4096, 1, 0));
}

#[test]
fn a_client_that_does_not_read_gets_one_answer_at_a_time() {
    let server = TestServer::start(with_memory());
    for request in [alloc("camera", 4096), Request::List { after: 0 }] {
        let connection = server.connection();
        let message = Message::request(1, &request).unwrap();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = (0..1000)
            .take_while(|_| send(&connection.0, message.as_bytes(), flags).is_ok())
            .count();
        assert!(sent < 1000, "the kernel queues {sent} requests that the server does not receive");
        assert_others_are_served(&server);
        assert!(!connection.is_closed());
        // Once the client reads, each request is answered.
        for _ in 0..sent {
            connection.receive().unwrap();
        }
        assert!(!connection.has_message());
    }
    server.wait_until_free("camera", 64 * MIB);
}

/// A thread once waited a tenth of a second for each client that did not read, which delayed the
/// next clients by half a minute here.
#[test]
fn hundreds_of_clients_that_do_not_read_delay_no_other() {
    let server = TestServer::start(with_memory());
    let message = Message::request(1, &Request::List { after: 0 }).unwrap();
    let connections: Vec<RawConnection> = (0..400).map(|_| server.connection()).collect();
    let begun = Instant::now();
    for _ in 0..4 {
        for connection in &connections {
            let _ =
                send(&connection.0, message.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
        assert_others_are_served(&server);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(connections.iter().all(|connection| !connection.is_closed()));
    server.stop().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn silent_clients_and_clients_that_never_read_harm_no_other() {
    let server = TestServer::start(with_memory());
    let silent: Vec<RawConnection> = (0..200).map(|_| server.connection()).collect();
    let unreading: Vec<RawConnection> = (0..200).map(|_| server.connection()).collect();
    unreading.iter().for_each(|connection| connection.send(1, &alloc("camera", 4096)));
    assert_others_are_served(&server);
    eventually("all have their chunks", || server.free_bytes("camera") == 64 * MIB - 200 * 4096);
    drop((silent, unreading));
    server.wait_until_free("camera", 64 * MIB);
    assert_others_are_served(&server);
}

/// Sends a request with descriptors; fails if the kernel refuses them.
fn send_with(
    connection: &RawConnection,
    request: &Request<'_>,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    cma_device_protocol::wire::send(
        connection.0.as_fd(),
        &Message::request(1, request).unwrap(),
        descriptors,
    )
}

#[test]
fn descriptors_that_a_client_sends_are_closed() {
    let server = TestServer::start(with_memory());
    let connection = server.connection();
    let theirs = tempfile::NamedTempFile::new().unwrap();
    for _ in 0..100 {
        match send_with(&connection, &Request::List { after: 0 }, &[theirs.as_fd(); 50]) {
            // Linux 6.16 and newer refuse them on behalf of the server.
            Err(Errno::PERM) => connection.send(1, &Request::List { after: 0 }),
            sent => sent.unwrap(),
        }
        assert!(matches!(connection.receive().unwrap().as_answer(), Ok((1, Answer::Listed(..)))));
    }
    assert_eq!(times_open(theirs.path()), 1);
}

#[test]
fn a_connection_that_was_sent_through_itself_ends() {
    let server = TestServer::start(with_memory());
    for _ in 0..20 {
        let connection = server.connection();
        connection.send(1, &alloc("camera", MIB));
        let _ = send_with(&connection, &Request::List { after: 0 }, &[connection.0.as_fd()]);
    }
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn sockets_that_are_slow_to_close_delay_no_other_user() {
    let server = TestServer::start(with_memory());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..20 {
        // Closing the socket blocks until all data are sent, and no process reads them.
        let lingering = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let linger = |time| set_socket_linger(&lingering, time).unwrap();
        linger(Some(Duration::from_secs(1)));
        lingering.set_nonblocking(true).unwrap();
        while send(&lingering, &[0; 1 << 16], SendFlags::NOSIGNAL).is_ok() {}
        let sent = send_with(&server.connection(), &Request::Free, &[lingering.as_fd()]);
        if sent == Err(Errno::PERM) {
            // Linux 6.16 and newer refuse them on behalf of the server. On older ones this user's
            // share of the threads blocks, and no more.
            linger(None);
            return assert_others_are_served(&server);
        }
    }
}

#[test]
fn a_user_with_all_its_connections_gets_no_further_one() {
    let server =
        TestServer::with_config(with_memory(), "user-connections=100,connections=150", "*=*");
    let connections: Vec<RawConnection> = (0..1000).map(|_| server.connection()).collect();
    let refused = || connections.iter().filter(|connection| connection.has_message());
    eventually("all but a hundred are refused", || refused().count() == 900);
    for connection in refused() {
        assert_eq!(errno(&connection.refusal()), Errno::DQUOT);
        assert!(connection.is_closed_after_messages());
    }
    let refused = server.client().alloc("camera", None, 4096, 0).unwrap_err();
    assert!(
        matches!(&refused, Error::Refused { reason, .. } if reason.contains("all 100 connections of one user"))
    );
    drop(connections);
    assert_others_are_served(&server);
}

#[test]
fn limits_by_process_are_enforced_and_explained() {
    let server = TestServer::with_config(with_memory(), "chunks=2,bytes=1M", "*,@*=*");
    let client = server.client();
    let first = client.alloc("camera", None, MIB, 0).unwrap();
    let refused = client.alloc("camera", None, 1, 0).unwrap_err();
    assert_eq!(refused.errno(), Errno::DQUOT.raw_os_error());
    assert!(
        refused.to_string().starts_with("4K more are too much: the connections that process"),
        "{refused}"
    );
    drop(first);
    let _two =
        [client.alloc("camera", None, 1, 0).unwrap(), client.alloc_from("ram", 1, 0).unwrap()];
    let refused = client.alloc("camera", None, 1, 0).unwrap_err();
    assert!(refused.to_string().ends_with("opened have all 2 chunks of one process"), "{refused}");
}

#[test]
fn rules_apply_to_the_user_that_the_kernel_reports() {
    let uid = rustix::process::geteuid().as_raw();
    let rules = format!("camera=uid:{};video,@ram=uid:{uid};audio=gid:4000000000", uid + 1);
    let server = TestServer::with_config(with_memory(), "", &rules);
    let client = server.client();
    let errno = |error: Error| (Errno::from_raw_os_error(error.errno()), error.to_string());
    let (refused, reason) = errno(client.alloc("camera", Some("frame"), 4096, 0).unwrap_err());
    assert_eq!(refused, Errno::ACCESS);
    assert!(
        reason.starts_with("no rule lets user") && reason.ends_with("have memory of camera/frame"),
        "{reason}"
    );
    assert_eq!(errno(client.info("camera", None).unwrap_err()).0, Errno::ACCESS);
    assert_eq!(errno(client.alloc("audio", None, 4096, 0).unwrap_err()).0, Errno::ACCESS);
    // In a list of regions, every one needs a rule, also in a group.
    for list in ["ram,bare", "ram|bare", "bare|ram", "ram,ram| bare "] {
        assert_eq!(errno(client.alloc_from(list, 4096, 0).unwrap_err()).0, Errno::ACCESS, "{list}");
    }
    client.alloc_from("ram | ram", 4096, 0).unwrap().free().unwrap();
    client.alloc("video", None, 4096, 0).unwrap().free().unwrap();
    client.alloc_from("ram", 4096, 0).unwrap().free().unwrap();
}

#[test]
fn any_text_is_a_valid_name() {
    let server = TestServer::start(with_memory());
    let connection = server.connection();
    for device in ["\0", "\u{1b}[2J", "../../etc", "a\nb", "😀", "'; drop", "%n%s"] {
        connection.send(1, &alloc(device, 4096));
        assert!(matches!(connection.receive().unwrap().as_answer(), Ok((1, Answer::Chunk(_)))));
        connection.send(2, &Request::Free);
        connection.receive().unwrap();
    }
    server.cma.set_map(cma_framework::config::Map::default());
    connection.send(
        1,
        &Request::Alloc {
            from: RegionSelector::Device { device: "\u{1b}[2J", kind: "\n" },
            chunk: ChunkRequest::new(1),
            memory: false,
        },
    );
    let (_, reason) = connection.refusal();
    assert!(!reason.chars().any(char::is_control), "{reason:?}");
}
