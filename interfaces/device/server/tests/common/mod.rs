//! What the server's tests share: a framework with memory, and a server for it.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its part")]
#![allow(clippy::print_stdout, reason = "a test that skips says so")]

mod pieced;

use cma_client::Client;
use cma_device_protocol::wire::{self, Descriptors, Lost};
use cma_device_protocol::{Answer, Message, Request, Source};
use cma_device_server::{Address, Limits, Rules, Server, Shutdown};
use cma_framework::config::{Bank, Growth};
use cma_framework::reserve::{Banks, Reserver};
use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin};
use cma_memory::Memfd;
pub use pieced::Pieced;
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

/// A framework with best fit and these regions.
pub fn framework(regions: &str, map: &str, reserver: &mut dyn Reserver) -> Cma {
    let cma = Cma::new();
    cma.command_line(Some(regions), Some(map)).unwrap();
    cma.early_regions_reserve(reserver);
    cma.initialise();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    cma
}

/// 64 MiB of ordinary memory as region `ram`, and 16 MiB that are addresses alone as region `bare`,
/// for device `bare`.
pub fn with_memory() -> Cma {
    with_map("ram=64M", "bare=bare;*=ram")
}

/// Regions of ordinary memory, and 16 MiB that are addresses alone as region `bare`.
pub fn with_map(regions: &str, map: &str) -> Cma {
    let cma = framework(regions, map, &mut Memfd::new(banks()));
    let start = DmaAddr::new(BASE + (1 << 37));
    cma.region_register(Some("bare"), start, 16 * MIB, AllocatorChoice::Default).unwrap();
    cma
}

/// A server on a thread of this process, until it is dropped.
pub struct Served {
    pub cma: Cma,
    pub path: PathBuf,
    pub shutdown: Shutdown,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    _dir: TempDir,
}

impl Served {
    pub fn new(cma: Cma) -> Self {
        Served::by(cma, "", "*,@*=*")
    }

    pub fn by(cma: Cma, limits: &str, rules: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // For other users, too.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("cma.sock");
        let (limits, rules) = (Limits::parse(limits).unwrap(), Rules::parse(rules).unwrap());
        let server = Server::bind(&Address::new(&path), cma.clone(), limits, rules).unwrap();
        let shutdown = Shutdown::new().unwrap();
        let thread = std::thread::spawn({
            let shutdown = shutdown.clone();
            move || server.run(&shutdown)
        });
        Served { cma, path, shutdown, thread: Some(thread), _dir: dir }
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    /// A line of which every byte is the test's.
    pub fn line(&self) -> Raw {
        Raw(cma_client::line::open(&SocketAddrUnix::new(&self.path).unwrap()).unwrap())
    }

    /// Lines of that user. Only root can open them.
    pub fn lines_of(&self, uid: u32, count: usize) -> Vec<Raw> {
        let open = || {
            // Of this thread alone.
            let uid = Uid::from_raw(uid);
            set_thread_res_uid(uid, uid, uid).unwrap();
            (0..count).map(|_| self.line()).collect()
        };
        std::thread::scope(|threads| threads.spawn(open).join().unwrap())
    }

    pub fn free_bytes(&self, device: &str) -> u64 {
        self.cma.info(device, None).unwrap().free_bytes
    }

    /// Waits until that much is free for a device.
    pub fn wait_until_free(&self, device: &str, bytes: u64) {
        eventually(&format!("{bytes} bytes are free"), || self.free_bytes(device) == bytes);
    }

    pub fn end(mut self) -> std::io::Result<()> {
        self.shutdown.begin();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.begin();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap().unwrap();
        }
    }
}

/// Whether a test can play several users; says that it skips if not.
pub fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("{test} is skipped: only root can be several users");
    }
    is_root
}

/// Waits for what is to come about on its own.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < until, "it never was that {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A client that says what it likes.
pub struct Raw(pub OwnedFd);

impl Raw {
    pub fn say(&self, bytes: &[u8]) {
        rustix::net::send(&self.0, bytes, rustix::net::SendFlags::NOSIGNAL).unwrap();
    }

    pub fn ask(&self, id: u64, request: &Request<'_>) {
        self.say(Message::request(id, request).unwrap().as_bytes());
    }

    fn polls(&self, wanted: PollFlags) -> bool {
        let mut line = [PollFd::new(&self.0, wanted)];
        poll(&mut line, Some(&Default::default())).unwrap();
        line[0].revents().intersects(wanted)
    }

    /// Whether the server has said something.
    pub fn is_spoken_to(&self) -> bool {
        self.polls(PollFlags::IN)
    }

    /// Whether the server has hung up, whatever it said before.
    pub fn is_gone(&self) -> bool {
        self.polls(PollFlags::RDHUP)
    }

    /// What the server says next.
    pub fn hear(&self) -> Result<Message, Lost> {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None).unwrap();
        match wire::receive(self.0.as_fd()) {
            // Once, before what there is to be heard.
            Err(Lost::System(rustix::io::Errno::CONNRESET)) => wire::receive(self.0.as_fd()),
            heard => heard,
        }
    }

    /// What the server says next, and the descriptors it brings.
    pub fn hear_with(&self) -> Result<(Message, Descriptors), Lost> {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None).unwrap();
        wire::receive_with(self.0.as_fd())
    }

    /// The errno and words of a refusal that comes next.
    pub fn refusal(&self) -> (i32, String) {
        let message = self.hear().unwrap();
        match message.as_answer().unwrap() {
            (_, Answer::Refused { errno, words }) => (errno, words.to_string()),
            answer => panic!("{answer:?} is no refusal"),
        }
    }

    /// Waits until the server hangs up, whatever it says before.
    pub fn is_over(&self) -> bool {
        loop {
            match self.hear() {
                Ok(_) => {}
                Err(lost) => return lost == Lost::HungUp,
            }
        }
    }
}

pub fn alloc(device: &str, size: u64) -> Request<'_> {
    Request::Alloc { from: Source::Device { device, kind: "" }, size, alignment: 0, memory: true }
}
