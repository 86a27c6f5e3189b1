//! The figures: those of the books are read for each answer, the others are collected from events.

use crate::devices::{Labels, LiveChunks};
use cma_framework::events::{Asked, Event, EventRegion, Observation, Observer, What};
use cma_framework::{AllocError, Cma, PageRange, Reason, Region};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The outcomes of requests that regions report.
const SERVED: &str = "served";
const REFUSED: &str = "refused";

type OneLabel = [(&'static str, String); 1];
type TwoLabels = [(&'static str, String); 2];
type Bytes = Gauge<u64, AtomicU64>;
type Durations = Family<TwoLabels, Histogram, fn() -> Histogram>;

/// The host of a framework, as its figures tell of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its version, for `cma_build_info`.
    pub version: String,
    /// How often it was started again and took over what the one before held, for
    /// `cma_server_restarts_total`.
    pub restarts: u64,
}

/// The figures of a framework, as long as it lives.
///
/// It is an observer, so while it lives the framework's requests take the path that reports
/// ([`Cma::observe`]).
///
/// ```
/// use cma_framework::Cma;
/// use cma_metrics::{Host, Metrics};
///
/// let cma = Cma::new();
/// let metrics = Metrics::start(&cma, Host { version: "1.0".to_string(), restarts: 0 })?;
/// assert!(metrics.openmetrics().contains("cma_build_info{version=\"1.0\"} 1"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Metrics {
    cma: Cma,
    host: Host,
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
    observed: Mutex<Observed>,
}

/// The regions that began and have not ended.
#[derive(Default)]
struct Observed {
    live: LiveChunks,
    /// What is forgotten with a region.
    regions: HashMap<PageRange, RegionLabels>,
}

/// The labels that figures of a region have.
struct RegionLabels {
    region: String,
    reasons: BTreeSet<&'static str>,
}

impl Metrics {
    /// Begins to observe `cma`.
    ///
    /// # Errors
    ///
    /// The system has no thread for the observation.
    pub fn start(cma: &Cma, host: Host) -> io::Result<Metrics> {
        let collected = Arc::new(Collected {
            refusals: Family::default(),
            failures: Family::default(),
            durations: Family::new_with_constructor(durations),
            missed: Counter::default(),
            observed: Mutex::default(),
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Metrics {
            observation: cma.observe(collected.clone())?,
            cma: cma.clone(),
            host,
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
        let build = Info::new(vec![("version", self.host.version.clone())]);
        registry.register("build", "Version of the host", build);
        let restarts = Counter::<u64>::default();
        restarts.inc_by(self.host.restarts);
        let help = "Starts of the host that took over what the one before held";
        registry.register("server_restarts", help, restarts);
        self.register_regions(registry);
        self.collected.forget_ended(&self.cma);
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
        let observed = lock(&self.collected.observed);
        for (device, bytes) in lock(&self.labels).assign(observed.live.bytes(), Instant::now()) {
            devices.get_or_create(&[("device", device.to_string())]).set(bytes);
        }
        drop(observed);
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
            count(SERVED, statistics.chunks_placed);
            count(REFUSED, statistics.requests_refused);
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
                self.begin(region, live);
            }
            What::Ended => self.forget(region.range, &mut lock(&self.observed)),
            What::Placed { range, asked, .. } => {
                let mut observed = lock(&self.observed);
                observed.live.place(region.range, *range, device(&asked.device));
                if observed.regions.contains_key(&region.range) {
                    self.time(region.to_string(), SERVED, asked, event.at);
                }
            }
            What::Restored(owner) => {
                let device = device(&owner.device);
                lock(&self.observed).live.place(region.range, owner.range, device);
            }
            What::SetAside { range, .. } => {
                lock(&self.observed).live.place(region.range, *range, None);
            }
            What::Released { range } | What::Recovered { range } => {
                lock(&self.observed).live.release(region.range, *range);
            }
            What::Refused { reason, asked, last, .. } => {
                let reason = reason_label(reason);
                let mut observed = lock(&self.observed);
                // One that has ended gets no label again.
                let Some(labels) = observed.regions.get_mut(&region.range) else { return };
                labels.reasons.insert(reason);
                let labels = [("region", region.to_string()), ("reason", reason.to_string())];
                self.refusals.get_or_create(&labels).inc();
                if *last {
                    self.time(region.to_string(), REFUSED, asked, event.at);
                }
            }
            _ => {}
        }
    }

    /// The observation of a region begins, or begins anew.
    fn begin(
        &self,
        region: &EventRegion,
        live: impl Iterator<Item = (PageRange, Option<Arc<str>>)>,
    ) {
        let mut observed = lock(&self.observed);
        let name = region.to_string();
        if observed.regions.get(&region.range).is_none_or(|known| known.region != name) {
            self.forget(region.range, &mut observed);
            let labels = RegionLabels { region: name, reasons: BTreeSet::new() };
            observed.regions.insert(region.range, labels);
        }
        observed.live.begin(region.range, live);
    }

    /// Forgets a region that has ended, with its figures. Otherwise regions that come and go would
    /// cause ever more time series.
    fn forget(&self, region: PageRange, observed: &mut Observed) {
        observed.live.end(region);
        let Some(RegionLabels { region, reasons }) = observed.regions.remove(&region) else {
            return;
        };
        let labels = |key, value: &str| [("region", region.clone()), (key, value.to_string())];
        for reason in reasons {
            self.refusals.remove(&labels("reason", reason));
        }
        for outcome in [SERVED, REFUSED] {
            self.durations.remove(&labels("outcome", outcome));
        }
    }

    /// Forgets the regions whose end was among the events that were missed.
    fn forget_ended(&self, cma: &Cma) {
        // Locked before the regions are listed: one that begins later is not taken for one that has
        // ended.
        let mut observed = lock(&self.observed);
        let registered: HashSet<_> = cma.regions().iter().map(Region::range).collect();
        let ended = observed.regions.keys().filter(|region| !registered.contains(region));
        for region in ended.copied().collect::<Vec<_>>() {
            self.forget(region, &mut observed);
        }
    }

    fn note_without_region(&self, event: &Event) {
        match &event.what {
            What::Failed { error, asked } => {
                let reason = failure_label(error).to_string();
                self.failures.get_or_create(&[("reason", reason)]).inc();
                self.time(String::new(), REFUSED, asked, event.at);
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

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::{AllocatorChoice, DmaAddr, Plugin};
    use std::time::Duration;

    /// An observer that keeps what it receives.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Event>>);

    impl Observer for Kept {
        fn receive(&self, event: &Event) {
            lock(&self.0).push(event.clone());
        }
    }

    /// The events of a region `gone` with a chunk and a refusal, from its beginning to its end.
    fn events_of_a_region() -> Vec<Event> {
        let (cma, kept) = (Cma::new(), Arc::new(Kept::default()));
        let observation = cma.observe(kept.clone()).unwrap();
        cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
        let start = DmaAddr::new(1 << 30);
        let allocator = AllocatorChoice::Default;
        let region = cma.region_register(Some("gone"), start, 1 << 16, allocator).unwrap();
        let chunk = cma.alloc_from("gone", 4096, 0).unwrap();
        assert!(cma.alloc_from("gone", 1 << 20, 0).is_err());
        drop(chunk);
        cma.region_unregister(&region).unwrap();
        assert!(observation.catch_up(Duration::from_secs(60)));
        let events = std::mem::take(&mut *lock(&kept.0));
        assert!(matches!(events.first().unwrap().what, What::Began { .. }), "{events:?}");
        assert!(matches!(events.last().unwrap().what, What::Ended), "{events:?}");
        events
    }

    #[test]
    fn a_region_whose_end_was_missed_is_forgotten() {
        let metrics = Metrics::start(&Cma::new(), Host::default()).unwrap();
        let mut events = events_of_a_region();
        events.retain(|event| !matches!(event.what, What::Released { .. } | What::Ended));
        events.iter().for_each(|event| metrics.collected.receive(event));
        let served = [("region", "gone".to_string()), ("outcome", SERVED.to_string())];
        assert!(metrics.collected.durations.get(&served).is_some());
        let text = metrics.openmetrics();
        assert!(!text.contains("gone"), "{text}");
        assert!(text.contains("cma_device_bytes{device=\"other\"} 0\n"), "{text}");
    }

    #[test]
    fn events_of_a_region_after_its_end_give_it_no_figures() {
        let metrics = Metrics::start(&Cma::new(), Host::default()).unwrap();
        let events = events_of_a_region();
        events.iter().for_each(|event| metrics.collected.receive(event));
        let served = [("region", "gone".to_string()), ("outcome", SERVED.to_string())];
        assert!(metrics.collected.durations.get(&served).is_none());
        let late =
            |event: &&Event| matches!(event.what, What::Placed { .. } | What::Refused { .. });
        let late: Vec<_> = events.iter().filter(late).collect();
        assert_eq!(late.len(), 2, "{events:?}");
        late.iter().for_each(|event| metrics.collected.receive(event));
        let text = metrics.openmetrics();
        assert!(!text.contains("gone"), "{text}");
        assert!(text.contains("cma_device_bytes{device=\"other\"} 0\n"), "{text}");
    }
}
