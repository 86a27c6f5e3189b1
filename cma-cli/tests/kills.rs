//! Clients of a server that is killed at random moments: `cargo xtask kills` runs it as long as one
//! likes, and `cargo test` a little.
//!
//! The clients allocate, wait, map, check that memory is zero, write patterns, check them, and free
//! in each way there is. They must notice nothing but a delay: no other error, no foreign byte, no
//! range that two of them have. In the end all memory is free, and the keeper has the descriptors
//! and the memory that it had in the beginning.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cma_client::{ChunkRequest, Client, Error, RegionSelector, RemoteChunk};
use cma_keeper::{Backoff, Program, Store, Supervision};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Write, stdout};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const USAGE: &str = "usage: kills [--kills N] [--clients N] [--memory memfd|hugetlb] \
    [--gap MILLISECONDS] [--seed N]; hugetlb takes four pages of 2 MiB for each client in \
    the machine's pool";

/// What makes this program the keeper: it starts the server again at once, however often it dies.
const KEEPER: &str = "--keeper";

/// The number of kills after which every client has to get on, before the next ones.
const GETS_ON: u64 = 3;

/// The longest wait for what must happen.
const LIMIT: Duration = Duration::from_secs(120);

fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == KEEPER).is_some() {
        return keep(arguments.collect());
    }
    let Some(plan) = Plan::from(arguments.filter_map(|argument| argument.into_string().ok()))
    else {
        say(USAGE);
        return ExitCode::from(2);
    };
    say(&format!(
        "{} kills under {} clients, --memory {} --seed {}",
        plan.kills, plan.clients, plan.memory, plan.seed
    ));
    match plan.run() {
        Ok(summary) => {
            say(&summary);
            ExitCode::SUCCESS
        }
        Err(reason) => {
            say(&format!("failed: {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// Keeps the program with these arguments.
fn keep(arguments: Vec<OsString>) -> ExitCode {
    let program = Program::open(env!("CARGO_BIN_EXE_cma")).unwrap();
    let backoff = Backoff::new(u32::MAX).at_most(Duration::ZERO);
    let supervision = Supervision::new(program).arguments(arguments).backoff(backoff);
    let say = |report: &_| drop(writeln!(std::io::stderr(), "keeper: {report}"));
    supervision.run(&mut Store::of_process(), say).unwrap().exit_code()
}

struct Plan {
    kills: u64,
    clients: u64,
    memory: String,
    /// The longest time between two kills.
    gap: u64,
    seed: u64,
}

impl Plan {
    fn from(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let seed = now.subsec_nanos().into();
        let mut plan = Plan { kills: 10, clients: 4, memory: "memfd".into(), gap: 300, seed };
        while let Some(option) = arguments.next() {
            let value = match option.as_str() {
                "--kills" => &mut plan.kills,
                "--clients" => &mut plan.clients,
                "--gap" => &mut plan.gap,
                "--seed" => &mut plan.seed,
                "--memory" => {
                    plan.memory = arguments.next()?;
                    continue;
                }
                "--help" => return None,
                // What `cargo test` passes on: flags of its own harness, and the names of tests.
                flag if flag.starts_with('-') => continue,
                name if "kills".contains(name) => continue,
                _ => {
                    plan.kills = 0;
                    continue;
                }
            };
            *value = arguments.next()?.parse().ok()?;
        }
        Some(plan)
    }

    fn run(&self) -> Result<String, String> {
        if self.kills == 0 {
            return Ok("skipped: it was not asked for".to_string());
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        // Less than the clients would like to have.
        let unit = self.clients * if self.page() > 4096 { self.page() } else { 64 << 10 };
        let (first, second) = (2 * unit, unit.next_power_of_two());
        let running = Running::start(folder.path(), &self.memory, first, second);
        let result = self.run_with(&running, first + second);
        result.map_err(|reason| {
            format!("{reason}\nThe keeper and its servers said:\n{}", running.said())
        })
    }

    /// The unit of sizes in bytes.
    fn page(&self) -> u64 {
        if self.memory == "hugetlb" { 2 << 20 } else { 4096 }
    }

    fn run_with(&self, running: &Running, size: u64) -> Result<String, String> {
        let answers = (0..self.clients).map(|_| AtomicU64::new(0)).collect();
        let ground = Ground { answers, page: self.page(), ..Ground::default() };
        let mut random = Random(self.seed);
        running.until("the first server serves", || running.free() == Some(size))?;
        let before = running.settled_holdings();
        let (mut killed, mut upgraded) = (0, 0);
        thread::scope(|threads| {
            for number in 0..self.clients {
                let random = Random(self.seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let ground = &ground;
                threads.spawn(move || One { number, random, ground, running }.run());
            }
            let result = (|| {
                for number in 0..self.kills {
                    // Otherwise servers that start are killed, too.
                    if random.below(4) > 0 {
                        running.until("a server serves", || running.free().is_some())?;
                    }
                    thread::sleep(Duration::from_millis(random.below(self.gap)));
                    if number % GETS_ON == 0 {
                        running.gets_on(&ground)?;
                    }
                    if number % 10 == 9 {
                        // It waits for the end of the old server, whatever comes meanwhile.
                        upgraded += 1;
                        kill_process(Pid::from_child(&running.keeper), Signal::USR2)
                            .map_err(|error| format!("the keeper has ended: {error}"))?;
                    } else {
                        killed += 1;
                        running.kill_server()?;
                    }
                }
                running.gets_on(&ground)
            })();
            ground.ends.store(true, Ordering::Relaxed);
            result
        })?;
        ground.result()?;
        running.until("all memory is free", || running.free() == Some(size))?;
        running
            .until(&format!("the keeper has {before:#?} again"), || running.holdings() == before)?;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(format!(
            "{killed} kills, {upgraded} upgrades: {} chunks, {} refusals, {} waits in vain; \
             the longest answer took {} ms",
            count(&ground.rounds),
            count(&ground.refusals),
            count(&ground.timeouts),
            count(&ground.longest),
        ))
    }
}

/// The generator `splitmix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
/// 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound`, without that.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// A keeper with its server, in a folder.
struct Running {
    keeper: Child,
    socket: PathBuf,
    stderr: PathBuf,
}

/// What the keeper has: how many descriptors of each kind, and the bytes of memory behind them.
type Holdings = BTreeMap<String, (usize, u64)>;

impl Running {
    fn start(folder: &Path, memory: &str, first: u64, second: u64) -> Self {
        let (socket, stderr) = (folder.join("cma.sock"), folder.join("stderr"));
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(KEEPER).arg("serve").arg("--socket").arg(&socket).args(["--log", "warn"]);
        command.args(["--memory", memory]);
        command.arg("--cma").arg(format!("b1={first};b2={second}:buddy"));
        command.args(["--map", "*=b1,b2"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&stderr).unwrap());
        Running { keeper: command.spawn().unwrap(), socket, stderr }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) -> Result<(), String> {
        let begin = Instant::now();
        while !holds() {
            if begin.elapsed() > LIMIT {
                let (free, holdings) = (self.free(), self.holdings());
                return Err(format!(
                    "not within {LIMIT:?}: {what}; free {free:?}, in the keeper {holdings:#?}"
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The free bytes of both regions; `None` before the first server serves.
    fn free(&self) -> Option<u64> {
        let client = Client::connect(&self.socket).ok()?;
        let free = |region: &str| {
            let text = client.attribute(&format!("regions/{region}/free")).ok()?;
            match text {
                cma_client::AttributeText::Text(text) => text.trim().parse::<u64>().ok(),
                _ => None,
            }
        };
        Some(free("b1")? + free("b2")?)
    }

    fn holdings(&self) -> Holdings {
        let mut holdings = Holdings::new();
        let folder = format!("/proc/{}/fd", self.keeper.id());
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()) {
            let Ok(target) = fs::read_link(&path) else { continue };
            // As `socket:[12345]`.
            let target = target.to_string_lossy().into_owned();
            let kind = target.split('[').next().unwrap_or_default();
            let is_memory = target.starts_with("/memfd:");
            let bytes = fs::metadata(path).map_or(0, |file| file.blocks() * 512);
            let (count, sum) = holdings.entry(kind.to_string()).or_default();
            *count += 1;
            *sum += if is_memory { bytes } else { 0 };
        }
        holdings
    }

    /// Waits until each client has got an answer.
    fn gets_on(&self, ground: &Ground) -> Result<(), String> {
        let count = || ground.answers.iter().map(|answers| answers.load(Ordering::Relaxed));
        let before: Vec<_> = count().collect();
        self.until(&format!("each client has another answer than {before:?}"), || {
            count().zip(&before).all(|(now, before)| now > *before) || ground.result().is_err()
        })?;
        ground.result()
    }

    /// What the keeper has when nobody connects, and the connections so far have ended.
    fn settled_holdings(&self) -> Holdings {
        let (mut found, mut times) = (self.holdings(), 0);
        while times < 20 {
            thread::sleep(Duration::from_millis(20));
            let again = self.holdings();
            times = if again == found { times + 1 } else { 0 };
            found = again;
        }
        found
    }

    /// Kills the server that runs, or the next one.
    fn kill_server(&self) -> Result<(), String> {
        let id = self.keeper.id();
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
            let children = children.map_err(|error| format!("the keeper has ended: {error}"))?;
            let server = children.split_whitespace().next().and_then(|text| text.parse().ok());
            if let Some(server) = server.and_then(Pid::from_raw)
                && kill_process(server, Signal::KILL).is_ok()
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err("the keeper starts no server".to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.keeper), Signal::TERM);
        let _ = self.keeper.wait();
    }
}

/// What the clients have in common.
#[derive(Default)]
struct Ground {
    /// The ranges that clients have: the start, the end, and the client.
    taken: Mutex<BTreeMap<u64, (u64, u64)>>,
    failure: Mutex<Option<String>>,
    ends: AtomicBool,
    /// The answers of each client.
    answers: Vec<AtomicU64>,
    /// The unit of sizes in bytes.
    page: u64,
    rounds: AtomicU64,
    refusals: AtomicU64,
    timeouts: AtomicU64,
    /// The longest time of a request that doesn't wait, in milliseconds.
    longest: AtomicU64,
}

impl Ground {
    fn fail(&self, reason: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(reason);
        self.ends.store(true, Ordering::Relaxed);
    }

    fn result(&self) -> Result<(), String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Ok(()), Err)
    }

    /// Notes that a client has a range.
    fn take(&self, start: u64, size: u64, client: u64) -> Result<(), String> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let below = taken.range(..start + size).next_back();
        if let Some((at, (end, other))) = below.filter(|(_, (end, _))| *end > start) {
            return Err(format!(
                "client {client} got {start:#x} of {size:#x} bytes, and client {other} has \
                 {at:#x} up to {end:#x}"
            ));
        }
        taken.insert(start, (start + size, client));
        Ok(())
    }

    fn leave(&self, start: u64) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&start);
    }
}

/// A client.
struct One<'a> {
    number: u64,
    random: Random,
    ground: &'a Ground,
    running: &'a Running,
}

impl One<'_> {
    fn run(mut self) {
        while !self.ground.ends.load(Ordering::Relaxed) {
            if let Err(reason) = self.round() {
                self.ground.fail(format!("client {}: {reason}", self.number));
            }
        }
    }

    /// One chunk from its request to its end.
    fn round(&mut self) -> Result<(), String> {
        let text = |what: &str| {
            let what = what.to_string();
            move |error: Error| format!("{what}: {error} (errno {})", error.errno())
        };
        let client = Client::connect(&self.running.socket).map_err(text("connect"))?;
        let size = (1 + self.random.below(if self.ground.page > 4096 { 2 } else { 96 }))
            * self.ground.page;
        let waits = self.random.below(3) > 0;
        let time = Duration::from_millis(self.random.below(2000));
        let request = ChunkRequest::new(size);
        let request = if waits { request.wait(time) } else { request };
        let begin = Instant::now();
        let from = RegionSelector::Device { device: "camera", kind: "" };
        let allocated = client.allocate(from, &request);
        if !waits {
            let took = begin.elapsed().as_millis() as u64;
            self.ground.longest.fetch_max(took, Ordering::Relaxed);
        }
        self.ground.answers[self.number as usize].fetch_add(1, Ordering::Relaxed);
        let is = |errno: i32, expected: Errno| errno == expected.raw_os_error();
        let chunk = match allocated {
            Ok(chunk) => chunk,
            Err(Error::Refused { errno, .. }) if is(errno, Errno::NOMEM) => {
                self.ground.refusals.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(self.random.below(10)));
                return Ok(());
            }
            Err(Error::Refused { errno, .. }) if is(errno, Errno::TIMEDOUT) => {
                self.ground.timeouts.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) => return Err(text("allocate")(error)),
        };
        let start = chunk.start();
        self.ground.take(start, chunk.size(), self.number)?;
        self.use_chunk(chunk)?;
        self.ground.rounds.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Fills a chunk, looks after it for a while, and gives it up in one of the ways there are.
    /// Its place may be another client's from when the memory is released.
    fn use_chunk(&mut self, chunk: RemoteChunk) -> Result<(), String> {
        let start = chunk.start();
        let pattern = Pattern::new(chunk.size(), self.random.next());
        let frees = self.random.below(2) == 0;
        if frees {
            let mut bytes = chunk.map().map_err(|error| format!("map: {}", error.error))?;
            pattern.is_new(&bytes)?;
            bytes.copy_from_slice(&pattern.0);
            self.look_after(|| pattern.is_in(&bytes))?;
            self.ground.leave(start);
            return bytes.free().map_err(|error| format!("free: {error} ({})", error.errno()));
        }
        let shared = chunk.share().map_err(|error| format!("share: {}", error.error))?;
        let bytes = shared.map().map_err(|error| format!("map: {error}"))?;
        let read = || {
            let mut found = vec![0; bytes.len()];
            bytes.read(0, &mut found);
            found
        };
        pattern.is_new(&read())?;
        bytes.write(0, &pattern.0);
        self.look_after(|| pattern.is_in(&read()))?;
        // The connection ends, and the memory is released later, or in the same moment.
        drop(shared);
        if self.random.below(2) == 0 {
            self.look_after(|| pattern.is_in(&read()))?;
        }
        self.ground.leave(start);
        Ok(())
    }

    /// Checks again and again for some time.
    fn look_after(&mut self, check: impl Fn() -> Result<(), String>) -> Result<(), String> {
        for _ in 0..self.random.below(4) {
            thread::sleep(Duration::from_millis(self.random.below(40)));
            check()?;
        }
        check()
    }
}

/// The bytes of one client.
struct Pattern(Vec<u8>);

impl Pattern {
    fn new(size: u64, seed: u64) -> Self {
        let mut random = Random(seed);
        Pattern((0..size / 8).flat_map(|_| random.next().to_ne_bytes()).collect())
    }

    fn is_new(&self, found: &[u8]) -> Result<(), String> {
        if found.len() != self.0.len() {
            return Err(format!("{} of {} bytes are mapped", found.len(), self.0.len()));
        }
        match found.iter().position(|byte| *byte != 0) {
            Some(at) => Err(format!("byte {at} of a new chunk is {:#x}", found[at])),
            None => Ok(()),
        }
    }

    fn is_in(&self, found: &[u8]) -> Result<(), String> {
        match found.iter().zip(&self.0).position(|(found, expected)| found != expected) {
            Some(at) => Err(format!("byte {at} of a chunk is {:#x} now", found[at])),
            None => Ok(()),
        }
    }
}
