//! The memory cost of a live chunk: the heap bytes of a contestant after a workload, divided by the
//! number of live chunks. One line per contestant: its name, the bytes after W1 and after W4 with
//! 100 k chunks, separated by tabs.
//!
//! The count is of heap bytes that the contestant allocated and did not free, reserves included.
//! The handles that the caller keeps are not counted. A count doesn't include a loaded library's
//! heap, so best fit is linked into the program here.
#![allow(clippy::print_stdout, reason = "a program whose purpose is to print a table")]

use cma_benches::framework::{ByDevice, PluginSource};
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

impl PluginSource for BuiltIn {
    const BY_DEVICE: &'static str = "framework (device)";
    const BY_NAMES: &'static str = "framework (names)";
    const KEEPING: &'static str = "framework (keeping)";

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
    line::<Ours<cma_packing::Packing>>(&workloads);
    line::<ByDevice<BuiltIn>>(&workloads);
    line::<peers::OffsetAllocator>(&workloads);
    line::<peers::BuddySystemAllocator>(&workloads);
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
