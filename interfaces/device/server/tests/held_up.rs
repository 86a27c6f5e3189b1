//! What takes long, or isn't there, holds up those who need it and nobody else.

mod common;

use cma_api::{Allocator, CannotAdopt, Info, InitError, NoRoom, NotMine, PageRange, Pages, Placement, Tag};
use cma_client::Client;
use cma_device_server::{Address, Limits, Rules, Server, Shutdown};
use cma_framework::{AllocatorChoice, DmaAddr, Plugin};
use common::{BASE, MIB, Raw, Served, alloc, eventually, with_map};
use rustix::net::SocketAddrUnix;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// An allocator that thinks until it is told to stop, and then has no room.
struct Thinks;

static THINKING: AtomicUsize = AtomicUsize::new(0);
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

impl Allocator for Thinks {
    const INFO: Info = Info { name: "thinks", version: "1", description: "thinks until it is told to stop" };

    fn new(_: PageRange, _: &str) -> Result<Self, InitError> {
        Ok(Thinks)
    }

    fn allocate(&mut self, _: &cma_api::Request) -> Result<Placement, NoRoom> {
        THINKING.fetch_add(1, Ordering::SeqCst);
        let open = GATE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _open = GATE.1.wait_while(open, |open| !*open).unwrap_or_else(PoisonError::into_inner);
        Err(NoRoom)
    }

    fn free(&mut self, _: Placement) -> Result<(), NotMine> {
        Err(NotMine)
    }

    fn adopt(&mut self, _: PageRange) -> Result<Tag, CannotAdopt> {
        Err(CannotAdopt::new("it is thinking"))
    }

    fn holes(&self, _: &mut dyn FnMut(PageRange)) {}

    fn largest_hole(&self) -> Pages {
        Pages::ZERO
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn an_allocator_that_thinks_holds_up_who_asks_it_and_not_the_rest() {
    let cma = with_map("ram=64M", "thinks=thinks;*=ram");
    let choice = AllocatorChoice::Given { plugin: Plugin::built_in::<Thinks>(), params: String::new() };
    cma.region_register(Some("thinks"), DmaAddr::new(BASE + (1 << 38)), 16 * MIB, choice).unwrap();
    let served = Served::new(cma);
    let waits = served.line();
    waits.ask(1, &alloc("thinks", MIB));
    eventually("somebody waits", || THINKING.load(Ordering::SeqCst) == 1);
    // One of those who ask goes away meanwhile; it is in nobody's way.
    let leaves = served.line();
    leaves.ask(1, &alloc("thinks", MIB));
    drop(leaves);
    for _ in 0..100 {
        let mut chunk = served.client().alloc("camera", None, 64 * MIB, 0).unwrap().map().unwrap();
        chunk[0] = 1;
        drop(chunk);
    }
    assert!(!waits.is_spoken_to());
    *GATE.0.lock().unwrap() = true;
    GATE.1.notify_all();
    assert_eq!(waits.refusal().0, 12);
}

const SOCKET: &str = "CMA_TEST_SOCKET";

/// What the process of the test below does: it serves with few descriptors. On its own it does nothing.
#[test]
fn part() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let (cma, limits) =
        (with_map("ram=64M", "*=ram"), Limits::parse("connections=300,user-connections=300").unwrap());
    let server = Server::bind(&Address::new(&socket), cma, limits, Rules::default()).unwrap();
    // Fewer than when it looked.
    let fewer = Rlimit { current: Some(60), maximum: Some(1000) };
    setrlimit(Resource::Nofile, fewer).unwrap();
    let shutdown = Shutdown::new().unwrap();
    std::thread::scope(|threads| {
        let server = threads.spawn(|| server.run(&shutdown));
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        shutdown.begin();
        server.join().unwrap().unwrap();
    });
}

#[test]
fn a_server_without_descriptors_lets_clients_wait_until_there_are_some() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cma.sock");
    let mut server = Command::new(std::env::current_exe().unwrap());
    let server = server.args(["--exact", "part", "--quiet"]).env(SOCKET, &socket).stdout(Stdio::null());
    let mut server = server.stdin(Stdio::piped()).spawn().unwrap();
    eventually("the server listens", || Client::connect(&socket).is_ok());
    let address = SocketAddrUnix::new(&socket).unwrap();
    let lines: Vec<Raw> = (0..200).map(|_| Raw(cma_client::line::open(&address).unwrap())).collect();
    let late = Raw(cma_client::line::open(&address).unwrap());
    late.ask(1, &alloc("camera", 4096));
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!late.is_spoken_to());
    drop(lines);
    let (_, memory) = late.hear_with().unwrap();
    assert_eq!(memory.len(), 1);
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
}
