//! All quoted figures, in one run: the times of our allocators and their peers on the workloads,
//! and the aims with the figures reached, as Markdown on standard output.
//!
//! All contestants run in each of several rounds, each time in another order, so that variations of
//! the machine affect all alike. Times are medians over the rounds. A ratio is computed in each
//! round, and the table has the median of the ratios.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program whose purpose is to print a table"
)]

use clap::Parser;
use cma_benches::entries::CONTESTANTS;
use cma_benches::framework::{self, ByDevice};
use cma_benches::latency::p999;
use cma_benches::ours::Ours;
use cma_benches::replay::{ReplayResult, median, median_ratio};
use cma_benches::threads::{Regions, speedup};
use cma_benches::{Workload, peers};
use std::collections::HashMap;
use std::fs;
use std::process::Command;

/// Prints all figures as Markdown.
#[derive(Debug, Parser)]
struct Arguments {
    /// The number of rounds; an odd number.
    #[arg(long, short, default_value_t = 7)]
    rounds: usize,
    /// Include slow measurements, which take minutes: W4 with a million chunks, and peers on
    /// workloads on which an operation takes them microseconds.
    #[arg(long)]
    heavy: bool,
    /// Cargo passes it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The titles of the workloads, by name.
const ROWS: [(&str, &str); 11] = [
    ("mixed", "W1 mixed"),
    ("mixed-pow2", "W1 powers of two"),
    ("video", "W2 video"),
    ("pages", "W3 4 KiB"),
    ("live-1k", "W4 1k live"),
    ("live-10k", "W4 10k live"),
    ("live-100k", "W4 100k live"),
    ("live-1m", "W4 1M live"),
    ("huge-pages", "W6 2 MiB"),
    ("ffmpeg", "trace: ffmpeg-transcode-1080p"),
    ("gstreamer", "trace: gstreamer-phone"),
];

const BEST_FIT: &str = "best-fit";
const BUDDY: &str = "buddy";
const BITMAP: &str = "bitmap";
const DEVICE: &str = "framework (device)";
const NAMES: &str = "framework (names)";
const OFFSET: &str = "offset-allocator";
const RANGES: &str = "range-alloc";
const PEER_BUDDY: &str = "buddy_system_allocator";

/// A contestant and the function that times its single allocations.
type LatencyEntry = (&'static str, fn(&Workload) -> f64);

const LATENCIES: [LatencyEntry; 3] = [
    (BEST_FIT, p999::<Ours<cma_best_fit::BestFit>>),
    (DEVICE, p999::<ByDevice<framework::BestFitPlugin>>),
    (OFFSET, p999::<peers::OffsetAllocator>),
];

/// The measurements, with one entry per round.
#[derive(Default)]
struct Measured {
    /// By workload and contestant.
    placing: HashMap<(String, &'static str), Vec<ReplayResult>>,
    /// p99.9 of an allocation on W1 in nanoseconds, by contestant.
    latency: HashMap<&'static str, Vec<f64>>,
    /// The speedup of two threads over one, on two regions and on one.
    threads: [Vec<f64>; 2],
    /// Bytes per live chunk after W1 and after W4 with 100 k chunks, in the order of the output.
    memory: Vec<(String, [f64; 2])>,
}

fn main() {
    let arguments = Arguments::parse();
    let before = load();
    let measured = measure(&arguments);
    println!("{} rounds; the load was {before} before and {} after.", arguments.rounds, load());
    side_by_side(&measured);
    placing(&measured);
    latency_and_memory(&measured);
    aims(&measured);
}

/// The machine's load average over a minute, if the system reports it.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().into()
}

fn measure(arguments: &Arguments) -> Measured {
    let mut workloads = vec![
        Workload::mixed(),
        Workload::mixed_pow2(),
        Workload::video(),
        Workload::pages(),
        Workload::live(1_000),
        Workload::live(10_000),
        Workload::live(100_000),
        Workload::huge_pages(),
        Workload::ffmpeg(),
        Workload::gstreamer(),
    ];
    if arguments.heavy {
        workloads.push(Workload::live(1_000_000));
    }
    let threads = [Workload::threads(0), Workload::threads(1)];
    let mut latencies = LATENCIES;
    let mut measured = Measured { memory: memory(), ..Measured::default() };
    for round in 1..=arguments.rounds.max(1) {
        eprintln!("round {round} of {}", arguments.rounds);
        for workload in &workloads {
            let mut order = CONTESTANTS;
            order.rotate_left(round % CONTESTANTS.len());
            for entry in order {
                if (entry.serves)(workload) && (arguments.heavy || !(entry.is_heavy)(workload)) {
                    let place =
                        measured.placing.entry((workload.name.clone(), entry.name)).or_default();
                    place.push((entry.replay)(workload));
                }
            }
        }
        // A few slow allocations decide these figures, so they vary more than averages, and run
        // more often.
        for _ in 0..LATENCIES.len() {
            latencies.rotate_left(1);
            for (name, time) in latencies {
                measured.latency.entry(name).or_default().push(time(&workloads[0]));
            }
        }
        measured.threads[0].push(speedup::<framework::BestFitPlugin>(&threads, Regions::Own));
        measured.threads[1].push(speedup::<framework::BestFitPlugin>(&threads, Regions::Shared));
    }
    measured
}

/// Runs the program `memory`, which counts heap bytes: counting would cost time here.
fn memory() -> Vec<(String, [f64; 2])> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_memory")).output().expect("cargo builds the program");
    let text = String::from_utf8(output.stdout).expect("the program writes text");
    let line = |line: &str| {
        let mut fields = line.split('\t');
        let name = fields.next()?.to_owned();
        let mut number = || fields.next()?.parse().ok();
        Some((name, [number()?, number()?]))
    };
    text.lines().map(|text| line(text).expect("a name and two numbers")).collect()
}

impl Measured {
    fn outcomes(&self, workload: &str, contestant: &'static str) -> Option<&[ReplayResult]> {
        self.placing.get(&(workload.to_owned(), contestant)).map(Vec::as_slice)
    }

