//! Criterion's view of the contestants: the first hundred thousand operations of each workload, from a fresh setup.
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use cma_benches::ours::Ours;
use cma_benches::replay::Replay;
use cma_benches::{Contestant, Workload, peers};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn placing(criterion: &mut Criterion) {
    let light = [
        Workload::mixed(),
        Workload::mixed_pow2(),
        Workload::video(),
        Workload::pages(),
        Workload::huge_pages(),
    ];
    for mut workload in light.into_iter().chain([1_000, 10_000, 100_000].map(Workload::live)) {
        workload.measured.truncate(100_000);
        one::<Ours<cma_best_fit::BestFit>>(criterion, &workload);
        one::<Ours<cma_tlsf::Tlsf>>(criterion, &workload);
        one::<Ours<cma_buddy::Buddy>>(criterion, &workload);
        one::<Ours<cma_bitmap::Bitmap>>(criterion, &workload);
        one::<peers::Offset>(criterion, &workload);
        one::<peers::Ranges>(criterion, &workload);
        one::<peers::Buddy>(criterion, &workload);
        // First fit over a bitmap takes microseconds where chunks are not single pages.
        if workload.name == "pages" {
            one::<peers::Bitmap>(criterion, &workload);
        }
    }
}

fn one<C: Contestant>(criterion: &mut Criterion, workload: &Workload) {
    if !C::serves(workload) {
        return;
    }
    let mut group = criterion.benchmark_group(workload.name);
    group.sample_size(10).throughput(Throughput::Elements(workload.measured.len() as u64 / 2));
    group.bench_function(C::NAME, |bencher| {
        bencher.iter_batched_ref(
            || Replay::<C>::set_up(workload),
            Replay::run_measured,
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, placing);
criterion_main!(benches);
