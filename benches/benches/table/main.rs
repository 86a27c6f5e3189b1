//! All quoted figures, in one run: the times of our allocators and their peers on the workloads,
//! and the aims with the figures reached, as Markdown on standard output.
//!
//! All contestants run in each of several rounds, each time in another order, so that variations of
//! the machine affect all alike. Times are medians over the rounds. A ratio is computed in each
//! round, and the table has the median of the ratios. Instructions are counted by callgrind, if
//! valgrind is installed.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program whose purpose is to print a table"
)]

mod aims;
mod measured;
mod tables;

use clap::Parser;
use cma_benches::entries::CONTESTANTS;
use measured::Measured;
use std::fs;
use std::thread;

/// Prints all figures as Markdown.
#[derive(Debug, Parser)]
struct Arguments {
    /// The number of rounds; an odd number. Without --heavy fewer are run if they would take more
    /// than four minutes.
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

const BEST_FIT: &str = "best-fit";
const BUDDY: &str = "buddy";
const BITMAP: &str = "bitmap";
const DEVICE: &str = "framework (device)";
const NAMES: &str = "framework (names)";
const KEEPING: &str = "framework (keeping)";
const OFFSET: &str = "offset-allocator";
const RANGES: &str = "range-alloc";
const PEER_BUDDY: &str = "buddy_system_allocator";
const PEER_BITMAP: &str = "bitmap-allocator";

fn main() {
    let arguments = Arguments::parse();
    let before = load();
    let measured = Measured::by(arguments.rounds.max(1), arguments.heavy);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    println!("{}, {processors} processors.", processor());
    println!("{} rounds; the load was {before} before and {} after.", measured.rounds(), load());
    tables::print(&measured);
    aims::print(&measured);
}

/// The processor's name, if the system reports it.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("an unnamed processor", |(_, name)| name).to_owned()
}

/// The machine's load average over a minute, if the system reports it.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().into()
}