    fn times(&self, workload: &str, contestant: &'static str) -> Vec<f64> {
        let outcomes = self.outcomes(workload, contestant).unwrap_or_default();
        outcomes.iter().map(|outcome| outcome.nanoseconds_per_pair).collect()
    }

    /// The ratio of the times of two contestants.
    fn ratio(&self, workload: &str, of: &'static str, to: &'static str) -> f64 {
        median_ratio(&self.times(workload, of), &self.times(workload, to))
    }
}

fn row(cells: impl IntoIterator<Item = String>) {
    println!("| {} |", cells.into_iter().collect::<Vec<_>>().join(" | "));
}

fn head(cells: &[&str]) {
    println!();
    row(cells.iter().map(ToString::to_string));
    row(cells.iter().map(|_| String::from("---")));
}

/// The summary: time and ratio for each workload, then refusals and packing on the hardest
/// workloads.
fn side_by_side(measured: &Measured) {
    println!("\n## Side by side\n");
    println!(
        "Nanoseconds per allocation and free, and in brackets the ratio to offset-allocator, or"
    );
    println!("in the rows without it to range-alloc.");
    let names = CONTESTANTS.map(|entry| entry.name);
    head(&[&[""], &names[..]].concat());
    for (workload, title) in ROWS {
        let peer =
            [OFFSET, RANGES].into_iter().find(|peer| measured.outcomes(workload, peer).is_some());
        let cells = names.map(|name| {
            let times = measured.times(workload, name);
            match peer {
                _ if times.is_empty() => String::new(),
                Some(peer) => {
                    format!("{:.0} ({:.2})", median(&times), measured.ratio(workload, name, peer))
                }
                None => format!("{:.0}", median(&times)),
            }
        });
        if cells.iter().any(|cell| !cell.is_empty()) {
            row([title.to_owned()].into_iter().chain(cells));
        }
    }
    let of = |title: &str, workload: &str, cell: &dyn Fn(&ReplayResult) -> String| {
        let cells = names.map(|name| measured.outcomes(workload, name).map(|all| cell(&all[0])));
        row([title.to_owned()].into_iter().chain(cells.map(Option::unwrap_or_default)));
    };
    let refused = |outcome: &ReplayResult| outcome.failures.to_string();
    let packing = |outcome: &ReplayResult| format!("{:.3}", outcome.packing);
    of("refused of 1,000,000, W1", "mixed", &refused);
    of("refused of 500,000, W4 1k live", "live-1k", &refused);
    of("largest hole over free, W1", "mixed", &packing);
    of("largest hole over free, W4 1k live", "live-1k", &packing);
}

fn placing(measured: &Measured) {
    println!("\n## Requests refused");
    per_contestant(measured, |outcomes| outcomes[0].failures.to_string());
    println!("\n## Packing: the largest hole over all free memory at the end");
    per_contestant(measured, |outcomes| format!("{:.3}", outcomes[0].packing));
}

/// A row for each workload and a column for each contestant; blank where a contestant doesn't run.
fn per_contestant(measured: &Measured, cell: impl Fn(&[ReplayResult]) -> String) {
    let names = CONTESTANTS.map(|entry| entry.name);
    head(&[&[""], &names[..]].concat());
    for (workload, title) in ROWS {
        let cells =
            names.map(|name| measured.outcomes(workload, name).map(&cell).unwrap_or_default());
        if cells.iter().any(|cell| !cell.is_empty()) {
            row([title.to_owned()].into_iter().chain(cells));
        }
    }
}

fn latency_and_memory(measured: &Measured) {
    println!("\n## Latency of an allocation of W1, in nanoseconds");
    head(&["", "p99.9"]);
    for name in [BEST_FIT, DEVICE, OFFSET] {
        row([name.into(), format!("{:.0}", median(&measured.latency[name]))]);
    }
    println!("\n## Bytes on the heap per live chunk, without the caller's handle");
    head(&["", "after W1", "after W4 100k"]);
    for (name, [mixed, live]) in &measured.memory {
        row([name.clone(), mixed.to_string(), live.to_string()]);
    }
}

/// A ratio to reach, and the one measured.
struct Aim {
    title: &'static str,
    bound: Bound,
    reached: f64,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}
use Bound::{AtLeast, AtMost};

fn aims(measured: &Measured) {
    println!("\n## Aims");
    head(&["", "aim", "reached", ""]);
    for Aim { title, bound, reached } in all_aims(measured) {
        let (sign, aim, met) = match bound {
            AtMost(aim) => ("≤", aim, reached <= aim),
            AtLeast(aim) => ("≥", aim, reached >= aim),
        };
        let verdict = if met { "met" } else { "**missed**" };
        row([title.into(), format!("{sign} {aim}"), format!("{reached:.2}"), verdict.into()]);
    }
}

fn all_aims(measured: &Measured) -> Vec<Aim> {
    let aim = |title, bound, reached| Aim { title, bound, reached };
    let ratio = |workload, of, to| measured.ratio(workload, of, to);
    let refused = measured
        .outcomes("mixed", BEST_FIT)
        .map_or(f64::NAN, |outcomes| outcomes[0].failures as f64);
    let growth =
        median_ratio(&measured.times("live-100k", BEST_FIT), &measured.times("live-1k", BEST_FIT));
    let latency = median_ratio(&measured.latency[DEVICE], &measured.latency[OFFSET]);
    let memory = |at: usize| {
        let line = measured.memory.iter().find(|(name, _)| name == DEVICE);
        line.map_or(f64::NAN, |(_, bytes)| bytes[at])
    };
    vec![
        aim("W1: best fit / offset-allocator", AtMost(1.0), ratio("mixed", BEST_FIT, OFFSET)),
        aim("W1: best fit's refusals", AtMost(0.0), refused),
        aim(
            "W1: framework by device / offset-allocator",
            AtMost(1.5),
            ratio("mixed", DEVICE, OFFSET),
        ),
        aim(
            "W1: framework by names / offset-allocator",
            AtMost(2.0),
            ratio("mixed", NAMES, OFFSET),
        ),
        aim("W1: p99.9 of framework by device / offset-allocator", AtMost(2.0), latency),
        aim(
            "W1 powers of two: buddy / buddy_system_allocator",
            AtMost(0.7),
            ratio("mixed-pow2", BUDDY, PEER_BUDDY),
        ),
        aim("W2: best fit / range-alloc", AtMost(0.45), ratio("video", BEST_FIT, RANGES)),
        aim(
            "W3: bitmap / bitmap-allocator",
            AtMost(0.5),
            ratio("pages", BITMAP, "bitmap-allocator"),
        ),
        aim("W3: best fit / offset-allocator", AtMost(1.0), ratio("pages", BEST_FIT, OFFSET)),
        aim("W4: best fit, 100k / 1k live", AtMost(2.0), growth),
        aim(
            "W5: two threads on two regions / one thread",
            AtLeast(1.9),
            median(&measured.threads[0]),
        ),
        aim(
            "W5: two threads on one region / one thread",
            AtLeast(1.0),
            median(&measured.threads[1]),
        ),
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
        aim("Bytes per live chunk, framework and best fit, W1", AtMost(64.0), memory(0)),
        aim("Bytes per live chunk, framework and best fit, W4 100k", AtMost(64.0), memory(1)),
    ]
}
