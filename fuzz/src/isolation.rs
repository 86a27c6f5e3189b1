//! Runs a target so that a panic or an endless loop becomes a failure with its input.

use crate::{Outcome, Target};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A panic of a target: a property that failed, or a panic of the code under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// Its message.
    pub message: String,
    /// The source line, as `file:line:column`.
    pub location: String,
}

thread_local! {
    static IN_TARGET: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Runs `target` on `input`. A panic is returned and not printed.
pub(crate) fn run(target: &Target, input: &[u8]) -> Result<Outcome, Panic> {
    record_panics();
    IN_TARGET.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| target.check(input)));
    IN_TARGET.set(false);
    outcome.map_err(|_| {
        let unknown = || Panic { message: "no message".into(), location: "unknown".into() };
        PANIC.take().unwrap_or_else(unknown)
    })
}

fn record_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !IN_TARGET.get() {
                return usual(panic);
            }
            let message = panic.payload_as_str().unwrap_or("no message").to_string();
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            PANIC.set(Some(Panic { message, location }));
        }));
    });
}

/// Reports an input on which a target runs too long. Clones watch the same runs.
#[derive(Clone, Debug, Default)]
pub struct Watchdog(Arc<Mutex<Option<Running>>>);

#[derive(Debug)]
struct Running {
    since: Instant,
    input: Vec<u8>,
}

impl Watchdog {
    /// A watchdog that calls `report` with the input of a run that takes longer than `limit`. The
    /// run can't be stopped: `report` is expected to end the process.
    pub fn start(limit: Duration, report: impl Fn(&[u8]) + Send + 'static) -> Watchdog {
        let watchdog = Watchdog::default();
        let watched = watchdog.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(limit.min(Duration::from_millis(200)));
                if let Some(Running { since, input }) = &*watched.lock()
                    && since.elapsed() > limit
                {
                    report(input);
                }
            }
        });
        watchdog
    }

    /// [`run`] under the watchdog.
    pub(crate) fn run(&self, target: &Target, input: &[u8]) -> Result<Outcome, Panic> {
        *self.lock() = Some(Running { since: Instant::now(), input: input.to_vec() });
        let outcome = run(target, input);
        *self.lock() = None;
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
