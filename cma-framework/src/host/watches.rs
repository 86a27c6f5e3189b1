//! Delivery of events to observers, each by a queue and a thread of its own.
//!
//! An event is queued where the change is made, under the region's lock. So the events of a region
//! have the order of its changes, and those of two regions the order of their causes. The thread
//! takes them out and calls the observer. An observer that blocks or panics therefore stops nobody:
//! its queue fills, and what comes then is dropped and counted. After a drop, the further events of
//! that region are dropped too, until the thread has come that far and has the region begin anew:
//! an observer never gets a change without the state that it changes.
//!
//! A framework without observers pays nothing for this. Its requests take a fast path, which
//! reports nothing; an observation closes that path, in the routes (`core::routes`) and in the
//! regions (`live_limit`).

use crate::vocabulary::{Event, EventRegion, What};
use arc_swap::ArcSwap;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, mem};

/// The most events that wait for an observer. As many may be on the way to it.
const MOST_QUEUED: usize = 1 << 16;

/// A receiver of events.
///
/// Its functions are called by one thread, which belongs to the observation. It may block and use
/// the framework. What it does itself in the framework is an event too. A panic ends in the call,
/// and is counted.
///
/// ```
/// use cma_framework::Cma;
/// use cma_framework::events::{Event, Observer, What};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// #[derive(Default)]
/// struct Refusals(AtomicU64);
///
/// impl Observer for Refusals {
///     fn receive(&self, event: &Event) {
///         if let What::Refused { .. } = event.what {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let (cma, refusals) = (Cma::new(), Arc::new(Refusals::default()));
/// let observation = cma.observe(refusals.clone())?;
/// // The host works. At some time it wants the figure of now:
/// observation.catch_up(Duration::from_secs(1));
/// assert_eq!(refusals.0.load(Ordering::Relaxed), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Observer: Send + Sync {
    /// Receives an event.
    fn receive(&self, event: &Event);

    /// Called after the events that waited at one time, which may be a single one or many: the time
    /// to write out what was collected.
    fn settle(&self) {}
}

/// How far the delivery of an observation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The events that the observer has received.
    pub received: u64,
    /// The events that were dropped because it was slower than they came.
    pub missed: u64,
    /// The calls of it that ended in a panic.
    pub panics: u64,
    /// The events that are on the way to it.
    pub waiting: usize,
}

/// The queue between the framework and one observer.
pub(crate) struct Watch {
    /// Whether all regions are observed, and requests that no region served.
    general: bool,
    /// Set when the observation has ended.
    closed: AtomicBool,
    queue: Mutex<Queue>,
    /// Wakes the thread that delivers.
    arrival: Condvar,
    /// Wakes those that wait for it.
    progress: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Oldest first.
    events: VecDeque<Event>,
    /// Which of them tells how many were dropped since the thread took events out, if any. It is
    /// where the first was dropped, so it is before the new beginning of each region concerned.
    gap: Option<usize>,
    /// Whether the thread waits for an arrival, and nobody has woken it.
    sleeping: bool,
    /// The number of events that the thread took out, of those that the observer received, and of
    /// those that it has settled.
    taken: u64,
    received: u64,
    settled: u64,
    missed: u64,
    panics: u64,
    /// Whether the thread has ended.
    ended: bool,
}

impl Queue {
    /// Counts an event that is dropped.
    fn note_dropped(&mut self) {
        self.missed += 1;
        match self.gap.and_then(|gap| self.events.get_mut(gap)) {
            Some(Event { what: What::Missed { count }, .. }) => *count += 1,
            _ => {
                self.gap = Some(self.events.len());
                self.events.push_back(Event::now(None, What::Missed { count: 1 }));
            }
        }
    }
}

