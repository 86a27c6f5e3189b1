//! Looks on while an allocator works: which call it is in and since when, and what it says when it
//! panics.

use crate::violation::{Call, Failure, Step, Violation};
use cma_api::PageRange;
use std::cell::{Cell, RefCell};
use std::panic::{set_hook, take_hook};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// What was asked of one allocator.
#[derive(Debug)]
pub(crate) struct Log {
    allocator: &'static str,
    region: PageRange,
    steps: Mutex<Vec<Step>>,
}

impl Log {
    pub(crate) fn new(allocator: &'static str, region: PageRange) -> Arc<Log> {
        Arc::new(Log { allocator, region, steps: Mutex::new(Vec::new()) })
    }

    pub(crate) fn push(&self, step: Step) {
        lock(&self.steps).push(step);
    }

    /// `violation` with the steps that led to it.
    pub(crate) fn failure(&self, violation: Violation) -> Failure {
        Failure {
            allocator: self.allocator,
            region: self.region,
            steps: lock(&self.steps).clone(),
            violation: Box::new(violation),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The call that an allocator is in.
struct Busy {
    log: Arc<Log>,
    call: Call,
    since: Instant,
}

/// What the threads of one guarantee are doing: one of them works at a time.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Option<Busy>>>);

thread_local! {
    static WATCH: RefCell<Watch> = RefCell::default();
    /// Whether this thread is in a call of an allocator, so that a panic is the allocator's.
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
    /// The last panic of an allocator in this thread.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

impl Watch {
    /// Who looks on in this thread.
    pub(crate) fn current() -> Watch {
        WATCH.with_borrow(Watch::clone)
    }

    /// Makes this the thread's watch.
    pub(crate) fn make_current(self) {
        WATCH.set(self);
    }

    /// The call that has run for `limit` or longer, with the log of its allocator.
    pub(crate) fn overdue(&self, limit: Duration) -> Option<(Arc<Log>, Call)> {
        let busy = lock(&self.0);
        let busy = busy.as_ref().filter(|busy| busy.since.elapsed() >= limit)?;
        Some((busy.log.clone(), busy.call))
    }
}

/// Lets an allocator do `work`, which is `call`.
pub(crate) fn during<T>(log: &Arc<Log>, call: Call, work: impl FnOnce() -> T) -> T {
    keep_panics_quiet();
    let watch = Watch::current();
    *lock(&watch.0) = Some(Busy { log: log.clone(), call, since: Instant::now() });
    IN_CALL.set(true);
    let answer = work();
    IN_CALL.set(false);
    *lock(&watch.0) = None;
    answer
}

/// The message of the last panic of an allocator in this thread, and where it was. It is told once.
/// A library's panics are its own and not told here.
pub(crate) fn take_panic() -> Option<String> {
    PANIC.take()
}

/// An allocator's panic becomes part of a failure, so it is not printed too.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !IN_CALL.get() {
                return usual(panic);
            }
            let message = panic.payload_as_str().unwrap_or("no message");
            let place = panic.location().map(|place| format!(", at {place}")).unwrap_or_default();
            PANIC.set(Some(format!("{message}{place}")));
        }));
    });
}
