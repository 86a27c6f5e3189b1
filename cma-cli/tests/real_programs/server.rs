//! `cma serve` at work, with one region.

use crate::installed::cma;
use crate::machine::{HUGE, Machine};
use crate::program::{LIMIT, Running};
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server whose region `real` is open to every device.
pub(crate) struct Server {
    process: Running,
    folder: TempDir,
    size: u64,
    // Restored after the region's pages have returned to the pool.
    _machine: Option<Machine>,
}

impl Server {
    /// A region of `size` bytes of ordinary memory.
    pub(crate) fn of_memfd(size: u64) -> Server {
        Server::start(size, "memfd", None)
    }

    /// A region of huge pages. `None`, and a message, when the machine has too few.
    pub(crate) fn of_huge_pages(size: u64) -> Option<Server> {
        let machine = Machine::with_huge_pages(size / HUGE)?;
        Some(Server::start(size, "hugetlb", Some(machine)))
    }

    fn start(size: u64, memory: &str, machine: Option<Machine>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("cma.sock").display().to_string();
        let region = format!("real={size}");
        let system = ["--cma", &region, "--map", "*=real", "--memory", memory];
        let mut process = Running::start(
            cma().args(system).args(["serve", "--socket", &socket, "--log", "warn"]),
        );
        let ready = format!("chunks: {socket}");
        if std::iter::from_fn(|| process.line()).all(|line| line != ready) {
            process.succeeded();
            panic!("the server ended before it was ready");
        }
        Server { process, folder, size, _machine: machine }
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
