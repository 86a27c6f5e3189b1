//! A server with chunks for the programs of the tests.

#![allow(dead_code, unreachable_pub, reason = "a module of several tests")]

use cma_device_server::{Address, Limits, Rules, Server, Shutdown};
use cma_framework::config::{Bank, Growth};
use cma_framework::reserve::Banks;
use cma_framework::{Cma, Plugin};
use cma_memory::{Choice, Ports};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

/// A server on a thread of this process.
pub struct TestServer {
    pub socket: PathBuf,
    pub cma: Cma,
    shutdown: Shutdown,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    _folder: TempDir,
}

impl TestServer {
    pub fn start() -> Self {
        let cma = Cma::new();
        cma.command_line(Some("video=64M;bare=1M"), Some("camera=video")).unwrap();
        let banks = Banks::new(&[Bank::new(0x4000_0000, 1 << 30)], Growth::Up);
        let choice: Choice = "bare=simulated,memfd".parse().unwrap();
        cma.early_regions_reserve(&mut Ports::new(banks, choice));
        cma.initialise();
        cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("cma.sock");
        let (limits, rules) = (Limits::parse("").unwrap(), Rules::parse("*,@*=*").unwrap());
        let server = Server::bind(&Address::new(&socket), cma.clone(), limits, rules).unwrap();
        let shutdown = Shutdown::new().unwrap();
        let thread = thread::spawn({
            let shutdown = shutdown.clone();
            move || server.run(&shutdown)
        });
        TestServer { socket, cma, shutdown, thread: Some(thread), _folder: folder }
    }

    pub fn stop(&mut self) {
        self.shutdown.begin();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
    }
}
