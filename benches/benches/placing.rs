//! The contestants measured by criterion: the first hundred thousand operations of each workload,
//! from a fresh setup; and the growth of their time with the number of live chunks, with a chart in
//! `target/criterion/growth/report/lines.svg`.
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use cma_benches::framework::{self, ByDevice, ByNames};
use cma_benches::ours::Ours;
use cma_benches::replay::Replay;
use cma_benches::{Contestant, Workload, peers};
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use std::time::Duration;

type BestFit = Ours<cma_best_fit::BestFit>;
type Tlsf = Ours<cma_tlsf::Tlsf>;
type Buddy = Ours<cma_buddy::Buddy>;
type Bitmap = Ours<cma_bitmap::Bitmap>;

fn placing(criterion: &mut Criterion) {
    let workloads = [
        Workload::mixed(),
        Workload::mixed_pow2(),
        Workload::video(),
        Workload::pages(),
        Workload::huge_pages(),
        Workload::ffmpeg(),
        Workload::gstreamer(),
    ];
    for mut workload in workloads {
        workload.measured.truncate(100_000);
        let mut group = short_group(criterion, &workload.name);
        group.throughput(Throughput::Elements(workload.measured.len() as u64 / 2));
        let (group, workload) = (&mut group, &workload);
        one::<BestFit>(group, workload, BenchmarkId::from_parameter);
        one::<Tlsf>(group, workload, BenchmarkId::from_parameter);
        one::<Buddy>(group, workload, BenchmarkId::from_parameter);
        one::<Bitmap>(group, workload, BenchmarkId::from_parameter);
        one::<ByDevice<framework::BestFitPlugin>>(group, workload, BenchmarkId::from_parameter);
        one::<ByNames<framework::BestFitPlugin>>(group, workload, BenchmarkId::from_parameter);
        one::<peers::OffsetAllocator>(group, workload, BenchmarkId::from_parameter);
        one::<peers::RangeAlloc>(group, workload, BenchmarkId::from_parameter);
        one::<peers::BuddySystemAllocator>(group, workload, BenchmarkId::from_parameter);
        one::<peers::BitmapAllocator>(group, workload, BenchmarkId::from_parameter);
    }
}

/// Sets no throughput: criterion would draw the chart over it instead of over the number of chunks.
/// At 93 % a region is too full for buddies and bitmaps to serve everything: part of their time is
/// refusals.
fn growth(criterion: &mut Criterion) {
    let mut group = short_group(criterion, "growth");
    for live in [1_000, 4_000, 16_000, 64_000] {
        let mut workload = Workload::live(live);
        workload.measured.truncate(100_000);
        let at = |name| BenchmarkId::new(name, live);
        one::<BestFit>(&mut group, &workload, at);
        one::<Tlsf>(&mut group, &workload, at);
        one::<Buddy>(&mut group, &workload, at);
        one::<Bitmap>(&mut group, &workload, at);
    }
}

/// A sample is a whole replay, so a few of them suffice.
fn short_group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1));
    group
}

fn one<C: Contestant>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    workload: &Workload,
    id: impl Fn(&'static str) -> BenchmarkId,
) {
    if !C::serves(workload) || C::is_heavy(workload) {
        return;
    }
    group.bench_function(id(C::NAME), |bencher| {
        bencher.iter_batched_ref(
            || Replay::<C>::set_up(workload),
            Replay::run_measured,
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, placing, growth);
criterion_main!(benches);
