//! The aims, each with the figure reached.

use crate::measured::Measured;
use crate::tables::{head, row};
use crate::{
    BEST_FIT, BITMAP, BUDDY, DEVICE, KEEPING, NAMES, OFFSET, PEER_BITMAP, PEER_BUDDY, RANGES,
};
use cma_benches::replay::{median, median_ratio};

/// A figure to reach, and the one measured or the reason why there is none.
struct Aim {
    title: &'static str,
    bound: Bound,
    reached: Result<f64, String>,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Above(f64),
}
use Bound::{Above, AtLeast, AtMost};

/// Million pairs per second of toggled 4 KiB pages in one pool, by LLFree (Wrenger et al., USENIX
/// ATC 2023) with one thread and with two, on two other busy cores.
const LLFREE: [f64; 2] = [4.6, 5.5];

/// Prints them.
pub(crate) fn print(measured: &Measured) {
    println!("\n## Toggled pages in one pool, in million pairs per second");
    head(&["", "one thread", "two threads"]);
    let cells = |name: &str, figures: [f64; 2]| {
        row([name.into()].into_iter().chain(figures.map(|figure| format!("{figure:.1}"))));
    };
    for (name, rounds) in [DEVICE, KEEPING].into_iter().zip(&measured.toggles) {
        cells(name, rounds.each_ref().map(|rounds| median(rounds)));
    }
    cells("LLFree, on two other busy cores", LLFREE);
    println!("\n## Aims");
    head(&["", "aim", "reached", ""]);
    for Aim { title, bound, reached } in all(measured) {
        let (sign, aim) = match bound {
            AtMost(aim) => ("≤", aim),
            AtLeast(aim) => ("≥", aim),
            Above(aim) => (">", aim),
        };
        let is_met = |reached: &f64| match bound {
            AtMost(aim) => *reached <= aim,
            AtLeast(aim) => *reached >= aim,
            Above(aim) => *reached > aim,
        };
        let (reached, verdict) = match reached {
            Ok(reached) if is_met(&reached) => (figure(reached), "met"),
            Ok(reached) => (figure(reached), "**missed**"),
            Err(reason) => (reason, "not measured"),
        };
        row([title.into(), format!("{sign} {aim}"), reached, verdict.into()]);
    }
}

/// Ratios with two decimals, counts without.
fn figure(reached: f64) -> String {
    if reached < 100.0 { format!("{reached:.2}") } else { format!("{reached:.0}") }
}

fn all(measured: &Measured) -> Vec<Aim> {
    [of_the_path(measured), of_allocators(measured), of_threads(measured), of_memory(measured)]
        .into_iter()
        .flatten()
        .collect()
}

fn aim(title: &'static str, bound: Bound, reached: f64) -> Aim {
    Aim { title, bound, reached: Ok(reached) }
}

/// The whole path of a request.
fn of_the_path(measured: &Measured) -> Vec<Aim> {
    let ratio = |workload, of| measured.ratio(workload, of, OFFSET);
    let count = |contestant: &str| measured.instructions[contestant].clone();
    let per_peer = || Ok(count(DEVICE)? / count(OFFSET)?);
    let latency = median_ratio(&measured.latency[DEVICE], &measured.latency[OFFSET]);
    vec![
        Aim {
            title: "W1: instructions of a pair by device",
            bound: AtMost(600.0),
            reached: count(DEVICE),
        },
        Aim {
            title: "W1: instructions by device / offset-allocator",
            bound: AtMost(1.4),
            reached: per_peer(),
        },
        aim("W1: by device / offset-allocator", AtMost(1.5), ratio("mixed", DEVICE)),
        aim("W1: by names / offset-allocator", AtMost(1.8), ratio("mixed", NAMES)),
        aim("W1: p99.9 by device / offset-allocator", AtMost(2.0), latency),
        aim("W3: by device / offset-allocator", AtMost(2.0), ratio("pages", DEVICE)),
        aim("W4 100k: by device / offset-allocator", AtMost(2.0), ratio("live-100k", DEVICE)),
        Aim {
            title: "milliseconds from the start of cma to its first chunk, four plug-ins tried",
            bound: AtMost(20.0),
            reached: measured.start.as_ref().map(|times| median(times)).map_err(Clone::clone),
        },
    ]
}

/// The allocators alone.
fn of_allocators(measured: &Measured) -> Vec<Aim> {
    let ratio = |workload, of, to| measured.ratio(workload, of, to);
    let refused = measured
        .outcomes("mixed", BEST_FIT)
        .map_or(f64::NAN, |outcomes| outcomes[0].failures as f64);
    let growth =
        median_ratio(&measured.times("live-100k", BEST_FIT), &measured.times("live-1k", BEST_FIT));
    vec![
        aim("W1: best fit / offset-allocator", AtMost(1.0), ratio("mixed", BEST_FIT, OFFSET)),
        aim("W1: best fit's refusals", AtMost(0.0), refused),
        aim(
            "W1 powers of two: buddy / buddy_system_allocator",
            AtMost(0.7),
            ratio("mixed-pow2", BUDDY, PEER_BUDDY),
        ),
        aim("W2: best fit / range-alloc", AtMost(0.45), ratio("video", BEST_FIT, RANGES)),
        aim("W3: bitmap / bitmap-allocator", AtMost(0.7), ratio("pages", BITMAP, PEER_BITMAP)),
        aim("W3: best fit / offset-allocator", AtMost(1.0), ratio("pages", BEST_FIT, OFFSET)),
        aim("W4: best fit, 100k / 1k live", AtMost(2.0), growth),
        aim(
            "W6: bitmap / buddy_system_allocator",
            AtMost(1.0),
            ratio("huge-pages", BITMAP, PEER_BUDDY),
        ),
        aim(
            "W6: buddy / buddy_system_allocator",
            AtMost(1.0),
            ratio("huge-pages", BUDDY, PEER_BUDDY),
        ),
    ]
}

fn of_threads(measured: &Measured) -> Vec<Aim> {
    let [own, shared, cached] = measured.threads.each_ref().map(|rounds| median(rounds));
    let toggles = |threads: usize| median(&measured.toggles[1][threads]) / LLFREE[threads];
    vec![
        aim("W5: two threads on two regions / one thread", AtLeast(1.9), own),
        aim("W5: two threads on one region / one thread", AtLeast(1.0), shared),
        aim("W5: two threads on one region / one thread, with caches", AtLeast(1.6), cached),
        aim("toggled pages, one thread: with caches / LLFree", Above(1.0), toggles(0)),
        aim("toggled pages, two threads: with caches / LLFree", Above(1.0), toggles(1)),
    ]
}

fn of_memory(measured: &Measured) -> Vec<Aim> {
    let line = measured.memory.iter().find(|(name, _)| name == DEVICE);
    let memory = |at: usize| line.map_or(f64::NAN, |(_, bytes)| bytes[at]);
    vec![
        aim("Bytes per live chunk, framework and best fit, W1", AtMost(64.0), memory(0)),
        aim("Bytes per live chunk, framework and best fit, W4 100k", AtMost(64.0), memory(1)),
    ]
}
