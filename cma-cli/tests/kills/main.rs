//! Clients of a server that is killed at random moments: `cargo xtask kills` runs it as long as one
//! likes, and `cargo test` a little.
//!
//! The clients allocate, wait, map, check that memory is zero, write patterns, check them, and free
//! in each way there is. They must notice nothing but a delay: no other error, no foreign byte, no
//! range that two of them have. In the end all memory is free, and the keeper has the descriptors
//! and the memory that it had in the beginning.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../../cma-memory/tests/machine/mod.rs"]
mod machine;

mod clients;
mod inspection;
mod random;
mod running;

use clients::{Ground, One, State};
use cma_keeper::{Backoff, Program, Store, Supervision};
use machine::{HUGE, Machine, POOL, free};
use random::Random;
use running::{Running, until};
use rustix::process::{Pid, Signal, kill_process};
use std::env;
use std::ffi::OsString;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const USAGE: &str = "usage: kills [--kills N] [--clients N] [--memory memfd|hugetlb] \
    [--gap MILLISECONDS] [--seed N]; each ten kills come with an upgrade; hugetlb takes up to \
    three adjacent pages of 2 MiB for each client, for which it resizes the machine's pool as \
    root, and restores it";

/// What makes this program the keeper: it starts the server again at once, however often it dies.
const KEEPER: &str = "--keeper";

/// The number of kills after which every client has to get on, before the next ones.
const GETS_ON: u64 = 3;

/// The longest time of a request that doesn't wait. A client gives up after 30 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

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
        let (first, second) = match self.memory == "hugetlb" {
            true => (HUGE, HUGE),
            false => (128 << 10, 64 << 10),
        };
        let (first, second) = (self.clients * first, (self.clients * second).next_power_of_two());
        let pages = (first + second) / HUGE;
        let machine = (self.memory == "hugetlb").then(|| Machine::of_huge_pages(pages));
        // Restored after the memory has returned to the pool.
        let machine = machine.transpose().map_err(|why| format!("nothing was started: {why}"))?;
        let running = Running::start(folder.path(), &self.memory, first, second);
        let summary = self.run_with(&running, first + second).map_err(|reason| {
            format!("{reason}\nThe keeper and its servers said:\n{}", running.said())
        })?;
        drop(running);
        if machine.is_some() {
            // The kernel unpins the pages of a process some milliseconds after its end.
            until("the pool has its pages again", || free(POOL) == pages)?;
        }
        Ok(summary)
    }

    /// The unit of sizes in bytes.
    fn page(&self) -> u64 {
        if self.memory == "hugetlb" { HUGE } else { 4096 }
    }

    fn run_with(&self, running: &Running, size: u64) -> Result<String, String> {
        let ground = Ground::new(self.clients, self.page());
        running.until("the first server serves", || running.free() == Some(size))?;
        if running.said().contains(&format!("pid={}", running.keeper.id())) {
            return Err("the first server takes its keeper for a client of another one".into());
        }
        // The keeper has from its first chunk on what it pins pages with.
        running.use_once(self.page())?;
        running.until("all memory is free again", || running.free() == Some(size))?;
        let before = running.holdings_after_death()?;
        let begin = Instant::now();
        let done = thread::scope(|threads| {
            let ground = &ground;
            let clients: Vec<_> = (0..self.clients)
                .map(|number| {
                    let seed = self.seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let client = One { number, random: Random(seed), ground, running };
                    threads.spawn(move || client.run())
                })
                .collect();
            threads.spawn(move || {
                // Before the client gives up: then its request is still to be found.
                while clients.iter().any(|client| !client.is_finished()) {
                    if ground.clients.iter().any(|client| client.lacks_answer(ANSWER_LIMIT)) {
                        let found = inspection::of(running, ground);
                        ground.fail(format!("no answer within {ANSWER_LIMIT:?}\n{found}"));
                        break;
                    }
                    thread::sleep(Duration::from_millis(100));
                }
            });
            let done = self.kill(running, ground);
            ground.end();
            done
        });
        ground.result()?;
        let (killed, upgraded) = done?;
        let took = begin.elapsed();
        let at_end = |what: &str, holds: &dyn Fn() -> bool| {
            running.until(what, holds).map_err(|why| {
                let found = inspection::of(running, &ground);
                format!("{why}\n{found}")
            })
        };
        at_end("all memory is free", &|| running.free() == Some(size))?;
        // Pages of freed chunks stay in the server's files of those, until it ends.
        running.kill_server()?;
        at_end("all memory is still free", &|| running.free() == Some(size))?;
        at_end(&format!("the keeper has {before:?} again"), &|| running.holdings() == before)?;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let answers: u64 = ground.clients.iter().map(State::answers).sum();
        Ok(format!(
            "{killed} kills and {upgraded} upgrades in {} s: {answers} answers, {} chunks, \
             {} refusals, {} waits in vain, {} MiB looked at; the longest answer took {} ms",
            took.as_secs(),
            count(&ground.rounds),
            count(&ground.refusals),
            count(&ground.timeouts),
            count(&ground.checked) >> 20,
            count(&ground.longest),
        ))
    }

    /// Kills and upgrades servers while clients work. Returns how many of each.
    fn kill(&self, running: &Running, ground: &Ground) -> Result<(u64, u64), String> {
        let mut random = Random(self.seed);
        let (mut killed, mut upgraded) = (0, 0);
        while killed < self.kills {
            // Otherwise servers that start are killed, too.
            if random.below(4) > 0 {
                running.until("a server serves", || running.free().is_some())?;
            }
            thread::sleep(Duration::from_millis(random.below(self.gap)));
            if (killed + upgraded) % GETS_ON == 0 {
                get_on(running, ground)?;
            }
            if killed % 10 == 9 && upgraded <= killed / 10 {
                // It waits for the end of the old server, whatever comes meanwhile.
                upgraded += 1;
                kill_process(Pid::from_child(&running.keeper), Signal::USR2)
                    .map_err(|error| format!("the keeper has ended: {error}"))?;
            } else {
                killed += 1;
                running.kill_server()?;
            }
        }
        get_on(running, ground)?;
        Ok((killed, upgraded))
    }
}

/// Waits until each client has got an answer.
fn get_on(running: &Running, ground: &Ground) -> Result<(), String> {
    let answers = || ground.clients.iter().map(State::answers);
    let before: Vec<_> = answers().collect();
    running.until("each client has another answer", || {
        answers().zip(&before).all(|(now, before)| now > *before) || ground.result().is_err()
    })?;
    ground.result()
}
