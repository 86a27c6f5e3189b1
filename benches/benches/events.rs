//! The cost of the framework's events for a request: without a subscriber, with one for changes and
//! refusals alone, and with one for every request.
//!
//! ```text
//! # first without events, then with them; criterion shows the change
//! cargo bench -p cma-benches --bench events --features without-events
//! cargo bench -p cma-benches --bench events
//! ```
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use cma_benches::Workload;
use cma_benches::framework::{BestFitPlugin, ByDevice};
use cma_benches::replay::Replay;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Level, Metadata, Subscriber};

/// Subscribes to all events up to a level, and discards them.
struct Discard(Level);

impl Subscriber for Discard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.into())
    }
    fn event(&self, event: &Event<'_>) {
        black_box(event);
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn events(criterion: &mut Criterion) {
    let mut workload = Workload::mixed();
    workload.measured.truncate(400_000);
    let mut group = criterion.benchmark_group("events");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(workload.measured.len() as u64 / 2));
    let mut run = |name: &str| {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || Replay::<ByDevice<BestFitPlugin>>::set_up(&workload),
                Replay::run_measured,
                BatchSize::PerIteration,
            );
        });
    };
    run("no subscriber");
    with_default(Discard(Level::DEBUG), || run("changes and refusals"));
    with_default(Discard(Level::TRACE), || run("every request"));
}

criterion_group!(benches, events);
criterion_main!(benches);
