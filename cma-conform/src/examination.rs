//! Examining an allocator in child processes: one for each guarantee, and one for each attempt to
//! show a violation with fewer calls. So nothing that an allocator does to its process reaches the
//! host, and no attempt is affected by an earlier one.

use crate::checked::Subject;
use crate::child::{self, End, WORKED};
use crate::finding::{Finding, Recorded, Sight};
use crate::guarantees::{Guarantee, watched};
use crate::script::{Plan, Script, number};
use crate::shrinking::shrink;
use crate::tape::{Tape, Taped};
use crate::violation::{Failure, Violation};
use crate::watch::{DEFAULT_SEED, Watch};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a child process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time of one call of the allocator.
    pub call: Duration,
    /// The time of a guarantee.
    pub guarantee: Duration,
    /// The bytes of data (`RLIMIT_DATA`).
    pub memory: u64,
}

impl Default for Limits {
    /// 10 s for a call, 5 minutes for a guarantee, and 1 GiB.
    fn default() -> Limits {
        let (call, guarantee) = (Duration::from_secs(10), Duration::from_secs(300));
        Limits { call, guarantee, memory: 1 << 30 }
    }
}

/// The time of a process that makes calls again, and of a call that is expected not to return.
const AGAIN: Duration = Duration::from_secs(20);
const HANGING: Duration = Duration::from_secs(2);

/// The time in which calls are left out in one process.
const SHORTENING: Duration = Duration::from_secs(60);

/// The most processes that may end while they leave out calls.
const MOST_ENDED: usize = 100;

/// The most calls of all attempts, with a process for each and with one for all.
const MOST_CALLS: usize = 100_000;
const MOST_CALLS_TOGETHER: usize = 5_000_000;

/// The most calls of other allocators that are made again with those of the one that failed.
const MOST_TOGETHER: usize = 1 << 14;

/// Examines an allocator, which each child process obtains from a function. The process that
/// examines must have one thread: a child starts as its copy.
#[derive(Debug)]
pub struct Examination<F> {
    subject: F,
    limits: Limits,
    seed: u64,
    tape: Arc<Tape>,
}

impl<F: Fn() -> Result<Subject, String>> Examination<F> {
    /// An examination of the allocator that `subject` returns, with the default limits and seed.
    ///
    /// # Errors
    ///
    /// The memory that is shared with the child processes can't be had.
    pub fn new(subject: F) -> io::Result<Self> {
        let tape = Arc::new(Tape::new()?);
        Ok(Examination { subject, limits: Limits::default(), seed: DEFAULT_SEED, tape })
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Examination { limits, ..self }
    }

