//! A trace on the screen, in slow motion.

use crate::sampler::{Failed, Sample, Sampler, Source};
use crate::{Closed, Error, screen};
use cma_analysis::{Allocator, Outcome, Run};
use cma_framework::config::Bytes;
use cma_framework::{AllocError, ChunkRequest, PageRange};
use cma_running::{
    AllocatorStatus, Books, ChunkState, FailureState, RegionState, Requester, State,
};
use cma_trace::{Action, Trace};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time between two pictures.
const INTERVAL: Duration = Duration::from_millis(100);

/// The longest time that operations are executed for one picture.
const LONGEST_WORK: Duration = Duration::from_millis(80);

/// The time that a trace takes at its usual speed.
const USUAL_TIME: Duration = Duration::from_secs(60);

/// The number of refusals that are kept, as a region keeps them.
const REFUSALS: usize = 16;

/// A trace, and how it is executed.
#[derive(Debug)]
pub struct Replay {
    /// Its name.
    pub name: String,
    /// The trace.
    pub trace: Trace,
    /// The allocator that serves it.
    pub allocator: Allocator,
    /// The region.
    pub region: PageRange,
    /// How many times faster than it was recorded; `None` for a speed at which the whole trace
    /// takes a minute.
    pub speed: Option<f64>,
}

/// Executes a trace in one region and shows every stage, until the user quits or a signal arrives.
///
/// Requests that may wait don't, as in [`Run`].
///
/// # Errors
///
/// [`Error`]: the allocator refuses the region, or the terminal can't be used.
pub fn replay(replay: Replay) -> Result<Closed, Error> {
    screen::show(Sampler::start(move |reader| {
        match Run::new(&replay.trace, &replay.allocator, replay.region) {
            Ok(run) => reader.run(&mut ReplaySource::new(&replay, run)),
            Err(error) => reader.not_started(error.into()),
        }
    })?)
}

struct ReplaySource<'t> {
    replay: &'t Replay,
    run: Run<'t>,
    /// Microseconds of the trace for each microsecond.
    speed: f64,
    /// The time of the trace that was reached, in microseconds.
    at_us: f64,
    /// The last refused requests with their times in microseconds, the oldest first.
    refusals: VecDeque<(u64, FailureState)>,
}

impl<'t> ReplaySource<'t> {
    fn new(replay: &'t Replay, run: Run<'t>) -> Self {
        let operations = replay.trace.operations();
        let first = operations.first().map_or(0, |operation| operation.time_us);
        let last = operations.last().map_or(0, |operation| operation.time_us);
        let usual = (last - first) as f64 / USUAL_TIME.as_micros() as f64;
        ReplaySource {
            replay,
            run,
            speed: replay.speed.unwrap_or(usual).max(1e-9),
            at_us: first as f64,
            refusals: VecDeque::new(),
        }
    }

    fn next_time(&self) -> Option<u64> {
        let operations = self.replay.trace.operations();
        operations.get(self.run.next_operation()).map(|operation| operation.time_us)
    }

    /// Executes the next operation.
    fn execute(&mut self) {
        let Some(step) = self.run.step() else { return };
        let Outcome::Refused(error) = step.outcome else { return };
        let operation = self.replay.trace.operations()[step.operation];
        let (Action::Allocate { size, alignment, requester, limits }
        | Action::Refused { size, alignment, requester, limits }) = operation.action
        else {
            return;
        };
        if self.refusals.len() == REFUSALS {
            self.refusals.pop_front();
        }
        let limits = &self.replay.trace.limits()[usize::from(limits)];
        let failure = FailureState {
            request: limits.request(size, alignment),
            requester: Some(self.requester(requester)),
            reason: reason(&error),
            age: Duration::ZERO,
        };
        self.refusals.push_back((operation.time_us, failure));
    }

    fn requester(&self, index: u16) -> Requester {
        let requester = &self.replay.trace.requesters()[usize::from(index)];
        Requester {
            device: requester.device.clone(),
            kind: requester.kind.clone().unwrap_or_else(|| "common".to_string()),
        }
    }

