//! What a live chunk costs in memory: the bytes that a contestant holds on the heap when a workload
//! has run, over the number of live chunks. One line a contestant: its name, the bytes after W1 and
//! after W4 with 100 k chunks, separated by tabs.
//!
//! Counted is what was asked of the heap and not given back: everything that the contestant made
//! since it was born, with what it holds in reserve. Not counted are the handles that the caller
//! keeps. A library has a heap of its own as far as a count is concerned, so best fit is linked
//! into the program here.
#![allow(clippy::print_stdout, reason = "a program whose purpose is to print a table")]

use cma_benches::framework::{ByDevice, Source};
use cma_benches::ours::Ours;
use cma_benches::replay::Replay;
use cma_benches::{Contestant, Workload, peers};
use cma_framework::Plugin;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Best fit, linked into the program.
#[derive(Debug)]
enum BuiltIn {}

impl Source for BuiltIn {
    const BY_DEVICE: &'static str = "framework (device)";
    const BY_NAMES: &'static str = "framework (names)";

    fn plugin() -> Plugin {
        Plugin::built_in::<cma_best_fit::BestFit>()
    }
}

fn main() {
    let workloads = [Workload::mixed(), Workload::live(100_000)];
    line::<Ours<cma_best_fit::BestFit>>(&workloads);
    line::<Ours<cma_tlsf::Tlsf>>(&workloads);
    line::<Ours<cma_buddy::Buddy>>(&workloads);
    line::<Ours<cma_bitmap::Bitmap>>(&workloads);
    line::<ByDevice<BuiltIn>>(&workloads);
    line::<peers::Offset>(&workloads);
    line::<peers::Buddy>(&workloads);
}

fn line<C: Contestant>(workloads: &[Workload; 2]) {
    let [mixed, live] = workloads.each_ref().map(bytes_per_chunk::<C>);
    println!("{}\t{mixed:.1}\t{live:.1}", C::NAME);
}

fn bytes_per_chunk<C: Contestant>(workload: &Workload) -> f64 {
    let before = HEAP.current_usage();
    let mut replay = Replay::<C>::set_up(workload);
    replay.run_measured();
    let held = HEAP.current_usage() - before - replay.slot_bytes();
    held as f64 / replay.live().len() as f64
}
