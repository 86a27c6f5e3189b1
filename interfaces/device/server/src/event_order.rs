//! The order of events that several threads serve at once.
//!
//! A client that closes one connection and allocates on another expects to get the memory that the
//! first one had. The two are consecutive events, but two threads may serve them concurrently. So
//! each event gets a ticket with an ascending number when a thread takes it from epoll. A request
//! that would be refused waits until all earlier events that may free something are done, and tries
//! again. A deferred event keeps its number.
//!
//! A stuck event delays other requests only briefly: a request doesn't wait for an event older than
//! [`MAX_AGE`], nor for an event that is deferred behind stuck requests of *another* user.

use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests wait for earlier events up to this age. Only an allocator that hangs takes longer, even
/// on a machine under load.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct EventOrder {
    /// Held while one thread takes an event and classifies it.
    taking: Mutex<()>,
    in_progress: Mutex<InProgress>,
    /// Notified when an event is done or its deferral changes.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct InProgress {
    next_number: u64,
    /// By number: the events that may still free something.
    events: BTreeMap<u64, EventState>,
}

#[derive(Debug)]
struct EventState {
    taken: Instant,
    /// The user whose limit of threads defers the event.
    deferred_for: Option<u32>,
}

/// An event's place in the order. The event is in progress until this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    order: Arc<EventOrder>,
    number: u64,
}

impl EventOrder {
    /// Takes an event by `take`, numbers it, and lets `classify` decide what is to be done. One
    /// thread does this at a time, so events are classified in the order of arrival. `classify`
    /// must not block: no other event is taken until it returns.
    pub(crate) fn take<T, Task>(
        self: &Arc<Self>,
        take: impl FnOnce() -> T,
        classify: impl FnOnce(T, Ticket) -> Task,
    ) -> Task {
        let _taking = self.taking.lock();
        let event = take();
        classify(event, self.begin())
    }

    /// Begins an event that comes after all that are in progress.
    pub(crate) fn begin(self: &Arc<Self>) -> Ticket {
        let in_progress = &mut *self.in_progress.lock();
        let number = in_progress.next_number;
        in_progress.next_number += 1;
        let state = EventState { taken: Instant::now(), deferred_for: None };
        in_progress.events.insert(number, state);
        Ticket { order: self.clone(), number }
    }
}

impl Ticket {
    /// The event's place among all events.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Declares that the event frees nothing, so no request waits for it.
    pub(crate) fn frees_nothing(&self) {
        self.order.in_progress.lock().events.remove(&self.number);
        self.order.changed.notify_all();
    }

    /// Marks the event as deferred for user `uid`, or as being served.
    pub(crate) fn set_deferred(&self, uid: Option<u32>) {
        if let Some(event) = self.order.in_progress.lock().events.get_mut(&self.number) {
            event.deferred_for = uid;
        }
        self.order.changed.notify_all();
    }

    /// Waits until every event before this one, which belongs to user `uid`, is done. The module's
    /// documentation lists the events that it doesn't wait for.
    pub(crate) fn wait_for_earlier(&self, uid: u32) {
        let mut in_progress = self.order.in_progress.lock();
        loop {
            let now = Instant::now();
            let earlier = in_progress.events.range(..self.number).map(|(_, event)| event);
            let relevant =
                earlier.filter(|event| event.deferred_for.is_none_or(|user| user == uid));
            let until =
                relevant.map(|event| event.taken + MAX_AGE).filter(|until| *until > now).min();
            let Some(until) = until else { return };
            self.order.changed.wait_until(&mut in_progress, until);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.frees_nothing();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn an_event_waits_for_earlier_events_and_not_for_later_ones() {
        let order = Arc::new(EventOrder::default());
        let [first, second, third] = [(); 3].map(|()| order.begin());
        let is_done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                std::thread::sleep(MAX_AGE / 10);
                is_done.store(true, Ordering::SeqCst);
                drop(first);
            });
            second.wait_for_earlier(1);
            assert!(is_done.load(Ordering::SeqCst));
        });
        drop(third);
    }

    #[test]
    fn no_event_waits_for_one_that_frees_nothing() {
        let order = Arc::new(EventOrder::default());
        let [query, later] = [(); 2].map(|()| order.begin());
        query.frees_nothing();
        assert!(order.in_progress.lock().events.keys().eq([&later.number]));
    }

    /// Makes an event as old as a stuck one.
    fn make_old(ticket: &Ticket) {
        let mut in_progress = ticket.order.in_progress.lock();
        in_progress.events.get_mut(&ticket.number).unwrap().taken -= MAX_AGE;
        ticket.order.changed.notify_all();
    }

    /// Whether `later`, an event of user 1, waited for earlier events until `end` was called.
    fn waits(later: &Ticket, end: impl FnOnce()) -> bool {
        let is_ended = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| {
                later.wait_for_earlier(1);
                is_ended.load(Ordering::SeqCst)
            });
            while !waits.is_finished() && later.order.changed.notify_all() == 0 {
                std::thread::yield_now();
            }
            is_ended.store(true, Ordering::SeqCst);
            end();
            waits.join().unwrap()
        })
    }

    #[test]
    fn a_request_waits_for_a_stuck_event_only_up_to_its_maximum_age() {
        let order = Arc::new(EventOrder::default());
        let [stuck, later] = [(); 2].map(|()| order.begin());
        assert!(waits(&later, || make_old(&stuck)));
        let [second, third] = [(); 2].map(|()| order.begin());
        drop(later);
        assert!(!waits(&second, || ()));
        drop(second);
        assert!(!waits(&third, || ()));
    }

    #[test]
    fn an_event_deferred_behind_stuck_requests_delays_only_its_own_user() {
        let order = Arc::new(EventOrder::default());
        let [deferred, later] = [(); 2].map(|()| order.begin());
        deferred.set_deferred(Some(2));
        assert!(!waits(&later, || ()));
        deferred.set_deferred(Some(1));
        assert!(waits(&later, || deferred.frees_nothing()));
    }
}
