//! The cost of sharing a chunk of huge pages as one file, next to clearing as many pages: the
//! kernel clears each page that leaves the pool, so nothing is cheaper.
//!
//! `cargo bench -p cma-memory`, as root. Processor time of the thread in milliseconds; the
//! contestants alternate, the result is the median of the rounds. It sets the machine's pool of
//! huge pages and restores it.

#[path = "../tests/machine/mod.rs"]
mod machine;

use cma_memory::Hugetlb;
use machine::{HUGE, Machine, POOL, banks, free, region, total};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::time::{ClockId, clock_gettime};
use std::io::Write;

const ROUNDS: usize = 15;

/// Takes `len` bytes of huge pages out of the pool and returns them.
fn clear(len: u64) {
    let flags = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB | MemfdFlags::CLOEXEC;
    let file = memfd_create("bench", flags).unwrap();
    ftruncate(&file, len).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, len).unwrap();
}

/// The processor time that this thread has used, in milliseconds.
fn used() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn main() {
    for pages in [32, 128, 512] {
        let len = pages * HUGE;
        let Some(mut machine) = Machine::with_huge_pages(pages) else { continue };
        let (cma, _) = region(&format!("b={len}"), &mut Hugetlb::new(banks()).with_page_size(HUGE));
        // As many for the other contestant.
        machine.set(POOL, &(total(POOL) + pages).to_string()).unwrap();
        assert!(free(POOL) >= pages, "the machine has no memory for {pages} more huge pages");
        let share = || {
            let shared = cma.alloc("camera", None, len, 0).unwrap().share().unwrap();
            let pieces: Vec<_> = shared.pieces().unwrap().map(Result::unwrap).collect();
            assert_eq!(pieces.len(), 1);
        };
        let contestants: [(&str, &dyn Fn()); 2] = [
            ("taken out of the pool and returned: the kernel's clearing alone", &|| clear(len)),
            ("a chunk: allocated, shared as one file, freed", &share),
        ];
        let mut rounds = vec![Vec::new(); contestants.len()];
        for _ in 0..ROUNDS {
            for ((_, work), rounds) in contestants.iter().zip(&mut rounds) {
                let begun = used();
                work();
                rounds.push(used() - begun);
            }
        }
        say(&format!("{} MiB of huge pages; milliseconds, median (best, worst round)", len >> 20));
        for ((name, _), mut rounds) in contestants.iter().zip(rounds) {
            rounds.sort_unstable_by(f64::total_cmp);
            let [median, best, worst] = [ROUNDS / 2, 0, ROUNDS - 1].map(|at| rounds[at]);
            say(&format!("{median:8.2} ({best:.2}, {worst:.2})  {name}"));
        }
    }
}

fn say(line: &str) {
    let line = format!("{line}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}
