//! A server without memory refuses requests, and serves again when it has some.

#![allow(clippy::print_stdout, reason = "a skipped test prints why")]

mod common;

use cma_client::Client;
use cma_device_protocol::{Message, Request};
use cma_device_server::{Address, Limits, Rules, Server, Shutdown};
use common::{RawConnection, alloc, eventually, with_map};
use rustix::net::{SendFlags, SocketAddrUnix, send};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Read;
use std::process::{Command, Stdio};

const SOCKET: &str = "CMA_TEST_SOCKET";
const CONNECTIONS: usize = 3000;

/// The server process of the test below: it serves with little memory. Without the variable it does
/// nothing.
#[test]
fn part() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let limits = format!(
        "connections={CONNECTIONS},user-connections={CONNECTIONS},chunks={CONNECTIONS},user-chunks={CONNECTIONS}"
    );
    let (cma, limits) = (with_map("ram=64M", "bare=bare;*=ram"), Limits::parse(&limits).unwrap());
    let server = Server::bind(&Address::new(&socket), cma, limits, Rules::default()).unwrap();
    let shutdown = Shutdown::new().unwrap();
    std::thread::scope(|threads| {
        let server = threads.spawn(|| server.run(&shutdown));
        // Until the server has started all the threads that it keeps.
        let client =
            || Client::connect(&socket).and_then(|client| client.alloc("bare", None, 4096, 0));
        eventually("it serves", || client().is_ok());
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
        let little = Rlimit { current: Some((size + 1536) << 10), maximum: None };
        setrlimit(Resource::As, little).unwrap();
        std::fs::write(socket.to_str().unwrap().to_string() + ".ready", "").unwrap();
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        shutdown.begin();
        server.join().unwrap().unwrap();
    });
}

#[test]
fn a_server_without_memory_refuses_requests_and_survives() {
    let files = 2 * CONNECTIONS as u64 + 200;
    let more = Rlimit { current: Some(files), ..getrlimit(Resource::Nofile) };
    if more.maximum.is_some_and(|most| most < files) || setrlimit(Resource::Nofile, more).is_err() {
        return println!("skipped: this process can't have {files} descriptors");
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cma.sock");
    let mut server = Command::new(std::env::current_exe().unwrap());
    server.args(["--exact", "part", "--quiet"]).env(SOCKET, &socket).env("MALLOC_ARENA_MAX", "1");
    let mut server = server.stdout(Stdio::null()).stdin(Stdio::piped()).spawn().unwrap();
    eventually("the server has little memory", || dir.path().join("cma.sock.ready").exists());
    let address = SocketAddrUnix::new(&socket).unwrap();
    let request = Message::request(1, &alloc("bare", 4096)).unwrap();
    let more = Message::request(2, &Request::List { after: 0 }).unwrap();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS - 20 {
        let connection = RawConnection(cma_client::exchange::connect(&address).unwrap());
        // A chunk, and a request that is queued because its client doesn't read.
        for message in [&request, &more, &more] {
            let _ = send(&connection.0, message.as_bytes(), SendFlags::NOSIGNAL);
        }
        connections.push(connection);
    }
    eventually("all are answered", || {
        connections.iter().all(|connection| connection.has_message() || connection.is_closed())
    });
    let refused = connections.iter().filter(|connection| connection.is_closed()).count();
    assert!(server.try_wait().unwrap().is_none());
    assert!(refused > 0, "the server had memory for all");
    drop(connections);
    let client = || {
        Client::connect(&socket).and_then(|client| client.alloc("camera", None, 4096, 0)?.free())
    };
    eventually("the server serves again", || client().is_ok());
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
}
