//! The server's socket in the file system.

mod common;

use cma_device_server::{Address, BindError, Limits, Rules, Server, Shutdown};
use cma_framework::Cma;
use common::{TestServer, with_memory};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

fn try_bind(path: &Path) -> Result<Server, BindError> {
    Server::bind(&Address::new(path), Cma::new(), Limits::default(), Rules::default())
}

/// A socket as a killed server leaves it.
fn stale(path: &Path, kind: SocketType) {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
}

#[test]
fn the_socket_of_a_killed_server_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cma.sock");
    stale(&path, SocketType::SEQPACKET);
    let server = try_bind(&path).unwrap();
    assert!(cma_client::Client::connect(&path).is_ok());
    drop(server);
    assert!(!path.exists());
}

#[test]
fn the_socket_of_a_live_server_is_not_replaced() {
    let server = TestServer::start(with_memory());
    let error = try_bind(&server.path).unwrap_err();
    assert!(matches!(error, BindError::Live { .. }), "{error}");
    server.client().alloc("camera", None, 1, 0).unwrap().free().unwrap();
    // The same for a server of another kind.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stream.sock");
    let _stream = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(try_bind(&path).unwrap_err(), BindError::Live { .. }));
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(try_bind(&path).unwrap_err(), BindError::Occupied { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    assert!(matches!(try_bind(dir.path()).unwrap_err(), BindError::Occupied { .. }));
    assert!(matches!(
        try_bind(&dir.path().join("none/there")).unwrap_err(),
        BindError::System { .. }
    ));
    let long = dir.path().join("x".repeat(120));
    assert!(matches!(try_bind(&long).unwrap_err(), BindError::System { .. }));
}

#[test]
fn the_socket_has_the_given_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cma.sock");
    for (address, mode) in [(Address::new(&path), 0o666), (Address::new(&path).mode(0o620), 0o620)]
    {
        let _server =
            Server::bind(&address, Cma::new(), Limits::default(), Rules::default()).unwrap();
        let file = std::fs::metadata(&path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_server_removes_its_own_socket_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cma.sock");
    let first = try_bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = try_bind(&path).unwrap();
    drop(first);
    assert!(cma_client::Client::connect(&path).is_ok());
    drop(second);
    assert!(!path.exists());
}

#[test]
fn of_servers_that_start_at_once_one_gets_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cma.sock");
    for _ in 0..20 {
        stale(&path, SocketType::SEQPACKET);
        let servers: Vec<_> = std::thread::scope(|threads| {
            let all: Vec<_> = (0..4).map(|_| threads.spawn(|| try_bind(&path).ok())).collect();
            all.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(servers.len(), 1);
        drop(servers);
    }
}

#[test]
fn a_shutdown_that_began_before_the_server_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let shutdown = Shutdown::new().unwrap();
    shutdown.begin();
    shutdown.begin();
    try_bind(&dir.path().join("cma.sock")).unwrap().run(&shutdown).unwrap();
    try_bind(&dir.path().join("cma.sock")).unwrap().run(&shutdown).unwrap();
}

#[test]
fn a_socket_file_is_removed_for_its_own_server_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cma.sock");
    let first = try_bind(&path).unwrap();
    let file = first.socket_file();
    file.remove();
    assert!(!path.exists());
    let second = try_bind(&path).unwrap();
    file.remove();
    drop(first);
    assert!(path.exists());
    file.remove();
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}
