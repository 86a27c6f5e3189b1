//! Watches the calls of an allocator: which call is in progress and since when, and the message of
//! a panic. A thread with a tape writes them on it.

use crate::tape::{Answer, Tape, Taped};
use crate::violation::{Call, Failure, Step, Violation};
use cma_api::PageRange;
use proptest::test_runner::{Config, RngSeed};
use std::cell::{Cell, RefCell};
use std::panic::{set_hook, take_hook};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// The seed of random operations, so that a verdict depends on the allocator alone.
pub const DEFAULT_SEED: u64 = 0x0063_6d61;

/// The calls of one allocator.
#[derive(Debug)]
pub(crate) struct CallLog {
    allocator: &'static str,
    /// The allocator's number on a tape.
    number: u64,
    region: PageRange,
    steps: Mutex<Vec<Step>>,
}

impl CallLog {
    pub(crate) fn new(allocator: &'static str, region: PageRange) -> Arc<CallLog> {
        let (number, steps) = (next_number(), Mutex::default());
        Arc::new(CallLog { allocator, number, region, steps })
    }

    /// Notes a step whose call ended in a panic: it has no answer on the tape.
    pub(crate) fn push_panicked(&self, step: Step) {
        lock(&self.steps).push(step);
    }

    pub(crate) fn push(&self, step: Step) {
        lock(&self.steps).push(step);
        // A free is pushed before its call, and has no answer.
        if let (Some(answer), Some(tape)) = (answer(step), Watch::current().tape) {
            tape.answer(answer);
        }
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

/// The answer of a step on a tape; `None` for a step without one.
fn answer(step: Step) -> Option<Answer> {
    let or_refused = |range: Option<PageRange>| range.map_or(Answer::Refused, Answer::Range);
    match step {
        Step::Allocate(_, range) | Step::Fit(_, range) => Some(or_refused(range)),
        Step::Adopt(_, adopted) => Some(if adopted { Answer::Done } else { Answer::Refused }),
        Step::Free(_) => None,
    }
}

/// A number that nothing else of this process has, and not 0.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Failure {
    /// The steps as calls on a tape, of an allocator of its own.
    pub(crate) fn taped(&self) -> Vec<Taped> {
        let (allocator, region) = (next_number(), self.region);
        let taped = |(call, answer)| Taped { allocator, region, thread: 0, call, answer };
        let steps = self.steps.iter().map(|step| {
            let call = match *step {
                Step::Allocate(request, _) => Call::Allocate(request),
                Step::Fit(request, _) => Call::Fit(request),
                Step::Free(range) => Call::Free(range),
                Step::Adopt(range, _) => Call::Adopt(range),
            };
            (call, answer(*step).unwrap_or(Answer::Done))
        });
        [(Call::New, Answer::Done)].into_iter().chain(steps).map(taped).collect()
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
pub(crate) struct Watch {
    busy: Arc<Mutex<Option<Busy>>>,
    tape: Option<Arc<Tape>>,
    seed: Option<u64>,
}

thread_local! {
    static THREAD: u64 = next_number();
    static WATCH: RefCell<Watch> = RefCell::default();
    /// Whether this thread is in a call of an allocator, so that a panic belongs to the allocator.
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
    /// The last panic of an allocator in this thread.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

impl Watch {
    /// A watch that writes the calls on `tape`, for random operations from `seed`.
    pub(crate) fn taping(tape: Arc<Tape>, seed: u64) -> Watch {
        Watch { busy: Arc::default(), tape: Some(tape), seed: Some(seed) }
    }

    /// The seed of random operations: that of the tape, or of the environment, or a fixed one.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| match Config::default().rng_seed {
            RngSeed::Fixed(seed) => seed,
            RngSeed::Random => DEFAULT_SEED,
        })
    }

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
        let busy = lock(&self.busy);
        let busy = busy.as_ref().filter(|busy| busy.since.elapsed() >= limit)?;
        Some((busy.log.clone(), busy.call))
    }
}

/// Runs `work`, which makes the call `call`, under the thread's watch.
pub(crate) fn during<T>(log: &Arc<CallLog>, call: Call, work: impl FnOnce() -> T) -> T {
    capture_panics();
    let watch = Watch::current();
    if let Some(tape) = &watch.tape {
        let (allocator, region) = (log.number, log.region);
        let thread = THREAD.with(|number| *number);
        tape.begin(&Taped { allocator, region, thread, call, answer: Answer::Nothing });
    }
    *lock(&watch.busy) = Some(Busy { log: log.clone(), call, since: Instant::now() });
    IN_CALL.set(true);
    let result = work();
    IN_CALL.set(false);
    *lock(&watch.busy) = None;
    if let Some(tape) = &watch.tape {
        tape.end(call);
    }
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
