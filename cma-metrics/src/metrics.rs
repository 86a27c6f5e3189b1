//! The figures: those of the books are read for each answer, the others are collected from events.

use crate::devices::{Labels, LiveChunks};
use cma_framework::events::{Asked, Event, EventRegion, Observation, Observer, What};
use cma_framework::{AllocError, Cma, Reason, Region};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

type OneLabel = [(&'static str, String); 1];
type TwoLabels = [(&'static str, String); 2];
type Bytes = Gauge<u64, AtomicU64>;
type Durations = Family<TwoLabels, Histogram, fn() -> Histogram>;

/// The figures of a framework, as long as it lives.
///
/// It is an observer, so while it lives the framework's requests take the path that reports
/// ([`Cma::observe`]).
///
/// ```
/// use cma_framework::Cma;
/// use cma_metrics::Metrics;
///
/// let cma = Cma::new();
/// let metrics = Metrics::start(&cma, "1.0")?;
/// assert!(metrics.openmetrics().contains("cma_build_info{version=\"1.0\"} 1"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Metrics {
    cma: Cma,
    version: String,
    started: f64,
    collected: Arc<Collected>,
    labels: Mutex<Labels>,
    observation: Observation,
}

/// What events tell.
struct Collected {
    refusals: Family<TwoLabels, Counter>,
    failures: Family<OneLabel, Counter>,
    durations: Durations,
    missed: Counter,
    live: Mutex<LiveChunks>,
}

impl Metrics {
    /// Begins to observe `cma`. `version` is the host's, for `cma_build_info`.
    ///
    /// # Errors
    ///
    /// The system has no thread for the observation.
    pub fn start(cma: &Cma, version: &str) -> io::Result<Metrics> {
        let collected = Arc::new(Collected {
            refusals: Family::default(),
            failures: Family::default(),
            durations: Family::new_with_constructor(durations),
            missed: Counter::default(),
            live: Mutex::default(),
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Metrics {
            observation: cma.observe(collected.clone())?,
            cma: cma.clone(),
            version: version.to_string(),
            started: now.as_secs_f64(),
            collected,
            labels: Mutex::default(),
        })
    }

    /// The observation, for a host that wants figures with all events of now.
    pub fn observation(&self) -> &Observation {
        &self.observation
    }

    /// The figures of now, as OpenMetrics text.
    ///
    /// Each region's lock is held for a pass over its books. For a region that became stuck this
    /// waits for some seconds, once.
    pub fn openmetrics(&self) -> String {
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = encode(&mut text, &self.registry());
        text
    }

    fn registry(&self) -> Registry {
        let mut all = Registry::default();
        // Named as every exporter names it.
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(self.started);
        let help = "Start of the host, in Unix time";
        all.register_with_unit("process_start_time", help, Unit::Seconds, start);
        let registry = all.sub_registry_with_prefix("cma");
        let build = Info::new(vec![("version", self.version.clone())]);
        registry.register("build", "Version of the host", build);
        self.register_regions(registry);
        let Collected { refusals, failures, durations, missed, .. } = &*self.collected;
        let help = "Refusals of a region by reason, also those of requests that another served";
        registry.register("region_refusals", help, refusals.clone());
        let help = "Requests that failed and that no region refused last, by reason";
        registry.register("request_failures", help, failures.clone());
        let help = "Time from a request to its chunk or its refusal, with its wait for room";
        registry.register_with_unit("request_duration", help, Unit::Seconds, durations.clone());
        let help = "Events that were dropped before they were counted";
        registry.register("observer_missed_events", help, missed.clone());
        let devices = Family::<OneLabel, Bytes>::default();
        let live = lock(&self.collected.live);
        for (device, bytes) in lock(&self.labels).assign(live.bytes(), Instant::now()) {
            devices.get_or_create(&[("device", device.to_string())]).set(bytes);
        }
        drop(live);
        let help = "Live chunks of a device; the largest devices by name, and other";
        registry.register_with_unit("device", help, Unit::Bytes, devices);
        all
    }

    /// The figures of the books.
    fn register_regions(&self, registry: &mut Registry) {
        let gauge = Family::<OneLabel, Bytes>::default;
        let (size, free, largest, aside) = (gauge(), gauge(), gauge(), gauge());
        let (live, waiting, stuck) = (gauge(), gauge(), gauge());
        let requests = Family::<TwoLabels, Counter>::default();
        for region in self.cma.regions() {
            let name = label(&region);
            let set = |family: &Family<OneLabel, Bytes>, value: u64| {
                family.get_or_create(&[("region", name.clone())]).set(value);
            };
            let status = region.status();
            set(&size, region.range().pages().bytes());
            set(&stuck, status.stuck.is_some().into());
            let (None, Ok(statistics), Ok(owners)) =
                (&status.stuck, region.statistics(), self.cma.owners(&region))
            else {
                continue;
            };
            let owners = owners.iter().filter(|owner| owner.set_aside);
            set(&aside, owners.map(|owner| owner.range.pages().bytes()).sum());
            set(&free, status.free_bytes);
            set(&largest, status.largest_hole_bytes);
            set(&live, status.users.into());
            set(&waiting, status.waiters as u64);
            let count = |outcome: &str, value| {
                let labels = [("region", name.clone()), ("outcome", outcome.to_string())];
                requests.get_or_create(&labels).inc_by(value);
            };
            count("served", statistics.chunks_placed);
            count("refused", statistics.requests_refused);
        }
        for (name, help, family) in [
            ("region_size", "Size of a region", size),
            ("region_free", "Free space of a region", free),
            ("region_largest_free_range", "Largest free range of a region", largest),
            ("region_set_aside", "Memory of a region that is booked for nobody", aside),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, family);
        }
        registry.register("region_live_chunks", "Live chunks of a region", live);
        registry.register("region_waiting_requests", "Requests that wait for a region", waiting);
        let help = "1 while the allocator of a region doesn't return from a call";
        registry.register("region_stuck", help, stuck);
        registry.register("region_requests", "Requests of a region by outcome", requests);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metrics").field(&self.observation).finish()
    }
}

impl Observer for Collected {
    fn receive(&self, event: &Event) {
        match &event.region {
            Some(region) => self.note(region, event),
            None => self.note_without_region(event),
        }
    }
}

impl Collected {
    /// An event of a region.
    fn note(&self, region: &EventRegion, event: &Event) {
        let device =
            |device: &Option<(Arc<str>, Arc<str>)>| device.as_ref().map(|(d, _)| d.clone());
        match &event.what {
            What::Began { live, .. } => {
                let live = live.iter().map(|owner| (owner.range, device(&owner.device)));
                lock(&self.live).begin(region.range, live);
            }
            What::Ended => lock(&self.live).end(region.range),
            What::Placed { range, asked, .. } => {
                lock(&self.live).place(region.range, *range, device(&asked.device));
                self.time(region.to_string(), "served", asked, event.at);
            }
            What::Released { range } => lock(&self.live).release(region.range, *range),
            What::SetAside { range, .. } => lock(&self.live).place(region.range, *range, None),
            What::Recovered { range } => lock(&self.live).release(region.range, *range),
            What::Refused { reason, asked, last, .. } => {
                let reason = ("reason", reason_label(reason).to_string());
                self.refusals.get_or_create(&[("region", region.to_string()), reason]).inc();
                if *last {
                    self.time(region.to_string(), "refused", asked, event.at);
                }
            }
            _ => {}
        }
    }

    fn note_without_region(&self, event: &Event) {
        match &event.what {
            What::Failed { error, asked } => {
                let reason = failure_label(error).to_string();
                self.failures.get_or_create(&[("reason", reason)]).inc();
                self.time(String::new(), "refused", asked, event.at);
            }
            What::GivenUp { asked } => self.time(String::new(), "given_up", asked, event.at),
            What::Missed { count } => {
                self.missed.inc_by(*count);
            }
            _ => {}
        }
    }

    fn time(&self, region: String, outcome: &str, asked: &Asked, end: Instant) {
        let labels = [("region", region), ("outcome", outcome.to_string())];
        let time = end.saturating_duration_since(asked.since);
        self.durations.get_or_create(&labels).observe(time.as_secs_f64());
    }
}

/// A histogram from 1 us to 17 s, in steps of a factor of 4.
fn durations() -> Histogram {
    Histogram::new((0..13).map(|step| 1e-6 * f64::from(1 << (2 * step))))
}

fn label(region: &Region) -> String {
    region.name().map_or_else(|| region.range().to_string(), str::to_string)
}

/// The reason of a refusal as a label.
fn reason_label(reason: &Reason) -> &'static str {
    match reason {
        Reason::UnknownRegion => "unknown_region",
        Reason::Unregistered => "unregistered",
        Reason::NoAllocator { .. } => "no_allocator",
        Reason::AttachFailed { .. } => "attach_failed",
        Reason::OutOfService { .. } => "out_of_service",
        Reason::Stuck(_) => "stuck",
        Reason::NoPlace { .. } => "no_place",
        Reason::TooSmall { .. } => "too_small",
        Reason::Full { .. } => "full",
        Reason::Elsewhere { .. } => "elsewhere",
        Reason::Taken { .. } => "taken",
        Reason::Queued { .. } => "queued",
        Reason::Granule { .. } => "granule",
        Reason::TooManyChunks => "too_many_chunks",
        Reason::Fragmented { .. } => "fragmented",
        Reason::Alignment { .. } => "alignment",
        Reason::Window { .. } => "window",
        Reason::Boundary { .. } => "boundary",
        Reason::Declined { .. } => "declined",
        Reason::Misplaced { .. } => "misplaced",
        _ => "other",
    }
}

/// The reason of a failure as a label.
fn failure_label(error: &AllocError) -> &'static str {
    match error {
        AllocError::Invalid(_) => "invalid",
        AllocError::NoRule(_) => "no_rule",
        AllocError::Unregistered => "unregistered",
        AllocError::NoRegion(_) => "no_region",
        AllocError::TimedOut(_) => "timed_out",
        _ => "other",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
