//! Replays workloads on all contestants in rounds, and prints medians and ratios: the time of the
//! first contestant divided by that of each, by round. For the development of an allocator: choose
//! a workload and two contestants.
//!
//! Instructions can be counted instead, which is independent of other programs on the machine:
//!
//! ```text
//! cargo build --release -p cma-benches --bin rounds
//! valgrind --tool=callgrind --toggle-collect='*run_measured*' \
//!     target/release/rounds mixed -r 1 -c best-fit
//! callgrind_annotate callgrind.out.*
//! ```
//!
//! W1 has a million pairs, so millions of instructions are instructions per pair.
#![allow(clippy::print_stdout, reason = "a program whose purpose is to print a table")]

use clap::Parser;
use cma_benches::entries::{CONTESTANTS, FROM_C};
use cma_benches::replay::{ReplayResult, median, median_ratio};
use cma_benches::{ContestantEntry, Workload};

/// Medians per pair of operations, of our allocators and their peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// The workloads: mixed, mixed-pow2, video, pages, huge-pages, ffmpeg, gstreamer, live-1k,
    /// live-10k, live-100k or any other number of thousands, live-1m (heavy).
    #[arg(default_values = ["mixed", "video", "pages", "huge-pages", "live-1k", "live-10k", "live-100k"])]
    workloads: Vec<String>,
    /// The number of rounds; an odd number.
    #[arg(long, short, default_value_t = 5)]
    rounds: usize,
    /// Only these contestants, slow ones included; ratios are relative to the first.
    #[arg(long, short, value_delimiter = ',')]
    contestants: Vec<String>,
}

fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    let contestants = chosen(&arguments.contestants)?;
    for name in &arguments.workloads {
        let workload = workload(name)?;
        let selected = !arguments.contestants.is_empty();
        let mut taking_part = contestants.clone();
        taking_part.retain(|entry| {
            (entry.serves)(&workload) && (selected || !(entry.is_heavy)(&workload))
        });
        compare(&workload, &taking_part, arguments.rounds.max(1));
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<ContestantEntry>, String> {
    if names.is_empty() {
        return Ok(CONTESTANTS.to_vec());
    }
    let named = |name: &String| {
        let all = || CONTESTANTS.into_iter().chain(FROM_C);
        all().find(|entry| entry.name == name).ok_or_else(|| {
            let known: Vec<&str> = all().map(|entry| entry.name).collect();
            format!("no contestant is called \"{name}\"; there are {}", known.join(", "))
        })
    };
    names.iter().map(named).collect()
}

fn workload(name: &str) -> Result<Workload, String> {
    Ok(match name {
        "mixed" => Workload::mixed(),
        "mixed-pow2" => Workload::mixed_pow2(),
        "video" => Workload::video(),
        "pages" => Workload::pages(),
        "ffmpeg" => Workload::ffmpeg(),
        "gstreamer" => Workload::gstreamer(),
        "huge-pages" => Workload::huge_pages(),
        "live-1m" => Workload::live(1_000_000),
        other => {
            let thousands =
                other.strip_prefix("live-").and_then(|rest| rest.strip_suffix('k')?.parse().ok());
            let live =
                thousands.filter(|thousands| (1..=1000).contains(thousands)).map(|n: u32| n * 1000);
            Workload::live(live.ok_or_else(|| format!("no workload is called \"{other}\""))?)
        }
    })
}

fn compare(workload: &Workload, taking_part: &[ContestantEntry], rounds: usize) {
    let mut outcomes: Vec<Vec<ReplayResult>> = vec![Vec::new(); taking_part.len()];
    for _ in 0..rounds {
        for (entry, outcomes) in taking_part.iter().zip(&mut outcomes) {
            outcomes.push((entry.replay)(workload));
        }
    }
    println!("{}", workload.name);
    println!(
        "  {:24} {:>8} {:>8} {:>8} {:>9} {:>8}",
        "", "ns/pair", "least", "ratio", "failures", "packing"
    );
    let times = |outcomes: &[ReplayResult]| {
        outcomes.iter().map(|o| o.nanoseconds_per_pair).collect::<Vec<f64>>()
    };
    let first = outcomes.first().map(|outcomes| times(outcomes)).unwrap_or_default();
    for (entry, outcomes) in taking_part.iter().zip(&outcomes) {
        let times = times(outcomes);
        let ratio = median_ratio(&first, &times);
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        let ReplayResult { failures, packing, .. } = outcomes[0];
        println!(
            "  {:24} {:8.1} {least:8.1} {ratio:8.2} {failures:9} {packing:8.3}",
            entry.name,
            median(&times)
        );
    }
}