impl Watch {
    /// Of all regions if it is `general`.
    pub(crate) fn new(general: bool) -> Self {
        Watch {
            general,
            closed: AtomicBool::new(false),
            queue: Mutex::default(),
            arrival: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it observes all regions.
    pub(crate) fn is_general(&self) -> bool {
        self.general
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Queues an event; if too many wait, or `keep` is false, it is counted as dropped. Returns
    /// whether it is queued. A thread that sleeps is added to `to_wake`.
    fn push(self: &Arc<Self>, event: Event, keep: bool, to_wake: &mut ToWake) -> bool {
        if self.is_closed() {
            return false;
        }
        let mut queue = self.lock();
        let keep = keep && queue.events.len() < MOST_QUEUED;
        if keep {
            queue.events.push_back(event);
        } else {
            queue.note_dropped();
        }
        if mem::take(&mut queue.sleeping) {
            to_wake.0.push(self.clone());
        }
        keep
    }

    fn wake(&self) {
        self.arrival.notify_one();
    }

    /// Ends the observation.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let mut queue = self.lock();
        queue.gap = None;
        let undelivered = mem::take(&mut queue.events);
        drop(queue);
        self.wake();
        drop(undelivered);
    }

    /// Waits, `longest` at most, until the observer has received and settled every event of now.
    /// Returns whether it has.
    pub(crate) fn catch_up(&self, longest: Duration) -> bool {
        let deadline = Instant::now().checked_add(longest);
        let mut queue = self.lock();
        let goal = queue.taken + queue.events.len() as u64;
        while queue.settled < goal && !queue.ended {
            let left = deadline.map_or(longest, |deadline| deadline - Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.progress.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.settled >= goal
    }

    pub(crate) fn delivery(&self) -> Delivery {
        let queue = self.lock();
        Delivery {
            received: queue.received,
            missed: queue.missed,
            panics: queue.panics,
            waiting: (queue.taken - queue.received) as usize + queue.events.len(),
        }
    }

    /// Delivers events until the observation ends. `begin_anew` is called after some were dropped.
    pub(crate) fn deliver(&self, observer: &dyn Observer, begin_anew: impl Fn()) {
        while let Some(batch) = self.take() {
            let mut missed = false;
            for event in batch {
                if self.is_closed() {
                    break;
                }
                missed |= matches!(event.what, What::Missed { .. });
                let panics = !guarded(|| observer.receive(&event));
                self.note(1, panics);
            }
            let panics = !guarded(|| observer.settle());
            self.note(0, panics);
            if missed {
                begin_anew();
            }
            let mut queue = self.lock();
            queue.settled = queue.received;
            drop(queue);
            self.progress.notify_all();
        }
        self.lock().ended = true;
        self.progress.notify_all();
    }

    /// Waits for events and takes all that wait. `None` when the observation has ended.
    fn take(&self) -> Option<VecDeque<Event>> {
        let mut queue = self.lock();
        loop {
            if self.is_closed() {
                return None;
            }
            if !queue.events.is_empty() {
                queue.gap = None;
                queue.taken += queue.events.len() as u64;
                return Some(mem::take(&mut queue.events));
            }
            queue.sleeping = true;
            queue = self.arrival.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn note(&self, received: u64, panics: bool) {
        let mut queue = self.lock();
        queue.received += received;
        queue.panics += u64::from(panics);
    }
}

/// Calls the host's code. Returns false if it panicked; the panic hook has reported that.
pub(crate) fn guarded(call: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(()) => true,
        Err(payload) => {
            // Dropping the payload could panic again.
            mem::forget(payload);
            false
        }
    }
}

/// Watches of a framework, or of one region.
#[derive(Default)]
pub(crate) struct Watches(ArcSwap<Vec<Arc<Follower>>>);

/// A watch that follows a region.
pub(crate) struct Follower {
    pub(crate) watch: Arc<Watch>,
    /// Whether an event of the region was dropped, so that no further one makes sense to it.
    lost: AtomicBool,
}

impl Watches {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    pub(crate) fn all(&self) -> Arc<Vec<Arc<Follower>>> {
        self.0.load_full()
    }

    /// Whether `watch` has received every change since it began.
    pub(crate) fn is_followed_by(&self, watch: &Arc<Watch>) -> bool {
        let is_it = |follower: &&Arc<Follower>| Arc::ptr_eq(&follower.watch, watch);
        self.0.load().iter().find(is_it).is_some_and(|it| !it.lost.load(Ordering::Relaxed))
    }

    pub(crate) fn add(&self, watch: &Arc<Watch>) {
        self.change(watch, Some(Follower { watch: watch.clone(), lost: AtomicBool::new(false) }));
    }

    pub(crate) fn remove(&self, watch: &Arc<Watch>) {
        self.change(watch, None);
    }

    /// Has `watch` follow from its first event on, which is `began`.
    pub(crate) fn begin(&self, watch: &Arc<Watch>, region: EventRegion, began: What) -> ToWake {
        let mut to_wake = ToWake::default();
        let queued = watch.push(Event::now(Some(region), began), true, &mut to_wake);
        let lost = AtomicBool::new(!queued);
        self.change(watch, Some(Follower { watch: watch.clone(), lost }));
        to_wake
    }

    fn change(&self, watch: &Arc<Watch>, follower: Option<Follower>) {
        let follower = follower.map(Arc::new);
        self.0.rcu(|all| {
            let others = all.iter().filter(|other| !Arc::ptr_eq(&other.watch, watch));
            others.chain(&follower).cloned().collect::<Vec<_>>()
        });
    }

    /// Queues `what` happened in a region for each watch. Returns those to be woken, after the
    /// region's lock is released.
    pub(crate) fn push(&self, region: impl FnOnce() -> EventRegion, what: &What) -> ToWake {
        let mut to_wake = ToWake::default();
        let all = self.0.load();
        if all.is_empty() {
            return to_wake;
        }
        let event = Event::now(Some(region()), what.clone());
        for follower in all.iter() {
            let keep = !follower.lost.load(Ordering::Relaxed);
            if !follower.watch.push(event.clone(), keep, &mut to_wake) {
                follower.lost.store(true, Ordering::Relaxed);
            }
        }
        to_wake
    }

    /// Queues what happened to a request, for each watch of all regions.
    pub(crate) fn push_request(&self, what: What) {
        let mut to_wake = ToWake::default();
        let event = Event::now(None, what);
        let all = self.0.load();
        for follower in all.iter().filter(|follower| follower.watch.general) {
            follower.watch.push(event.clone(), true, &mut to_wake);
        }
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} watches", self.0.load().len())
    }
}

/// The watches whose threads sleep although events wait. Dropping it wakes them.
#[derive(Default)]
#[must_use = "dropping it wakes them: a system call, which the region's lock should not wait for"]
pub(crate) struct ToWake(Vec<Arc<Watch>>);

impl ToWake {
    pub(crate) fn add(&mut self, mut others: ToWake) {
        self.0.append(&mut others.0);
    }
}

impl Drop for ToWake {
    fn drop(&mut self) {
        self.0.iter().for_each(|watch| watch.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_api::PageRange;

    #[test]
    fn what_was_missed_is_told_before_the_region_begins_anew() {
        let watch = Arc::new(Watch::new(false));
        let region = || EventRegion { name: None, range: PageRange::from_pages(0, 1) };
        let began = || What::Began { allocator: None, live: [].into() };
        let watches = Watches::default();
        drop(watches.begin(&watch, region(), began()));
        watch.take();
        // One event is dropped while the thread delivers, so further ones make no sense.
        watches.0.load()[0].lost.store(true, Ordering::Relaxed);
        let released = What::Released { range: PageRange::from_pages(0, 1) };
        drop(watches.push(region, &released));
        drop(watches.begin(&watch, region(), began()));
        drop(watches.push(region, &released));
        let events: Vec<_> = watch.take().unwrap().into_iter().map(|event| event.what).collect();
        assert!(
            matches!(
                events[..],
                [What::Missed { count: 1 }, What::Began { .. }, What::Released { .. }]
            ),
            "{events:?}"
        );
    }
}