    /// Sets the seed of random operations.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Examination { seed, ..self }
    }

    /// Checks the guarantee. If it is broken, looks for the shortest calls that show it;
    /// `shortening` is told how many calls are left.
    ///
    /// # Errors
    ///
    /// A child process can't be started, or could not obtain the allocator.
    pub fn examine(
        &self,
        name: &'static str,
        guarantee: Guarantee,
        shortening: &mut dyn FnMut(usize),
    ) -> io::Result<Option<Finding>> {
        let Limits { call, guarantee: time, .. } = self.limits;
        let Some(seen) = self.observe(call, time, guarantee)? else { return Ok(None) };
        let alone = self.tape.of_the_failed();
        let mut together = self.tape.all();
        together.drain(..together.len().saturating_sub(MOST_TOGETHER));
        for script in [Script::from_tape(&alone), Script::from_tape(&together)] {
            for (verify_each, end_elsewhere) in [(false, false), (true, false), (false, true)] {
                let plan = Plan { kind: seen.kind.clone(), verify_each, end_elsewhere };
                if !self.shows(&script, &plan, &seen) {
                    continue;
                }
                let script = self.shorten(script, &plan, &seen, shortening);
                // The calls with their answers are those of a last run.
                if let Some(mut seen) = self.again(&script, &plan)? {
                    seen.is_elsewhere = end_elsewhere;
                    let calls = match plan.kind.as_str() {
                        // The same calls were made without questions, too.
                        "FitChangedSomething" => self.tape.of_the_failed(),
                        _ => self.tape.all(),
                    };
                    return Ok(Some(Finding::new(name, seen, recorded(&calls), true)));
                }
                break;
            }
        }
        Ok(Some(Finding::new(name, seen, recorded(&alone), false)))
    }

    /// The shortest script that was found of those that show what was `seen`, as `script` does.
    ///
    /// One child process makes all attempts, up to one that ends it: then the calls of that attempt
    /// are a shorter script. Should the allocator have kept anything from one attempt to the next,
    /// so that the result does not show it in a process of its own, each attempt gets one.
    fn shorten(
        &self,
        script: Script,
        plan: &Plan,
        seen: &Sight,
        shortening: &mut dyn FnMut(usize),
    ) -> Script {
        let mut shorter = script.clone();
        for _ in 0..MOST_ENDED {
            let in_child = shrinking_in_child(shorter.clone(), plan.clone(), self.tape.clone());
            let now = match self.observe(self.call_again(plan), SHORTENING + AGAIN, in_child) {
                Ok(Some(now)) if now.is_like(seen) => Script::from_tape(&self.tape.all()),
                _ => break,
            };
            let is_done = now == shorter;
            shorter = now;
            shortening(shorter.events().len());
            if is_done {
                break;
            }
        }
        // Only this process sees a panic of a library's drop, and not the child that shortens.
        if plan.kind != "PanickedInDrop" && self.shows(&shorter, plan, seen) {
            return shorter;
        }
        shrink(script, MOST_CALLS, Instant::now() + SHORTENING, |script| {
            let shows = self.shows(script, plan, seen);
            if shows {
                shortening(script.events().len());
            }
            shows
        })
    }

    /// Whether `script` shows what was `seen`.
    fn shows(&self, script: &Script, plan: &Plan, seen: &Sight) -> bool {
        if script.events().is_empty() {
            return false;
        }
        self.again(script, plan).ok().flatten().is_some_and(|now| now.is_like(seen))
    }

    /// What the calls of `script` show.
    fn again(&self, script: &Script, plan: &Plan) -> io::Result<Option<Sight>> {
        let (script, plan) = (script.clone(), plan.clone());
        let call = self.call_again(&plan);
        self.observe(call, AGAIN, move |subject| script.run(subject, &plan))
    }

    /// The time of a call that is made again.
    fn call_again(&self, plan: &Plan) -> Duration {
        match plan.kind.as_str() {
            "Hangs" => HANGING.min(self.limits.call),
            _ => self.limits.call,
        }
    }

    /// Does `job` in a child process.
    fn observe(
        &self,
        call: Duration,
        time: Duration,
        job: impl FnOnce(&Subject) -> Result<(), Failure> + Send + 'static,
    ) -> io::Result<Option<Sight>> {
        let tape = &self.tape;
        tape.clear();
        let work = || {
            tape.keep_from_children();
            let subject = match (self.subject)() {
                Ok(subject) => subject,
                Err(reason) => return tape.conclude(&format!("{NO_SUBJECT}\n{reason}"), &[]),
            };
            let watch = Watch::taping(tape.clone(), self.seed);
            match watched(call, &watch, move || job(&subject)) {
                Ok(()) => tape.conclude(KEPT, &[]),
                Err(failure) => {
                    let kind = failure.violation.kind();
                    let what = match &*failure.violation {
                        // Without the seed, which is an option of this examination.
                        Violation::Hangs { call, seconds, .. } => {
                            format!("it has not returned from this call within {seconds} s: {call}")
                        }
                        violation => violation.to_string(),
                    };
                    let text = format!("{kind}\n{}", printable(&what));
                    let steps = match *failure.violation {
                        // The call that has not returned is the last one on the tape.
                        Violation::Hangs { .. } => Vec::new(),
                        _ => failure.taped(),
                    };
                    tape.conclude(&text, &steps);
                }
            }
        };
        let (end, output) = child::run(time, self.limits.memory, work)?;
        let in_progress = tape.in_progress().map(|taped| taped.call);
        let seen = |kind: &str, what: String| {
            let kind = kind.to_string();
            Sight { kind, what, in_progress, is_elsewhere: false }
        };
        let verdict = tape.verdict();
        let verdict = verdict.as_deref().map(|text| text.split_once('\n').unwrap_or((text, "")));
        Ok(match (end, verdict) {
            (End::Exit(WORKED), Some((KEPT, _))) => panic_in(&output).map(|message| {
                seen("PanickedInDrop", format!("it panicked where it is dropped: {message}"))
            }),
            (End::Exit(WORKED), Some((NO_SUBJECT, reason))) => {
                return Err(io::Error::other(reason.to_string()));
            }
            (End::Exit(WORKED), Some((kind, what))) => Some(seen(kind, what.to_string())),
            (End::Exit(code), _) if in_progress.is_none() => {
                let what =
                    format!("the process of the suite ended with exit code {code}: {output}");
                return Err(io::Error::other(what));
            }
            (End::Exit(code), _) => {
                Some(seen("Exited", format!("it ended the process with exit code {code}")))
            }
            (End::Signal(signal), _) => {
                let printed = last_line(&output);
                let name = name_of(signal).map(|name| format!(" ({name})")).unwrap_or_default();
                let what = format!("it crashed with signal {signal}{name}");
                let printed = printed.map(|line| format!(", and printed: {line}"));
                Some(seen("Crashed", what + &printed.unwrap_or_default()))
            }
            (End::Unwatched, _) => {
                let (kind, what) = ("KilledItsParent".to_string(), KILLED.to_string());
                // It may have gone on for some calls.
                Some(Sight { kind, what, in_progress: None, is_elsewhere: false })
            }
            (End::OutOfTime, _) => {
                let (calls, time) = (tape.count(), time.as_secs());
                Some(seen("OutOfTime", format!("it was not done with {calls} calls in {time} s")))
            }
        })
    }
}

