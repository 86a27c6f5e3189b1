//! Allocators compared on traces: what they refuse and leave free in one region, and their speed.

use crate::allocator::Allocator;
use crate::run::{Outcome, Run};
use cma_framework::errors::RegisterError;
use cma_framework::{PageRange, Pages};
use cma_trace::Trace;
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::time::Duration;

/// What an allocator makes of one region during a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// The requests that it refused.
    pub refused: u64,
    /// The smallest of the largest free ranges of all moments that were looked at.
    pub least_free_range: Pages,
    /// The median of them.
    pub median_free_range: Pages,
}

/// The most moments at which the largest free range is looked for: a region with many holes takes
/// long to look at.
const MOMENTS: usize = 1 << 14;

/// Runs `trace` on `allocator` in `region` to its end, also after refused requests. The largest
/// free range is looked for after each operation, or at 2^13 to 2^14 moments, equally many
/// operations apart, of a longer trace.
///
/// # Errors
///
/// [`RegisterError`] when the allocator refuses the region or its parameters.
pub fn pressure(
    trace: &Trace,
    allocator: &Allocator,
    region: PageRange,
) -> Result<Pressure, RegisterError> {
    let mut run = Run::new(trace, allocator, region)?;
    let every = trace.operations().len().div_ceil(MOMENTS);
    let mut refused = 0;
    let mut largest = Vec::new();
    while let Some(step) = run.step() {
        refused += u64::from(matches!(step.outcome, Outcome::Refused(_)));
        if step.operation.is_multiple_of(every) {
            largest.push(run.region().status().largest_hole);
        }
    }
    largest.sort_unstable();
    let median = largest.get(largest.len() / 2).copied().unwrap_or(region.pages());
    let least = largest.first().copied().unwrap_or(region.pages());
    Ok(Pressure { refused, least_free_range: least, median_free_range: median })
}

/// The time of an operation in several runs, in nanoseconds: the median, and the quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter of the runs took no longer.
    pub lower: f64,
    /// Half of the runs took no longer.
    pub median: f64,
    /// Three quarters of the runs took no longer.
    pub upper: f64,
}

impl Spread {
    /// Of the average times of each run. Between two runs it is interpolated. All are 0 without
    /// any.
    pub fn of(mut runs: Vec<f64>) -> Spread {
        runs.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            let position = runs.len().saturating_sub(1) * quarter;
            let (whole, part) = (position / 4, position % 4);
            let (Some(low), high) = (runs.get(whole), runs.get(whole + 1)) else { return 0.0 };
            // Nothing of the next one counts, which may be infinite.
            if part == 0 {
                return *low;
            }
            #[allow(clippy::cast_precision_loss, reason = "0 to 3")]
            let part = part as f64 / 4.0;
            low + (high.unwrap_or(low) - low) * part
        };
        Spread { lower: at(1), median: at(2), upper: at(3) }
    }
}

/// Measures `allocators` on `trace` in `region`, `rounds` times each. The order of the allocators
/// rotates from round to round, so that whatever else the machine does meets all of them. The times
/// are CPU time of this thread and include the calls of the framework and a table of live chunks;
/// the preparation and the end of a run are left out. `measured` is called after each run.
///
/// The results are in the order of the allocators. One that refuses the region or its parameters
/// has that as its result, and takes part in no further round.
pub fn speeds(
    trace: &Trace,
    allocators: &[&Allocator],
    region: PageRange,
    rounds: usize,
    mut measured: impl FnMut(),
) -> Vec<Result<Spread, RegisterError>> {
    let mut times: Vec<Result<Vec<f64>, _>> = allocators.iter().map(|_| Ok(Vec::new())).collect();
    for round in 0..rounds {
        for n in 0..allocators.len() {
            let n = (n + round) % allocators.len();
            if let Ok(of_runs) = &mut times[n] {
                match ns_per_operation(trace, allocators[n], region) {
                    Ok(ns) => of_runs.push(ns),
                    Err(refused) => times[n] = Err(refused),
                }
            }
            measured();
        }
    }
    times.into_iter().map(|of_runs| of_runs.map(Spread::of)).collect()
}

