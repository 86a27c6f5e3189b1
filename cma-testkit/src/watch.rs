//! Looks on while an allocator works: which call it is in and since when, and what it says when it
//! panics.

use crate::guarantees::{Guarantee, seed};
use crate::trial::Subject;
use crate::violation::{Call, Failure, Step, Violation};
use cma_api::PageRange;
use std::cell::{Cell, RefCell};
use std::panic::{resume_unwind, set_hook, take_hook};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
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

    /// From now on this one does.
    pub(crate) fn make_current(self) {
        WATCH.set(self);
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

/// Whether `subject` keeps `guarantee`, with every call of the allocator returning within `limit`.
/// One that doesn't is left alone: its thread goes on until the process ends.
///
/// # Errors
///
/// What the guarantee says, or [`Violation::Hangs`].
///
/// # Panics
///
/// The guarantee panicked, or no thread can be had.
pub fn verdict_within(
    limit: Duration,
    guarantee: Guarantee,
    subject: &Subject,
) -> Result<(), Failure> {
    let (watch, subject) = (Watch::default(), *subject);
    let (sender, receiver) = channel();
    let theirs = watch.clone();
    let thread = thread::Builder::new().spawn(move || {
        theirs.make_current();
        // Nobody waits for an answer that comes too late.
        let _ = sender.send(guarantee(&subject));
    });
    let thread = thread.expect("the suite needs a thread");
    loop {
        match receiver.recv_timeout(limit.min(Duration::from_millis(100))) {
            Ok(verdict) => return verdict,
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Ok(()) => unreachable!("a guarantee that returns has answered"),
                Err(panic) => resume_unwind(panic),
            },
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(Busy { log, call, since }) = &*lock(&watch.0)
            && since.elapsed() >= limit
        {
            let (call, seconds) = (*call, limit.as_secs());
            return Err(log.failure(Violation::Hangs { call, seconds, seed: seed() }));
        }
    }
}

/// [`verdict_within`] a minute.
///
/// # Errors
///
/// As there.
///
/// # Panics
///
/// As there.
pub fn verdict(guarantee: Guarantee, subject: &Subject) -> Result<(), Failure> {
    verdict_within(Duration::from_secs(60), guarantee, subject)
}
