//! What both keepers guarantee to a server, with the process in a thread, and with a service
//! manager that follows `sd_notify(3)`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cma_keeper::{
    Connections, Keeper, KeeperError, KeeperProcess, Name, ServiceManager, Store, serve,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::{Errno, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, bind, connect, getsockname, listen, recv, recvmsg, send, socket_with,
};
use rustix::pipe::pipe;
use rustix::time::Timespec;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn file() -> OwnedFd {
    memfd_create("kept", MemfdFlags::CLOEXEC).unwrap()
}

fn inode(descriptor: impl AsFd) -> u64 {
    fstat(descriptor).unwrap().st_ino
}

/// Whether all write ends of a pipe are closed.
fn is_closed(read_end: &OwnedFd) -> bool {
    let limit = Timespec::default();
    poll(&mut [PollFd::new(read_end, PollFlags::empty())], Some(&limit)).unwrap() == 1
}

/// What holds descriptors while no server runs.
trait Machine {
    type Keeper: Keeper;

    /// The keeper of a new server.
    fn start(&self) -> Self::Keeper;
}

#[derive(Default)]
struct Process(Arc<Mutex<Store>>);

impl Machine for Process {
    type Keeper = KeeperProcess;

    fn start(&self) -> KeeperProcess {
        let (server, keeper) = cma_keeper::socket_pair().unwrap();
        let store = self.0.clone();
        thread::spawn(move || serve(keeper, &mut store.lock().unwrap()));
        KeeperProcess::new(server)
    }
}

type Stored = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// The part of systemd that stores descriptors.
struct Manager {
    address: SocketAddrUnix,
    stored: Stored,
    /// `FileDescriptorStoreMax=` of the unit.
    room: usize,
}

impl Manager {
    fn new() -> Self {
        let family = AddressFamily::UNIX;
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
        // The kernel chooses an abstract name.
        bind(&socket, &SocketAddrUnix::new_unnamed()).unwrap();
        let address = SocketAddrUnix::try_from(getsockname(&socket).unwrap()).unwrap();
        let stored = Stored::default();
        let of_thread = stored.clone();
        thread::spawn(move || while notified(&socket, &of_thread).is_ok() {});
        Manager { address, stored, room: 10_000 }
    }
}

/// Carries out one message.
fn notified(socket: &OwnedFd, stored: &Stored) -> Result<(), Errno> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    let length = recvmsg(socket, slices, &mut beside, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut descriptors = beside.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut these) => these.next(),
        _ => None,
    });
    let text = str::from_utf8(&bytes[..length]).unwrap();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let name = || value("FDNAME").unwrap().to_owned();
    let mut stored = stored.lock().unwrap();
    if value("FDSTORE") == Some("1") {
        assert_eq!(value("FDPOLL"), Some("0"), "{text}");
        stored.insert(0, (name(), descriptors.next().unwrap()));
    } else if value("FDSTOREREMOVE") == Some("1") {
        let name = name();
        stored.retain(|(found, _)| *found != name);
    } else {
        // The descriptor of the barrier is closed.
        assert_eq!((text, descriptors.next().is_some()), ("BARRIER=1", true));
    }
    Ok(())
}

impl Machine for Manager {
    type Keeper = ServiceManager;

    fn start(&self) -> ServiceManager {
        let stored = self.stored.lock().unwrap();
        let passed =
            stored.iter().map(|(text, descriptor)| (name(text), descriptor.try_clone().unwrap()));
        ServiceManager::new(self.address.clone(), passed, self.room).unwrap()
    }
}

fn a_descriptor_outlives_the_server_that_stored_it(machine: &impl Machine) {
    let mut server = machine.start();
    assert_eq!(server.take().unwrap().len(), 0);
    let (first, second) = (file(), file());
    server.put(&name("b"), &second).unwrap();
    server.put(&name("a"), &first).unwrap();
    let expected = [("a", inode(&first)), ("b", inode(&second))];
    drop((first, second, server));
    for _ in 0..2 {
        let taken = machine.start().take().unwrap();
        let found: Vec<_> = taken.iter().map(|(name, file)| (name.as_str(), inode(file))).collect();
        assert_eq!(found, expected, "taking leaves them stored");
    }
}

