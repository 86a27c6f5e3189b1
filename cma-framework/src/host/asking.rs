//! The request that a thread makes, as its regions report it.
//!
//! A region knows a request by its pages and limits. Its events also tell who made it, and whether
//! another region is asked when this one refuses. The caller that knows that notes it for its
//! thread: chunks are always placed by the thread that wants them, and only an observed framework
//! needs it, so it is no argument of every call.

use crate::vocabulary::{Asked, ChunkRequest};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

thread_local! {
    static ASKING: RefCell<Option<Asking>> = const { RefCell::new(None) };
}

struct Asking {
    asked: Arc<Asked>,
    /// Whether the region that is asked now is the last one.
    last: bool,
    outcome: Outcome,
}

/// Whether the failure of a request was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    NotReported,
    /// By the refusal of the last region.
    Reported,
}

/// Puts the thread's former request back.
struct Restore(Option<Asking>);

impl Drop for Restore {
    fn drop(&mut self) {
        ASKING.set(self.0.take());
    }
}

/// Makes a request by `call`.
pub(crate) fn with<T>(asked: &Arc<Asked>, call: impl FnOnce() -> T) -> (T, Outcome) {
    let asking = Asking { asked: asked.clone(), last: false, outcome: Outcome::NotReported };
    let _restore = Restore(ASKING.replace(Some(asking)));
    let answer = call();
    let outcome = ASKING.with_borrow(|asking| asking.as_ref().map(|asking| asking.outcome));
    (answer, outcome.unwrap_or(Outcome::NotReported))
}

/// Notes whether the region that is asked next is the last one.
pub(crate) fn ask(last: bool) {
    ASKING.with_borrow_mut(|asking| {
        if let Some(asking) = asking {
            asking.last = last;
        }
    });
}

/// The request that the thread makes, if that is noted.
pub(crate) fn current() -> Option<Arc<Asked>> {
    ASKING.with_borrow(|asking| asking.as_ref().map(|asking| asking.asked.clone()))
}

/// Notes that a region refuses the request. Returns whether that is its failure. `may_repeat` means
/// that the region may be asked again at once.
pub(crate) fn refused(may_repeat: bool) -> bool {
    ASKING.with_borrow_mut(|asking| {
        let Some(asking) = asking.as_mut().filter(|asking| asking.last && !may_repeat) else {
            return false;
        };
        asking.outcome = Outcome::Reported;
        true
    })
}

/// A new [`Asked`], of which only the request is known.
pub(crate) fn plain(request: ChunkRequest) -> Asked {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    Asked {
        number: REQUESTS.fetch_add(1, Ordering::Relaxed),
        since: Instant::now(),
        request,
        device: None,
        regions: "".into(),
        process: None,
    }
}
