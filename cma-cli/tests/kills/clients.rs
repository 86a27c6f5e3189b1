//! The clients, and what they have in common.

use crate::random::Random;
use crate::running::Running;
use cma_client::{ChunkRequest, Client, Error, RegionSelector, RemoteChunk};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What the clients have in common.
#[derive(Default)]
pub(crate) struct Ground {
    /// The ranges that clients have: the start, the end, and the client.
    taken: Mutex<BTreeMap<u64, (u64, u64)>>,
    failure: Mutex<Option<String>>,
    ends: AtomicBool,
    /// What each client does.
    pub(crate) clients: Vec<State>,
    /// The unit of sizes in bytes.
    page: u64,
    pub(crate) rounds: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    /// The bytes that were looked at.
    pub(crate) checked: AtomicU64,
    /// The longest time of a request that doesn't wait, in milliseconds.
    pub(crate) longest: AtomicU64,
}

/// What a client does.
#[derive(Default)]
pub(crate) struct State {
    /// The number of its answers.
    answers: AtomicU64,
    asks: Mutex<Option<Asking>>,
}

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
struct Asking {
    what: &'static str,
    since: Instant,
    /// The time that it may wait for room.
    wait: Duration,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Asks for something by `ask`, which returns with the answer. Returns how long that took, too.
    fn ask<T>(&self, what: &'static str, wait: Duration, ask: impl FnOnce() -> T) -> (T, Duration) {
        let since = Instant::now();
        *locked(&self.asks) = Some(Asking { what, since, wait });
        let answer = ask();
        *locked(&self.asks) = None;
        self.answers.fetch_add(1, Ordering::Relaxed);
        (answer, since.elapsed())
    }

    /// Whether its request has had no answer for longer than `limit`.
    pub(crate) fn lacks_answer(&self, limit: Duration) -> bool {
        locked(&self.asks).is_some_and(|asking| asking.since.elapsed() > asking.wait + limit)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers", self.answers())?;
        match *locked(&self.asks) {
            Some(Asking { what, since, wait }) => {
                write!(f, ", asks to {what} since {:?}, may wait {wait:?}", since.elapsed())
            }
            None => Ok(()),
        }
    }
}

impl Ground {
    pub(crate) fn new(clients: u64, page: u64) -> Self {
        let clients = (0..clients).map(|_| State::default()).collect();
        Ground { clients, page, ..Ground::default() }
    }

    /// Ends the work of all clients, for that reason.
    pub(crate) fn fail(&self, reason: String) {
        locked(&self.failure).get_or_insert(reason);
        self.end();
    }

    /// Has all clients end when they have given back what they have.
    pub(crate) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    pub(crate) fn result(&self) -> Result<(), String> {
        locked(&self.failure).clone().map_or(Ok(()), Err)
    }

    /// Notes that a client has a range.
    fn take(&self, start: u64, size: u64, client: u64) -> Result<(), String> {
        let mut taken = locked(&self.taken);
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
        locked(&self.taken).remove(&start);
    }
}

/// A client.
pub(crate) struct One<'a> {
    pub(crate) number: u64,
    pub(crate) random: Random,
    pub(crate) ground: &'a Ground,
    pub(crate) running: &'a Running,
}

impl One<'_> {
    pub(crate) fn run(mut self) {
        while !self.ground.ends.load(Ordering::Relaxed) {
            if let Err(reason) = self.round() {
                self.ground.fail(format!("client {}: {reason}", self.number));
            }
        }
    }

    fn state(&self) -> &State {
        &self.ground.clients[self.number as usize]
    }

    /// One chunk from its request to its end.
    fn round(&mut self) -> Result<(), String> {
        let text = |what: &str| {
            let what = what.to_string();
            move |error: Error| format!("{what}: {error} (errno {})", error.errno())
        };
        let client = Client::connect(&self.running.socket).map_err(text("connect"))?;
        let size = (1 + self.random.below(if self.ground.page > 4096 { 4 } else { 96 }))
            * self.ground.page;
        let waits = self.random.below(3) > 0;
        let time = Duration::from_millis(self.random.below(2000));
        let request = ChunkRequest::new(size);
        let request = if waits { request.wait(time) } else { request };
        let from = RegionSelector::Device { device: "camera", kind: "" };
        let wait = if waits { time } else { Duration::ZERO };
        let (allocated, took) =
            self.state().ask("allocate", wait, || client.allocate(from, &request));
        if !waits {
            self.ground.longest.fetch_max(took.as_millis() as u64, Ordering::Relaxed);
        }
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
            self.look_after(&pattern, || pattern.is_in(&bytes))?;
            self.ground.leave(start);
            let (freed, _) = self.state().ask("free", Duration::ZERO, || bytes.free());
            return freed.map_err(|error| format!("free: {error} (errno {})", error.errno()));
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
        self.look_after(&pattern, || pattern.is_in(&read()))?;
        // The connection ends, and the memory is released later, or in the same moment.
        drop(shared);
        if self.random.below(2) == 0 {
            self.look_after(&pattern, || pattern.is_in(&read()))?;
        }
        self.ground.leave(start);
        Ok(())
    }

    /// Checks the bytes again and again for some time.
    fn look_after(
        &mut self,
        pattern: &Pattern,
        check: impl Fn() -> Result<(), String>,
    ) -> Result<(), String> {
        let pauses = self.random.below(4);
        for _ in 0..pauses {
            thread::sleep(Duration::from_millis(self.random.below(40)));
            check()?;
        }
        check()?;
        self.ground.checked.fetch_add((pauses + 1) * pattern.0.len() as u64, Ordering::Relaxed);
        Ok(())
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
