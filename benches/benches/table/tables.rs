//! The tables of all contestants on all workloads.

use crate::measured::{COUNTED, Measured};
use crate::{BEST_FIT, CONTESTANTS, DEVICE, OFFSET, RANGES};
use cma_benches::replay::{ReplayResult, median};

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

/// Prints them.
pub(crate) fn print(measured: &Measured) {
    side_by_side(measured);
    placing(measured);
    instructions(measured);
    latency_and_memory(measured);
}

/// Prints a row of a table in Markdown.
pub(crate) fn row(cells: impl IntoIterator<Item = String>) {
    println!("| {} |", cells.into_iter().collect::<Vec<_>>().join(" | "));
}

/// Prints the head of a table in Markdown.
pub(crate) fn head(cells: &[&str]) {
    println!();
    row(cells.iter().map(ToString::to_string));
    row(cells.iter().map(|_| String::from("---")));
}

fn instructions(measured: &Measured) {
    println!("\n## Instructions of a pair of W1, counted by callgrind");
    head(&["", "instructions"]);
    for name in COUNTED {
        let count = &measured.instructions[name];
        let cell = count.as_ref().map_or_else(Clone::clone, |count| format!("{count:.0}"));
        row([name.into(), cell]);
    }
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
