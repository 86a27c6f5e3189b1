//! A thousand clients, each in a process of its own, killed while they connect, allocate, write,
//! read or free.

mod common;
#[path = "../../../../cma-memory/tests/machine/mod.rs"]
mod machine;

use cma_client::{ChunkRequest, Client, Error, RegionSelector};
use cma_device_server::{Address, Limits, Rules, Server, Shutdown};
use cma_framework::Cma;
use cma_memory::Hugetlb;
use common::{MIB, banks, eventually, framework, with_memory};
use machine::{HUGE, Machine, POOL, free};
use rustix::io::Errno;
use std::convert::Infallible;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio, exit};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const AT_ONCE: usize = 40;

/// The variables with a process's role and its number.
const PART: &str = "CMA_TEST_PART";
const NUMBER: &str = "CMA_TEST_NUMBER";
const SOCKET: &str = "CMA_TEST_SOCKET";
const MEMORY: &str = "CMA_TEST_MEMORY";

/// 64 MiB of huge pages as region `ram`.
fn with_huge_pages() -> Cma {
    framework("ram=64M", "*=ram", &mut Hugetlb::new(banks()).with_page_size(HUGE))
}

/// The processes of the tests below. Without the variable it does nothing.
#[test]
fn part() {
    match std::env::var(PART).as_deref() {
        Ok("server") => serve(),
        Ok("client") => {
            let number = std::env::var(NUMBER).unwrap().parse().unwrap();
            let Err(why) = be_a_client(number);
            eprintln!("client {number}: {why}");
            exit(7);
        }
        _ => {}
    }
}

/// This program, started again in one of the roles.
fn process(part: &str, number: u64, socket: &Path, memory: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "part", "--nocapture", "--quiet"]);
    command.env(PART, part).env(NUMBER, number.to_string()).env(SOCKET, socket);
    command.env(MEMORY, memory).stdout(Stdio::null());
    command
}

/// Serves until its input ends. Fails unless everything is free then.
fn serve() {
    let socket = std::env::var_os(SOCKET).unwrap();
    let limits = Limits::parse("chunks=4,connections=400,user-connections=400").unwrap();
    let cma = if std::env::var(MEMORY).as_deref() == Ok("hugetlb") {
        with_huge_pages()
    } else {
        with_memory()
    };
    let server =
        Server::bind(&Address::new(&socket), cma.clone(), limits, Rules::default()).unwrap();
    let shutdown = Shutdown::new().unwrap();
    std::thread::scope(|threads| {
        let server = threads.spawn(|| server.run(&shutdown));
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        shutdown.begin();
        server.join().unwrap().unwrap();
    });
    assert_eq!(cma.info("camera", None).unwrap().free_bytes, 64 * MIB);
}

/// The generator splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Allocates, checks, writes and frees chunks until it is killed, or finds data that are not its
/// own.
fn be_a_client(number: u64) -> Result<Infallible, Box<dyn std::error::Error>> {
    let mut random = Random(number);
    let pattern = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes();
    let client = Client::connect(std::env::var_os(SOCKET).unwrap())?;
    loop {
        std::thread::sleep(Duration::from_micros(random.below(2000)));
        // Sometimes half of the region, so that requests wait.
        let is_large = random.below(8) == 0;
        let size = if is_large { 32 * MIB } else { 4096 << random.below(8) };
        let request = ChunkRequest::new(size).aligned(4096 << random.below(5));
        let wait = random.below(2).checked_sub(1);
        let wait = wait.map(|_| Duration::from_millis(random.below(50)));
        let from = RegionSelector::Device { device: "camera", kind: "frame" };
        let chunk = match client.allocate(from, &ChunkRequest { wait, ..request }) {
            // The other clients have all of the region.
            Err(Error::Refused { errno, .. })
                if matches!(Errno::from_raw_os_error(errno), Errno::NOMEM | Errno::TIMEDOUT) =>
            {
                continue;
            }
            answer => answer?,
        };
        if is_large {
            std::thread::sleep(Duration::from_micros(random.below(5000)));
            continue;
        }
        let mut mapped = chunk.map()?;
        if mapped.iter().any(|byte| *byte != 0) {
            return Err("new memory is not zero".into());
        }
        for word in mapped.chunks_exact_mut(8) {
            word.copy_from_slice(&pattern);
        }
        for _ in 0..random.below(4) {
            std::thread::yield_now();
            if mapped.chunks_exact(8).any(|word| word != pattern) {
                return Err("another process wrote to its memory".into());
            }
        }
        match random.below(4) {
            0 => drop(mapped),
            1 => mapped.free()?,
            // The memory is held for a while after the connection is closed.
            _ => {
                let shared = mapped.share()?;
                let kept = shared.pieces()[0].file.try_clone()?;
                drop(shared);
                std::thread::sleep(Duration::from_micros(random.below(2000)));
                drop(kept);
            }
        }
    }
}

