//! Limits and rules that are replaced while the server runs, and sockets that are passed on.

mod common;

use cma_client::Client;
use cma_device_server::{Address, BindError, Limits, Rules, Server, Shutdown};
use common::{MIB, with_memory};
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

/// Runs `server` while `test` uses it.
fn running(server: Server, test: impl FnOnce()) {
    let shutdown = Shutdown::new().unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| server.run(&shutdown));
        test();
        shutdown.begin();
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn new_limits_and_rules_hold_for_the_next_request_and_take_nothing_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cma.sock");
    let address = Address::new(&path);
    let server =
        Server::bind(&address, with_memory(), Limits::default(), Rules::default()).unwrap();
    let settings = server.settings();
    running(server, || {
        let client = Client::connect(&path).unwrap();
        let first = client.alloc("camera", None, MIB, 0).unwrap();
        let second = client.alloc("camera", None, MIB, 0).unwrap();
        settings.set_limits(Limits::parse("user-chunks=1").unwrap());
        let error = client.alloc("camera", None, MIB, 0).unwrap_err().to_string();
        assert!(error.contains("all 1 chunks of one user"), "{error}");
        assert_eq!((first.size(), second.size()), (MIB, MIB));
        settings.set_limits(Limits::default());
        settings.set_rules(Rules::parse("video=*").unwrap());
        let error = client.alloc("camera", None, MIB, 0).unwrap_err().to_string();
        assert!(error.contains("memory of camera"), "{error}");
        let third = client.alloc("video", None, MIB, 0).unwrap();
        first.free().unwrap();
        second.free().unwrap();
        third.free().unwrap();
    });
}

#[test]
fn the_socket_belongs_to_the_group_of_its_address() {
    if !common::is_root("the_socket_belongs_to_the_group_of_its_address") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cma.sock");
    let address = Address::new(&path).mode(0o660).group(7);
    let server =
        Server::bind(&address, with_memory(), Limits::default(), Rules::default()).unwrap();
    let file = std::fs::metadata(&path).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o777), (7, 0o660));
    drop(server);
}

fn on_socket(socket: impl Into<OwnedFd>) -> Result<Server, BindError> {
    Server::on_socket(socket.into(), with_memory(), Limits::default(), Rules::default())
}

fn listening(path: &Path) -> OwnedFd {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None)
            .unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 8).unwrap();
    socket
}

#[test]
fn a_server_serves_on_a_socket_that_was_passed_on_and_leaves_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cma.sock");
    let server = on_socket(listening(&path)).unwrap();
    assert_eq!(server.path(), path);
    running(server, || {
        let client = Client::connect(&path).unwrap();
        client.alloc("camera", None, MIB, 0).unwrap().free().unwrap();
    });
    assert!(path.exists());
}

#[test]
fn a_socket_that_serves_nobody_is_refused_and_the_error_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let refused = |socket: OwnedFd, expected: &str| {
        let error = on_socket(socket).unwrap_err();
        assert!(matches!(error, BindError::Unsuitable { found } if found == expected), "{error}");
    };
    refused(tempfile::tempfile().unwrap().into(), "no socket");
    refused(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(), "no Unix socket");
    refused(UnixListener::bind(path("stream")).unwrap().into(), "of another type");
    refused(UnixStream::pair().unwrap().0.into(), "of another type");
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None)
            .unwrap();
    bind(&socket, &SocketAddrUnix::new(path("silent")).unwrap()).unwrap();
    refused(socket, "not listening");
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None)
            .unwrap();
    bind(
        &socket,
        &SocketAddrUnix::new_abstract_name(path("a").as_os_str().as_encoded_bytes()).unwrap(),
    )
    .unwrap();
    listen(&socket, 8).unwrap();
    refused(socket, "without a path");
}
