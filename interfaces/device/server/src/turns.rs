//! The order of events, which several threads serve at once.
//!
//! A client that closes a connection and asks on another means the second to find what the first
//! gave back. The two are events one after the other, but two threads may serve them side by side.
//! So each event is numbered as it is taken, and a request that would be refused waits until
//! whatever came before it and gives something back is done, and looks again. What is put off keeps
//! its number.
//!
//! An event that is stuck delays nobody for long: a request stops waiting for it when the event is
//! older than [`PATIENCE`], and waits for no event that is put off behind the stuck requests of
//! *another* user.

use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How old an event may be that a request waits for. Only an allocator that hangs takes longer,
/// also on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Held while an event is taken and sorted.
    taking: Mutex<()>,
    under_way: Mutex<UnderWay>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    events: BTreeMap<u64, Event>,
}

#[derive(Debug)]
struct Event {
    taken: Instant,
    /// The user for whom it is put off: all threads that this user may have are busy.
    put_off: Option<u32>,
}

/// An event under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    number: u64,
}

impl Turns {
    /// Takes an event by `take`, numbers it, and has `sort` say what is to be done. Others wait
    /// meanwhile, so that events are sorted in the order in which they came. `sort` must not wait
    /// for anything: no other client is served until it returns.
    pub(crate) fn take<T, Work>(
        self: &Arc<Self>,
        take: impl FnOnce() -> T,
        sort: impl FnOnce(T, Turn) -> Work,
    ) -> Work {
        let _taking = self.taking.lock();
        let event = take();
        sort(event, self.begin())
    }

    /// Begins an event that comes after all that are under way.
    pub(crate) fn begin(self: &Arc<Self>) -> Turn {
        let under_way = &mut *self.under_way.lock();
        let number = under_way.next;
        under_way.next += 1;
        under_way.events.insert(number, Event { taken: Instant::now(), put_off: None });
        Turn { turns: self.clone(), number }
    }
}

impl Turn {
    /// The event's place among all events.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Nobody has to wait for this one: nothing is given back by it.
    pub(crate) fn gives_nothing_back(&self) {
        self.turns.under_way.lock().events.remove(&self.number);
        self.turns.done.notify_all();
    }

    /// Whether the event is put off, for user `uid`, or served.
    pub(crate) fn put_off(&self, uid: Option<u32>) {
        if let Some(event) = self.turns.under_way.lock().events.get_mut(&self.number) {
            event.put_off = uid;
        }
        self.turns.done.notify_all();
    }

    /// Waits until every event is done that came before this one, which is an event of user `uid`.
    /// See the module for the events that it doesn't wait for.
    pub(crate) fn wait_for_earlier(&self, uid: u32) {
        let mut under_way = self.turns.under_way.lock();
        loop {
            let now = Instant::now();
            let earlier = under_way.events.range(..self.number).map(|(_, event)| event);
            let matters = earlier.filter(|event| event.put_off.is_none_or(|user| user == uid));
            let until =
                matters.map(|event| event.taken + PATIENCE).filter(|until| *until > now).min();
            let Some(until) = until else { return };
            self.turns.done.wait_until(&mut under_way, until);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.gives_nothing_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_turn_waits_for_the_one_before_it_and_for_none_behind_it() {
        let turns = Arc::new(Turns::default());
        let [first, second, third] = [(); 3].map(|()| turns.begin());
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                std::thread::sleep(PATIENCE / 10);
                over.store(true, Ordering::SeqCst);
                drop(first);
            });
            second.wait_for_earlier(1);
            assert!(over.load(Ordering::SeqCst));
        });
        drop(third);
    }

    #[test]
    fn nobody_waits_for_who_gives_nothing_back() {
        let turns = Arc::new(Turns::default());
        let [asks, later] = [(); 2].map(|()| turns.begin());
        asks.gives_nothing_back();
        assert!(turns.under_way.lock().events.keys().eq([&later.number]));
    }

    /// Makes an event as old as one that is stuck.
    fn ages(turn: &Turn) {
        let mut under_way = turn.turns.under_way.lock();
        under_way.events.get_mut(&turn.number).unwrap().taken -= PATIENCE;
        turn.turns.done.notify_all();
    }

    /// Whether the later of two turns, which is one of user 1, still waits for the other.
    fn waits(later: &Turn, end: impl FnOnce()) -> bool {
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| {
                later.wait_for_earlier(1);
                over.load(Ordering::SeqCst)
            });
            while !waits.is_finished() && later.turns.done.notify_all() == 0 {
                std::thread::yield_now();
            }
            over.store(true, Ordering::SeqCst);
            end();
            waits.join().unwrap()
        })
    }

    #[test]
    fn each_request_waits_for_a_stuck_event_no_longer_than_until_it_is_old() {
        let turns = Arc::new(Turns::default());
        let [stuck, later] = [(); 2].map(|()| turns.begin());
        assert!(waits(&later, || ages(&stuck)));
        let [second, third] = [(); 2].map(|()| turns.begin());
        drop(later);
        assert!(!waits(&second, || ()));
        drop(second);
        assert!(!waits(&third, || ()));
    }

    #[test]
    fn what_is_put_off_behind_stuck_requests_delays_its_own_user_alone() {
        let turns = Arc::new(Turns::default());
        let [put_off, later] = [(); 2].map(|()| turns.begin());
        put_off.put_off(Some(2));
        assert!(!waits(&later, || ()));
        put_off.put_off(Some(1));
        assert!(waits(&later, || put_off.gives_nothing_back()));
    }
}