    fn sample(&self) -> Sample {
        let region = self.run.region();
        let now_us = self.at_us as u64;
        let age = |since_us: u64| Duration::from_micros(now_us.saturating_sub(since_us));
        let mut chunks: Vec<ChunkState> = self
            .run
            .live()
            .map(|chunk| ChunkState {
                range: chunk.range,
                request: ChunkRequest::new(Bytes(chunk.range.bytes())),
                requester: Some(self.requester(chunk.requester)),
                age: Some(age(chunk.since_us)),
                process: None,
            })
            .collect();
        chunks.sort_unstable_by_key(|chunk| chunk.range.first_page());
        // The run is the region's only user, so only an allocator that hangs makes it stuck, and
        // then this thread is inside it.
        let statistics = region.statistics().unwrap_or_default();
        let aged = |(at_us, failure): &(u64, FailureState)| FailureState {
            age: age(*at_us),
            ..failure.clone()
        };
        let status = region.status();
        let name = self.replay.allocator.to_string();
        let (allocator, problem) = match status.allocator {
            cma_framework::AllocatorState::OutOfService { reason, .. } => {
                let problem = format!("allocator \"{name}\" is out of service: {reason}");
                (AllocatorStatus::OutOfService { name }, Some(problem))
            }
            _ => (AllocatorStatus::Serving { name: Some(name) }, None),
        };
        let books = Books {
            free_bytes: status.free_bytes,
            largest_free_bytes: status.largest_hole_bytes,
            high_water_bytes: statistics.high_water_bytes,
            chunks_placed: statistics.chunks_placed,
            requests_refused: statistics.requests_refused,
            chunks_freed: statistics.chunks_freed,
            chunks,
            waiters: Vec::new(),
            failures: self.refusals.iter().map(aged).collect(),
        };
        let region = RegionState {
            name: region.name().map(str::to_string),
            range: region.range(),
            allocator,
            problem,
            books: Some(books),
        };
        let (done, all) = (self.run.next_operation(), self.replay.trace.operations().len());
        Sample {
            state: State { regions: vec![region] },
            at: Duration::from_micros(now_us),
            pace: format!("{done} of {all} operations, speed {}", speed(self.speed)),
            ended: done == all,
        }
    }
}

impl Source for ReplaySource<'_> {
    fn title(&self) -> String {
        format!("{} on {}", self.replay.name, self.replay.allocator)
    }

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn change_pace(&mut self, faster: bool) {
        let speed = if faster { self.speed * 2.0 } else { self.speed / 2.0 };
        self.speed = speed.clamp(1e-9, 1e9);
    }

    fn read(&mut self, elapsed: Duration) -> Result<Sample, Failed> {
        let until = self.at_us + elapsed.as_micros() as f64 * self.speed;
        let started = Instant::now();
        self.at_us = until;
        while let Some(next) = self.next_time() {
            if next as f64 > until {
                break;
            }
            if started.elapsed() > LONGEST_WORK {
                // The trace goes on from here, slower than it should.
                self.at_us = next as f64;
                break;
            }
            self.execute();
        }
        if self.next_time().is_none() {
            let last = self.replay.trace.operations().last();
            self.at_us = last.map_or(0.0, |operation| operation.time_us as f64);
        }
        Ok(self.sample())
    }

    fn step(&mut self) -> Result<Sample, Failed> {
        if let Some(next) = self.next_time() {
            self.at_us = self.at_us.max(next as f64);
            self.execute();
        }
        Ok(self.sample())
    }
}

/// Why the region refused a request.
fn reason(error: &AllocError) -> String {
    match error {
        AllocError::NoRegion(refusals) => match refusals.iter().next() {
            Some(refusal) => refusal.reason.to_string(),
            None => error.to_string(),
        },
        error => error.to_string(),
    }
}

/// A speed, such as `0.05x`.
fn speed(speed: f64) -> String {
    if speed >= 10.0 {
        format!("{speed:.0}x")
    } else if speed >= 0.01 {
        format!("{speed:.2}x")
    } else {
        format!("{speed:.1e}x")
    }
}

#[cfg(test)]
mod tests;
