//! The order of events, which several threads serve at once.
//!
//! A client that closes a connection and asks on another means the second to find what the first gave back. The two are
//! events one after the other, but two threads may serve them side by side. So each event is numbered as it is taken, and a request that
//! would be refused waits until whatever came before it and gives something back is done, and looks again. What is put off keeps
//! its number.

use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a request waits for what came before it. Only an allocator that hangs takes longer, also on a machine that has other things to
/// do.
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
    numbers: BTreeSet<u64>,
}

/// An event under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    number: u64,
}

impl Turns {
    /// Takes an event by `take`, numbers it, and has `sort` say what is to be done. Others wait meanwhile, so that events are sorted in
    /// the order in which they came.
    pub(crate) fn take<T, Work>(
        self: &Arc<Self>,
        take: impl FnOnce() -> T,
        sort: impl FnOnce(T, Turn) -> Work,
    ) -> Work {
        let _taking = self.taking.lock();
        let event = take();
        sort(event, self.begin())
    }

    fn begin(self: &Arc<Self>) -> Turn {
        let under_way = &mut *self.under_way.lock();
        let number = under_way.next;
        under_way.next += 1;
        under_way.numbers.insert(number);
        Turn { turns: self.clone(), number }
    }
}

impl Turn {
    /// Nobody has to wait for this one: nothing is given back by it.
    pub(crate) fn gives_nothing_back(&self) {
        self.turns.under_way.lock().numbers.remove(&self.number);
        self.turns.done.notify_all();
    }

    /// Waits until every event that came before this one is done.
    pub(crate) fn wait_for_earlier(&self) {
        let until = Instant::now() + PATIENCE;
        let mut under_way = self.turns.under_way.lock();
        while under_way.numbers.first().is_some_and(|first| *first < self.number) {
            if self.turns.done.wait_until(&mut under_way, until).timed_out() {
                break;
            }
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
            second.wait_for_earlier();
            assert!(over.load(Ordering::SeqCst));
        });
        drop(third);
    }

    #[test]
    fn nobody_waits_for_who_gives_nothing_back() {
        let turns = Arc::new(Turns::default());
        let [asks, later] = [(); 2].map(|()| turns.begin());
        asks.gives_nothing_back();
        assert!(turns.under_way.lock().numbers.iter().eq([&later.number]));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let turns = Arc::new(Turns::default());
        let [_stuck, later] = [(); 2].map(|()| turns.begin());
        later.wait_for_earlier();
    }
}
