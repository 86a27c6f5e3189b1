//! A server in a process of its own: this test program, started again. A process that uses its own
//! mount may not end when it is killed, because its open files keep the FUSE connection alive that
//! it no longer serves.

use super::{BASE, MIB, can_mount, folder, framework};
use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Placement,
    Request, Tag,
};
use cma_framework::config::Map;
use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin};
use cma_sysfs::Sysfs;
use rustix::mount::{UnmountFlags, unmount};
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::thread;
use tempfile::TempDir;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Makes a process the server, and names its folder.
const VARIABLE: &str = "CMA_SERVE_IN_TEST";

pub(crate) struct ServerProcess {
    child: Child,
    answers: BufReader<ChildStdout>,
    folder: TempDir,
}

impl ServerProcess {
    /// `None` where mounting is not possible.
    pub(crate) fn start() -> Option<ServerProcess> {
        if !can_mount() {
            return None;
        }
        let folder = folder();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "server_process::the_server", "--nocapture"])
            .env(VARIABLE, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut server = ServerProcess { child, answers, folder };
        assert_eq!(server.answer(), "ready");
        Some(server)
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside)
    }

    /// Sends a command to the server, and returns its answer.
    pub(crate) fn command(&mut self, order: &str) -> String {
        writeln!(self.child.stdin.as_ref().unwrap(), "{order}").unwrap();
        self.answer()
    }

    /// The map in force.
    pub(crate) fn map(&mut self) -> String {
        self.command("map")
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The resident memory of the server, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    fn answer(&mut self) -> String {
        // The test harness prints lines of its own.
        let mut lines = self.answers.by_ref().lines().map(Result::unwrap);
        lines
            .find_map(|line| line.strip_prefix("> ").map(str::to_string))
            .expect("the server answers")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
        // The mount remains if the server was killed.
        let _ = unmount(self.folder.path(), UnmountFlags::DETACH);
    }
}

/// The server, in processes that tests start. In others it does nothing.
#[test]
fn the_server() {
    let Some(folder) = env::var_os(VARIABLE) else { return };
    let cma = framework();
    let sysfs = Sysfs::mount(cma.attributes(), Path::new(&folder)).unwrap();
    let mut out = io::stdout();
    writeln!(out, "\n> ready").unwrap();
    for order in io::stdin().lines() {
        let answer = obey(&cma, &order.unwrap());
        writeln!(out, "> {answer}").unwrap();
    }
    sysfs.unmount().unwrap();
}

fn obey(cma: &Cma, order: &str) -> String {
    let start = DmaAddr::new(BASE + 64 * MIB);
    match order.split_once(' ').unwrap_or((order, "")) {
        ("map", "") => return cma.map().text().to_string(),
        ("map", map) => cma.set_map(Map::parse(map).unwrap()),
        ("register", name) => {
            drop(cma.region_register(Some(name), start, MIB, AllocatorChoice::Default).unwrap());
        }
        ("unregister", name) => cma.region_unregister(&cma.region(name).unwrap()).unwrap(),
        ("stall", name) => {
            let plugin = Plugin::built_in::<StallingAllocator>();
            let given = AllocatorChoice::Given { plugin, params: String::new() };
            let region = cma.region_register(Some(name), start, MIB, given).unwrap();
            let cma = cma.clone();
            thread::spawn(move || drop(cma.alloc_from_region(&region, 4096, 0)));
            drop(
                STALL
                    .1
                    .wait_while(STALL.0.lock().unwrap(), |stall| *stall == Stall::Armed)
                    .unwrap(),
            );
        }
        ("go", "on") => {
            *STALL.0.lock().unwrap() = Stall::Released;
            STALL.1.notify_all();
        }
        ("panic", _) => tracing::subscriber::set_global_default(PanickingSubscriber).unwrap(),
        ("check", _) => cma.regions().iter().for_each(|region| region.check().unwrap()),
        other => panic!("{other:?}"),
    }
    String::new()
}

/// A subscriber of events that panics.
struct PanickingSubscriber;

impl Subscriber for PanickingSubscriber {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        panic!("panic at {}", event.metadata().name());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// State of the stalling allocator.
static STALL: (Mutex<Stall>, Condvar) = (Mutex::new(Stall::Armed), Condvar::new());

#[derive(PartialEq, Eq)]
enum Stall {
    Armed,
    /// A call is blocked.
    Reached,
    Released,
}

/// Its `allocate` blocks until the state is `Released`, and then refuses.
struct StallingAllocator(PageRange);

impl Allocator for StallingAllocator {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "stalling", version: "1", description: "blocks until released" };

    fn new(region: PageRange, _: &str) -> Result<Self, InitError> {
        Ok(StallingAllocator(region))
    }

    fn allocate(&mut self, _: &Request) -> Result<Placement, NoRoom> {
        let mut stall = STALL.0.lock().unwrap();
        if *stall == Stall::Armed {
            *stall = Stall::Reached;
            STALL.1.notify_all();
        }
        drop(STALL.1.wait_while(stall, |stall| *stall != Stall::Released).unwrap());
        Err(NoRoom)
    }

    fn fit(&mut self, _: &Request) -> Option<PageRange> {
        None
    }

    fn free(&mut self, _: Placement) -> Result<(), NotMine> {
        Ok(())
    }

    fn adopt(&mut self, _: PageRange) -> Result<Tag, CannotAdopt> {
        Err(CannotAdopt::new("never"))
    }

    fn holes(&self, _: &mut dyn FnMut(PageRange)) {}

    fn largest_request(&self) -> Pages {
        self.0.pages()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