fn a_removed_descriptor_is_closed_and_its_name_free(machine: &impl Machine) {
    let mut server = machine.start();
    let (read_end, write_end) = pipe().unwrap();
    server.put(&name("pipe"), &write_end).unwrap();
    drop(write_end);
    server.remove(&name("pipe")).unwrap();
    assert!(is_closed(&read_end));
    server.put(&name("pipe"), file()).unwrap();
    server.remove(&name("pipe")).unwrap();
    drop(server);
    assert_eq!(machine.start().take().unwrap().len(), 0);
}

fn a_name_has_one_descriptor(machine: &impl Machine) {
    let mut server = machine.start();
    let (first, name) = (file(), name("journal"));
    server.put(&name, &first).unwrap();
    let in_use = Err(KeeperError::InUse { name: name.clone() });
    assert_eq!(server.put(&name, file()), in_use);
    drop(server);
    let mut server = machine.start();
    assert_eq!(inode(&server.take().unwrap()[0].1), inode(&first));
    assert_eq!(server.put(&name, file()), in_use, "the next server stored another one");
    server.remove(&name).unwrap();
    assert_eq!(server.remove(&name), Err(KeeperError::Unknown { name: name.clone() }));
}

macro_rules! guarantees {
    ($($guarantee:ident),*) => {
        mod process {
            $(#[test] fn $guarantee() { super::$guarantee(&super::Process::default()); })*
        }
        mod service_manager {
            $(#[test] fn $guarantee() { super::$guarantee(&super::Manager::new()); })*
        }
    };
}

guarantees!(
    a_descriptor_outlives_the_server_that_stored_it,
    a_removed_descriptor_is_closed_and_its_name_free,
    a_name_has_one_descriptor
);

#[test]
fn a_service_manager_says_that_it_can_not_pin() {
    let mut server = Manager::new().start();
    server.put(&name("home"), file()).unwrap();
    assert_eq!(server.pin(&name("home"), 0, 4096), Err(KeeperError::CanNotPin));
    assert_eq!(server.unpin(&name("home"), 0, 4096), Err(KeeperError::CanNotPin));
}

/// systemd drops what is too much without an answer, and can't start a server with more names than
/// a variable has room for.
#[test]
fn a_service_manager_gets_no_more_descriptors_than_it_stores_and_can_pass_on() {
    let mut manager = Manager { room: 3, ..Manager::new() };
    manager.start().put(&name("a"), file()).unwrap();
    let mut server = manager.start();
    assert_eq!(server.room(), Some(3));
    server.put(&name("b"), file()).unwrap();
    server.put(&name("c"), file()).unwrap();
    let full = server.put(&name("d"), file());
    assert_eq!(full, Err(KeeperError::Full { held: 3, bytes: None }));
    assert!(full.unwrap_err().to_string().contains("FileDescriptorStoreMax="));
    server.remove(&name("a")).unwrap();
    server.put(&name("d"), file()).unwrap();

    manager.room = usize::MAX;
    let mut server = manager.start();
    let long = |number: usize| name(&format!("{number:0100}"));
    let mut stored = 0;
    let full = loop {
        match server.put(&long(stored), file()) {
            Ok(()) => stored += 1,
            Err(full) => break full,
        }
    };
    assert!(matches!(full, KeeperError::Full { held, bytes: Some(_) } if held == stored + 3));
    let names: Vec<_> = manager.stored.lock().unwrap().iter().map(|it| it.0.clone()).collect();
    let variable = format!("LISTEN_FDNAMES={}", names.join(":"));
    assert!((130_000..131_072).contains(&variable.len()), "{}", variable.len());
}

/// A socket unit with several sockets gives all of them the same name.
#[test]
fn descriptors_that_a_service_manager_passes_under_one_name_are_all_taken() {
    let address = Manager::new().address;
    let passed =
        [("cma.socket", file()), ("cma.socket", file())].map(|(text, it)| (name(text), it));
    let mut server = ServiceManager::new(address, passed, 10).unwrap();
    let taken: Vec<_> = server.take().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(taken, [name("cma.socket"), name("cma.socket")]);
}

#[test]
fn what_is_no_request_is_refused_and_changes_nothing() {
    let (server, keeper) = cma_keeper::socket_pair().unwrap();
    let mut store = Store::default();
    thread::scope(|threads| {
        threads.spawn(|| serve(&keeper, &mut store));
        let mut client = KeeperProcess::new(server.try_clone().unwrap());
        client.put(&name("kept"), file()).unwrap();
        let requests: [&[u8]; 10] = [
            b"?",
            b"P",
            b"Pkept",
            b"Akept",
            b"Ikept",
            b"R",
            b"R\xff",
            b"Tall",
            b"D",
            &[b'R'; 4096],
        ];
        for request in requests {
            send(&server, request, SendFlags::empty()).unwrap();
            let mut answer = [0; 16];
            let (_, length) = recv(&server, &mut answer, RecvFlags::empty()).unwrap();
            let errno = Errno::PROTO.raw_os_error().to_ne_bytes();
            assert_eq!(answer[..length], [&b"X"[..], &errno].concat(), "{request:?}");
        }
        assert_eq!(client.take().unwrap().len(), 1);
        drop(server);
    });
    assert_eq!(store.names().collect::<Vec<_>>(), ["kept"]);
}

/// A listener with an abstract name, and its address.
fn listener() -> (OwnedFd, SocketAddrUnix) {
    let family = AddressFamily::UNIX;
    let socket = socket_with(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new_unnamed()).unwrap();
    listen(&socket, 1024).unwrap();
    let address = SocketAddrUnix::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, address)
}

/// A client that has sent its number.
fn client(address: &SocketAddrUnix, number: u32) -> OwnedFd {
    let family = AddressFamily::UNIX;
    let socket = socket_with(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, address).unwrap();
    send(&socket, &number.to_ne_bytes(), SendFlags::empty()).unwrap();
    socket
}

/// The number that the client at the other end has sent.
fn number_of(connection: &OwnedFd) -> u32 {
    let mut bytes = [0; 4];
    assert_eq!(recv(connection, &mut bytes, RecvFlags::empty()).unwrap(), (4, 4));
    u32::from_ne_bytes(bytes)
}

/// Waits for the next connection.
fn next(connections: &mut Connections) -> (Name, OwnedFd) {
    loop {
        if let Some(next) = connections.next().unwrap() {
            return next;
        }
        poll(&mut [PollFd::new(connections, PollFlags::IN)], None).unwrap();
    }
}

#[test]
fn no_connection_is_lost_or_given_twice_over_the_deaths_of_servers() {
    let machine = Process::default();
    let (socket, address) = listener();
    machine.start().put(&name("listener"), &socket).unwrap();
    // More than the queue of a server that doesn't receive holds.
    let clients: Vec<_> = (0..1000).map(|number| client(&address, number)).collect();
    let mut seen = Vec::new();
    for received in [0, 10, 400] {
        let mut server = machine.start();
        let taken = server.take().unwrap();
        let of_connections =
            taken.iter().filter(|(name, _)| name.as_str().starts_with("connection-"));
        for (name, connection) in of_connections {
            seen.push(number_of(connection));
            server.remove(name).unwrap();
        }
        let mut connections = server.accept_on(&name("listener")).unwrap();
        for _ in 0..received {
            let (name, connection) = next(&mut connections);
            seen.push(number_of(&connection));
            server.remove(&name).unwrap();
        }
        // It dies with connections in its queue.
        poll(&mut [PollFd::new(&connections, PollFlags::IN)], None).unwrap();
    }
    let mut server = machine.start();
    let taken = server.take().unwrap();
    assert!((2..400).contains(&taken.len()), "the backlog keeps the rest: {}", taken.len());
    let (stored, _): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|(name, _)| name.as_str() != "listener");
    seen.extend(stored.iter().map(|(_, connection)| number_of(connection)));
    let mut connections = server.accept_on(&name("listener")).unwrap();
    while seen.len() < clients.len() {
        seen.push(number_of(&next(&mut connections).1));
    }
    assert!(connections.next().unwrap().is_none());
    seen.sort_unstable();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_store_without_room_leaves_clients_in_the_backlog() {
    let machine = Process(Arc::new(Mutex::new(Store::with_room(3))));
    let (socket, address) = listener();
    let mut server = machine.start();
    server.put(&name("listener"), &socket).unwrap();
    let mut connections = server.accept_on(&name("listener")).unwrap();
    let _clients: Vec<_> = (0..3).map(|number| client(&address, number)).collect();
    let first = next(&mut connections);
    assert_eq!((first.0.as_str(), number_of(&first.1)), ("connection-1", 0));
    assert_eq!(number_of(&next(&mut connections).1), 1);
    assert_eq!(server.put(&name("chunk"), file()), Err(KeeperError::Refused(Errno::MFILE)));
    assert!(connections.next().unwrap().is_none());
    server.remove(&first.0).unwrap();
    let third = next(&mut connections);
    assert_eq!((third.0.as_str(), number_of(&third.1)), ("connection-3", 2));
}

#[test]
fn connections_are_accepted_only_at_a_stored_listener() {
    let mut server = Process::default().start();
    let unknown = KeeperError::Unknown { name: name("listener") };
    assert_eq!(server.accept_on(&name("listener")).map(drop), Err(unknown));
    server.put(&name("file"), file()).unwrap();
    let refused = Err(KeeperError::Refused(Errno::NOTSOCK));
    assert_eq!(server.accept_on(&name("file")).map(drop), refused);
    server.put(&name("socket"), cma_keeper::socket_pair().unwrap().0).unwrap();
    let refused = Err(KeeperError::Refused(Errno::INVAL));
    assert_eq!(server.accept_on(&name("socket")).map(drop), refused);
}

#[test]
fn accepted_connections_outlive_the_keeper_and_then_its_end_is_reported() {
    let (server, keeper) = cma_keeper::socket_pair().unwrap();
    let (socket, address) = listener();
    let end = keeper.try_clone().unwrap();
    let thread = thread::spawn(move || serve(keeper, &mut Store::default()));
    let mut server = KeeperProcess::new(server);
    server.put(&name("listener"), &socket).unwrap();
    let mut connections = server.accept_on(&name("listener")).unwrap();
    let _client = client(&address, 7);
    poll(&mut [PollFd::new(&connections, PollFlags::IN)], None).unwrap();
    rustix::net::shutdown(end, rustix::net::Shutdown::Both).unwrap();
    thread.join().unwrap();
    assert_eq!(number_of(&next(&mut connections).1), 7);
    let error = connections.next().map(drop).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_keeper_that_ended_is_an_error() {
    let (server, keeper) = cma_keeper::socket_pair().unwrap();
    drop(keeper);
    let mut server = KeeperProcess::new(server);
    assert_eq!(server.put(&name("a"), file()), Err(KeeperError::Ended));
    assert_eq!(server.take().map(drop), Err(KeeperError::Ended));
}

#[test]
fn names_are_those_that_every_keeper_permits() {
    for text in ["a", "connection-17", "chunk-40000000.0", "cma.socket", &"x".repeat(100)] {
        assert_eq!(Name::new(text).unwrap().as_str(), text);
    }
    for text in ["", "a:b", "a b", "a\n", "ä", &"x".repeat(101)] {
        assert!(Name::new(text).is_err(), "{text:?}");
    }
}
