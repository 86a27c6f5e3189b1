//! Shared by the server's tests: a framework with memory, a server for it, and a raw client.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its part")]
#![allow(clippy::print_stdout, reason = "a skipped test prints why")]

mod piecewise;

use cma_client::Client;
use cma_device_protocol::wire::{self, Descriptors, ReceiveError};
use cma_device_protocol::{Answer, ChunkRequest, Message, RegionSelector, Request};
use cma_device_server::{Address, Limits, Rules, Server, Shutdown};
use cma_framework::config::{Bank, Growth};
use cma_framework::reserve::{Banks, Reserver};
use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin};
use cma_memory::Memfd;
pub use piecewise::PiecewiseMemory;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::SocketAddrUnix;
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const BASE: u64 = 0x4000_0000;
pub const MIB: u64 = 1 << 20;

/// Banks with more addresses than any test needs.
pub fn banks() -> Banks {
    Banks::new(&[Bank::new(BASE, 1 << 36)], Growth::Up)
}

/// A framework with these regions and the allocator best fit.
pub fn framework(regions: &str, map: &str, reserver: &mut dyn Reserver) -> Cma {
    let cma = framework_without_allocator(regions, map, reserver);
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    cma
}

/// A framework with these regions.
pub fn framework_without_allocator(regions: &str, map: &str, reserver: &mut dyn Reserver) -> Cma {
    let cma = Cma::new();
    cma.command_line(Some(regions), Some(map)).unwrap();
    cma.early_regions_reserve(reserver);
    cma.initialise();
    cma
}

/// 64 MiB of ordinary memory as region `ram`, and 16 MiB of addresses without memory as region
/// `bare`, for device `bare`.
pub fn with_memory() -> Cma {
    with_map("ram=64M", "bare=bare;*=ram")
}

/// Regions of ordinary memory, and 16 MiB of addresses without memory as region `bare`.
pub fn with_map(regions: &str, map: &str) -> Cma {
    let cma = framework(regions, map, &mut Memfd::new(banks()));
    let start = DmaAddr::new(BASE + (1 << 37));
    cma.region_register(Some("bare"), start, 16 * MIB, AllocatorChoice::Default).unwrap();
    cma
}

/// A server on a thread of this process, until it is dropped.
pub struct TestServer {
    pub cma: Cma,
    pub path: PathBuf,
    pub shutdown: Shutdown,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    _dir: TempDir,
}

impl TestServer {
    pub fn start(cma: Cma) -> Self {
        TestServer::with_config(cma, "", "*,@*=*")
    }

    pub fn with_config(cma: Cma, limits: &str, rules: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Other users connect, too.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("cma.sock");
        let (limits, rules) = (Limits::parse(limits).unwrap(), Rules::parse(rules).unwrap());
        let server = Server::bind(&Address::new(&path), cma.clone(), limits, rules).unwrap();
        let shutdown = Shutdown::new().unwrap();
        let thread = std::thread::spawn({
            let shutdown = shutdown.clone();
            move || server.run(&shutdown)
        });
        TestServer { cma, path, shutdown, thread: Some(thread), _dir: dir }
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    /// A connection on which the test chooses every byte.
    pub fn connection(&self) -> RawConnection {
        RawConnection(
            cma_client::exchange::connect(&SocketAddrUnix::new(&self.path).unwrap()).unwrap(),
        )
    }

    /// Connections of that user. Only root can open them.
    pub fn connections_of(&self, uid: u32, count: usize) -> Vec<RawConnection> {
        let open = || {
            // This changes the user of this thread alone.
            let uid = Uid::from_raw(uid);
            set_thread_res_uid(uid, uid, uid).unwrap();
            (0..count).map(|_| self.connection()).collect()
        };
        std::thread::scope(|threads| threads.spawn(open).join().unwrap())
    }

    pub fn free_bytes(&self, device: &str) -> u64 {
        self.cma.info(device, None).unwrap().free_bytes
    }

    /// Waits until exactly that much is free for a device.
    pub fn wait_until_free(&self, device: &str, bytes: u64) {
        eventually(&format!("{bytes} bytes are free"), || self.free_bytes(device) == bytes);
    }

    pub fn stop(mut self) -> std::io::Result<()> {
        self.shutdown.begin();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.begin();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap().unwrap();
        }
    }
}

/// Whether the test runs as root, which can be several users. Prints that the test is skipped if
/// not.
pub fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("{test} is skipped: only root can be several users");
    }
    is_root
}

/// Waits until a condition holds; `what` names it in the panic after 20 seconds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A connection on which a test sends any bytes.
pub struct RawConnection(pub OwnedFd);

impl RawConnection {
    pub fn send_bytes(&self, bytes: &[u8]) {
        rustix::net::send(&self.0, bytes, rustix::net::SendFlags::NOSIGNAL).unwrap();
    }

    pub fn send(&self, id: u64, request: &Request<'_>) {
        self.send_bytes(Message::request(id, request).unwrap().as_bytes());
    }

    fn polls(&self, wanted: PollFlags) -> bool {
        let mut polled = [PollFd::new(&self.0, wanted)];
        poll(&mut polled, Some(&Default::default())).unwrap();
        polled[0].revents().intersects(wanted)
    }

    /// Whether a message of the server can be received.
    pub fn has_message(&self) -> bool {
        self.polls(PollFlags::IN)
    }

    /// Whether the server has closed the connection; messages may still be queued.
    pub fn is_closed(&self) -> bool {
        self.polls(PollFlags::RDHUP)
    }

    /// The server's next message.
    pub fn receive(&self) -> Result<Message, ReceiveError> {
        self.receive_with_descriptors().map(|(message, _)| message)
    }

    /// The server's next message and its descriptors.
    pub fn receive_with_descriptors(&self) -> Result<(Message, Descriptors), ReceiveError> {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None).unwrap();
        match wire::receive_with(self.0.as_fd()) {
            // The kernel reports this once, before the queued messages, if the server closed the
            // connection with a request unread.
            Err(ReceiveError::System(rustix::io::Errno::CONNRESET)) => {
                wire::receive_with(self.0.as_fd())
            }
            received => received,
        }
    }

    /// Errno and reason of the next message, which must be a refusal.
    pub fn refusal(&self) -> (i32, String) {
        let message = self.receive().unwrap();
        match message.as_answer().unwrap() {
            (_, Answer::Refused { errno, reason }) => (errno, reason.to_string()),
            answer => panic!("{answer:?} is not a refusal"),
        }
    }

    /// Discards messages until the server closes the connection; `false` after another error.
    pub fn is_closed_after_messages(&self) -> bool {
        loop {
            match self.receive() {
                Ok(_) => {}
                Err(error) => return error == ReceiveError::Disconnected,
            }
        }
    }
}

pub fn alloc(device: &str, size: u64) -> Request<'_> {
    Request::Alloc {
        from: RegionSelector::Device { device, kind: "" },
        chunk: ChunkRequest::new(size),
        memory: true,
    }
}