fn ns_per_operation(
    trace: &Trace,
    allocator: &Allocator,
    region: PageRange,
) -> Result<f64, RegisterError> {
    let mut run = Run::new(trace, allocator, region)?;
    let before = cpu_time();
    while run.step().is_some() {}
    let elapsed = cpu_time() - before;
    #[allow(clippy::cast_precision_loss, reason = "an average")]
    let (ns, operations) = (elapsed.as_nanos() as f64, trace.operations().len().max(1) as f64);
    Ok(ns / operations)
}

/// CPU time of this thread: other programs don't count.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::from_secs(time.tv_sec.unsigned_abs())
        + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

/// The figures of one allocator on one trace from which a [`Verdict`] is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Its smallest region; `None` if it serves the trace in no region that was tried.
    pub region: Option<Pages>,
    /// The most pages that are live at a time.
    pub peak: Pages,
    /// Its time for an operation; `None` if it refuses the region or its parameters.
    pub speed: Option<Spread>,
}

/// Which allocator needs least memory and which is fastest, in one line that says how often and by
/// how much.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict(String);

impl Verdict {
    /// The verdict on the allocators `names` after `rounds` runs of each trace. A trace has a score
    /// for each, in the order of the names.
    pub fn of(names: &[String], traces: &[Vec<Score>], rounds: usize) -> Verdict {
        let overhead = |score: &Score| {
            #[allow(clippy::cast_precision_loss, reason = "a ratio for display")]
            score.region.map_or(f64::INFINITY, |r| r.get() as f64 / score.peak.get() as f64)
        };
        let smaller = |one: &Score, other: &Score| {
            one.region.is_some_and(|one| other.region.is_none_or(|other| one < other))
        };
        let faster = |one: &Score, other: &Score| {
            one.speed.is_some_and(|one| other.speed.is_none_or(|other| one.upper < other.lower))
        };
        let memory = winner(
            names,
            traces,
            smaller,
            overhead,
            |best, rest| format!("{best} needs the smallest region on {rest}"),
            "no allocator needs the smallest region more often than the others",
            |overhead| match overhead.is_finite() {
                true => format!("{overhead:.3} of the peak"),
                false => "not served".to_string(),
            },
        );
        let speed = winner(
            names,
            traces,
            faster,
            |score| score.speed.map_or(f64::INFINITY, |speed| speed.median),
            |best, rest| format!("{best} is fastest on {rest}"),
            "no allocator is clearly the fastest more often than the others",
            |ns| match ns.is_finite() {
                true => format!("{ns:.0} ns"),
                false => "not measured".to_string(),
            },
        );
        let runs = match rounds {
            1 => "one run of each trace, which shows no spread".to_string(),
            _ => format!(
                "{rounds} interleaved runs of each trace, where faster means that the quartiles \
                 do not overlap"
            ),
        };
        Verdict(format!(
            "{memory}; {speed}; based on the smallest regions, exact to a page, and on {runs}"
        ))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One half of a verdict: who is `better` than all others on most traces, with the median `value`
/// of each allocator.
fn winner(
    names: &[String],
    traces: &[Vec<Score>],
    better: impl Fn(&Score, &Score) -> bool,
    value: impl Fn(&Score) -> f64,
    wins: impl Fn(&str, &str) -> String,
    nobody: &str,
    shown: impl Fn(f64) -> String,
) -> String {
    let beats_all = |scores: &[Score], n: usize| {
        scores.iter().enumerate().all(|(m, other)| m == n || better(&scores[n], other))
    };
    let won = |n: usize| traces.iter().filter(|scores| beats_all(scores, n)).count();
    let counts: Vec<usize> = (0..names.len()).map(won).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    let median =
        |n: usize| Spread::of(traces.iter().map(|scores| value(&scores[n])).collect()).median;
    let medians: Vec<String> =
        names.iter().zip(0..).map(|(name, n)| format!("{name} {}", shown(median(n)))).collect();
    let text = match counts.iter().filter(|count| **count == most).count() {
        1 if most > 0 => {
            let best = counts.iter().position(|count| *count == most).unwrap_or(0);
            let on = match traces.len() {
                1 => "the trace".to_string(),
                all => format!("{most} of {all} traces"),
            };
            wins(&names[best], &on)
        }
        _ => nobody.to_string(),
    };
    let medians_of = if traces.len() == 1 { "" } else { "medians: " };
    format!("{text} ({medians_of}{})", medians.join(", "))
}

#[cfg(test)]
mod tests;
