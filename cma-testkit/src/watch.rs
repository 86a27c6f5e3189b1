//! Watches the calls of an allocator: which call is in progress and since when, and the message of
//! a panic.

use crate::violation::{Call, Failure, Step, Violation};
use cma_api::PageRange;
use std::cell::{Cell, RefCell};
use std::panic::{set_hook, take_hook};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// The calls of one allocator.
#[derive(Debug)]
pub(crate) struct CallLog {
    allocator: &'static str,
    region: PageRange,
    steps: Mutex<Vec<Step>>,
}

impl CallLog {
    pub(crate) fn new(allocator: &'static str, region: PageRange) -> Arc<CallLog> {
        Arc::new(CallLog { allocator, region, steps: Mutex::new(Vec::new()) })
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

/// A call in progress.
struct Busy {
    log: Arc<CallLog>,
    call: Call,
    since: Instant,
}

/// The call in progress in the threads of one guarantee, of which one runs at a time.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Option<Busy>>>);

thread_local! {
    static WATCH: RefCell<Watch> = RefCell::default();
    /// Whether this thread is in a call of an allocator, so that a panic belongs to the allocator.
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
    /// The last panic of an allocator in this thread.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

impl Watch {
    /// The watch of this thread.
    pub(crate) fn current() -> Watch {
        WATCH.with_borrow(Watch::clone)
    }

    /// Makes this the watch of the current thread.
    pub(crate) fn make_current(self) {
        WATCH.set(self);
    }

    /// The call that has been in progress for `limit` or longer, with the log of its allocator.
    pub(crate) fn overdue(&self, limit: Duration) -> Option<(Arc<CallLog>, Call)> {
        let busy = lock(&self.0);
        let busy = busy.as_ref().filter(|busy| busy.since.elapsed() >= limit)?;
        Some((busy.log.clone(), busy.call))
    }
}

/// Runs `work`, which makes the call `call`, under the thread's watch.
pub(crate) fn during<T>(log: &Arc<CallLog>, call: Call, work: impl FnOnce() -> T) -> T {
    capture_panics();
    let watch = Watch::current();
    *lock(&watch.0) = Some(Busy { log: log.clone(), call, since: Instant::now() });
    IN_CALL.set(true);
    let result = work();
    IN_CALL.set(false);
    *lock(&watch.0) = None;
    result
}

/// Takes the message and location of the last panic of an allocator in this thread. Panics of a
/// library's allocator don't reach this hook.
pub(crate) fn take_panic() -> Option<String> {
    PANIC.take()
}

/// Keeps an allocator's panic from being printed: it becomes part of a failure.
fn capture_panics() {
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