/// Shortens `script` in this process, and makes the calls of the result, which are on the tape
/// then. On the tape there are the calls of one attempt only.
fn shrinking_in_child(
    script: Script,
    plan: Plan,
    tape: Arc<Tape>,
) -> impl FnOnce(&Subject) -> Result<(), Failure> + Send + 'static {
    move |subject| {
        let run = |script: &Script| {
            tape.clear();
            script.run(subject, &plan)
        };
        let end = Instant::now() + SHORTENING;
        let script = shrink(script, MOST_CALLS_TOGETHER, end, |script| {
            run(script).is_err_and(|failure| failure.violation.kind() == plan.kind)
        });
        run(&script)
    }
}

/// What is known when a keeper is killed.
const KILLED: &str = "the parent of its process, which watches it, was killed";

/// The verdicts other than a violation.
const KEPT: &str = "kept";
const NO_SUBJECT: &str = "no subject";

/// The calls, with allocators and threads counted from 0.
fn recorded(tape: &[Taped]) -> Vec<Recorded> {
    let (mut allocators, mut threads) = (Vec::new(), Vec::new());
    let mut one = |taped: &Taped| Recorded {
        allocator: number(&mut allocators, taped.allocator),
        thread: number(&mut threads, taped.thread),
        region: taped.region,
        call: taped.call,
        answer: taped.answer,
    };
    tape.iter().map(&mut one).collect()
}

/// The message of the first panic that was printed. One that reaches a caller is in the verdict,
/// too.
fn panic_in(output: &str) -> Option<String> {
    let (_, after) = output.split_once(" panicked at ")?;
    let (place, message) = after.split_once('\n')?;
    Some(format!("{}, at {}", one_line(message), place.trim_end_matches(':')))
}

/// The last line, without those that are about a backtrace.
fn last_line(output: &str) -> Option<String> {
    let mut lines = output.trim_end().lines().rev();
    let line = one_line(lines.find(|line| !line.contains("backtrace"))?);
    (!line.is_empty()).then_some(line)
}

/// The text of a plug-in as one line of printable characters.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| match letter {
            letter if letter.is_control() => letter.escape_default().collect::<Vec<_>>(),
            letter => vec![letter],
        })
        .collect()
}

/// The first line, of printable characters and not long.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    line.chars().take(200).flat_map(char::escape_debug).collect()
}

fn name_of(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGALRM => "SIGALRM",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        _ => return None,
    })
}
