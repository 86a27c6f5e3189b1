//! `cma serve` at work, with one region.

use crate::installed::cma;
use crate::machine::{HUGE, Machine};
use crate::program::{LIMIT, Running};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server whose region `real` is open to every device.
pub(crate) struct Server {
    /// The server, or its keeper.
    process: Running,
    deaths: u32,
    folder: TempDir,
    size: u64,
    // Restored after the region's pages have returned to the pool.
    _machine: Option<Machine>,
}

impl Server {
    /// A region of `size` bytes of ordinary memory.
    pub(crate) fn of_memfd(size: u64) -> Server {
        Server::start(size, "memfd", &[], None)
    }

    /// The same with a keeper.
    pub(crate) fn kept_of_memfd(size: u64) -> Server {
        Server::start(size, "memfd", &["--keep"], None)
    }

    /// A region of huge pages. `None`, and a message, when the machine has too few.
    pub(crate) fn of_huge_pages(size: u64) -> Option<Server> {
        let machine = Machine::with_huge_pages(size / HUGE)?;
        Some(Server::start(size, "hugetlb", &[], Some(machine)))
    }

    /// The same with a keeper.
    pub(crate) fn kept_of_huge_pages(size: u64) -> Option<Server> {
        let machine = Machine::with_huge_pages(size / HUGE)?;
        Some(Server::start(size, "hugetlb", &["--keep"], Some(machine)))
    }

    fn start(size: u64, memory: &str, options: &[&str], machine: Option<Machine>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("cma.sock").display().to_string();
        let region = format!("real={size}");
        let system = ["--cma", &region, "--map", "*=real", "--memory", memory];
        let serve = ["serve", "--socket", &socket, "--log", "warn"];
        let process = Running::start(cma().args(system).args(serve).args(options));
        let mut server = Server { process, deaths: 0, folder, size, _machine: machine };
        server.wait_until_ready();
        server
    }

    /// Waits until a server has said where it serves, since the last call.
    fn wait_until_ready(&mut self) {
        let ready = format!("chunks: {}", self.socket().display());
        let mut lines = std::iter::from_fn(|| self.process.line());
        assert!(lines.any(|line| line == ready), "the server ended before it was ready");
    }

    /// The process of the server that a keeper has started, if it runs.
    fn kept(&self) -> Option<Pid> {
        let keeper = self.process.pid().as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
        let server = Pid::from_raw(children.ok()?.trim().parse().ok()?)?;
        let status = fs::read_to_string(format!("/proc/{}/status", server.as_raw_nonzero()));
        Some(server).filter(|_| status.is_ok_and(|status| !status.contains("State:\tZ")))
    }

    /// Kills the server of a keeper, and waits until the next one serves.
    pub(crate) fn kill(&mut self) {
        let old = self.kept().unwrap();
        kill_process(old, Signal::KILL).unwrap();
        self.deaths += 1;
        let begun = Instant::now();
        while self.kept().is_none_or(|server| server == old) {
            // The keeper doesn't wait for the next start any longer.
            kill_process(self.process.pid(), Signal::HUP).unwrap();
            assert!(begun.elapsed() < LIMIT, "the keeper starts no server");
            sleep(Duration::from_millis(20));
        }
        self.wait_until_ready();
    }

    /// How many servers were killed.
    pub(crate) fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Upgrades the server of a keeper to the same program.
    pub(crate) fn upgrade(&mut self) {
        let old = self.kept();
        let upgraded = text(cma().arg("upgrade").arg("--socket").arg(self.socket()));
        assert!(upgraded.contains("has taken over"), "{upgraded}");
        self.wait_until_ready();
        assert_ne!(self.kept(), old);
    }

    /// The owners of the region's chunks, without their ages.
    pub(crate) fn owners(&self) -> Vec<String> {
        let mut get = cma();
        let owners = text(get.args(["get", "regions/real/owners", "--connect"]).arg(self.socket()));
        let without_age = |line: &str| line.split(' ').take(4).collect::<Vec<_>>().join(" ");
        owners.lines().map(without_age).collect()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("cma.sock")
    }

    /// Ends it, when every byte of the region is free again: no process has a chunk.
    pub(crate) fn end(self) {
        let mut get = cma();
        get.args(["get", "regions/real/free", "--connect"]).arg(self.socket());
        let begun = Instant::now();
        loop {
            let free = text(&mut get);
            if free.trim() == self.size.to_string() {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "{} of {} bytes are free", free.trim(), self.size);
            sleep(Duration::from_millis(20));
        }
        self.process.terminate();
        self.process.succeeded();
    }
}

fn text(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