/// The number of descriptors of a process, and its private memory in KiB.
fn resources(process: &Child) -> (usize, u64) {
    let proc = format!("/proc/{}", process.id());
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let own = own.trim().trim_end_matches(" kB").parse().unwrap();
    (fs::read_dir(format!("{proc}/fd")).unwrap().count(), own)
}

/// Runs clients, kills each after a random time, and checks that none has reported an error.
fn let_run(numbers: std::ops::Range<u64>, socket: &Path, memory: &str) {
    let mut random = Random(!numbers.start);
    let mut numbers = numbers.peekable();
    let mut running: Vec<(Child, Instant)> = Vec::new();
    while numbers.peek().is_some() || !running.is_empty() {
        while running.len() < AT_ONCE
            && let Some(number) = numbers.next()
        {
            let child =
                process("client", number, socket, memory).stderr(Stdio::piped()).spawn().unwrap();
            running.push((child, Instant::now() + Duration::from_micros(random.below(200_000))));
        }
        let now = Instant::now();
        for (mut child, _) in running.extract_if(.., |(_, end)| *end <= now) {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code().is_none(), "{}: {errors}", output.status);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs and kills `clients` clients, which together must have allocated at least `chunks` chunks.
fn assert_nothing_is_left(memory: &str, clients: u64, chunks: u64) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cma.sock");
    let mut server = process("server", 0, &socket, memory).stdin(Stdio::piped()).spawn().unwrap();
    eventually("the server listens", || Client::connect(&socket).is_ok());
    let client = Client::connect(&socket).unwrap();
    let is_idle = || {
        let free = client.info("camera", None).is_ok_and(|info| info.free_bytes == 64 * MIB);
        free && client.chunks().is_ok_and(|chunks| chunks.is_empty())
    };

    // The first clients make the server allocate all that it keeps.
    let_run(0..AT_ONCE as u64, &socket, memory);
    eventually("everything is free", is_idle);
    let descriptors = || resources(&server).0;
    // One of them is that of the connection of the check above.
    let mut before = 0;
    eventually("the server is at rest", || std::mem::replace(&mut before, descriptors()) == before);
    // A region of huge pages keeps the files of up to 16 freed chunks.
    let before = before + if memory == "hugetlb" { 16 } else { 0 };
    let own = resources(&server).1;

    let_run(AT_ONCE as u64..AT_ONCE as u64 + clients, &socket, memory);
    eventually("everything is free", is_idle);
    eventually("the server has as many descriptors as before", || descriptors() <= before);
    let grown = resources(&server).1.saturating_sub(own);
    assert!(grown < 2048, "the server has {grown} KiB more than before");
    // The clients did allocate.
    let last = client.alloc("camera", None, 4096, 0).unwrap();
    let allocated = client.chunks().unwrap()[0].number;
    assert!(allocated > chunks, "{allocated} chunks for {clients} clients");
    drop(last);

    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
    assert!(!socket.exists());
}

/// Between `fork` and `exec` a child has all descriptors of this process, and with them huge pages
/// that the other test counts.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn a_thousand_killed_clients_leave_nothing_and_see_no_data_of_others() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    assert_nothing_is_left("memfd", 1000, 3000);
}

/// Huge pages are reused, while ordinary memory is always new.
#[test]
fn killed_clients_of_huge_pages_leave_nothing_and_see_no_data_of_others() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(_machine) = Machine::with_huge_pages(40) else { return };
    assert_nothing_is_left("hugetlb", 300, 100);
    assert_eq!(free(POOL), 40);
}
