//! A new instance of a region's allocator, which is asked where it would place a request.
//!
//! It works on a thread of its own, so that an allocator that doesn't return keeps nobody who asks
//! for an explanation.

use super::super::attach::one_line;
use crate::core::placement::{check, check_limits};
use crate::host::loader::Plugin;
use crate::vocabulary::errors::Misplacement;
use crate::vocabulary::request::exact_place;
use crate::vocabulary::{AfterLeaving, Elapsed};
use cma_api::abi_stable::std_types::RResult;
use cma_api::{PageRange, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

/// The longest time to wait for one answer.
const LONGEST: Duration = Duration::from_secs(3);

/// The longest time to wait for the answers of one explanation, or of several that are made
/// together.
const LONGEST_TOGETHER: Duration = Duration::from_secs(10);

/// The time that is left for answers.
#[derive(Debug)]
pub(crate) struct Patience {
    until: Instant,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Patience { until: Instant::now() + LONGEST_TOGETHER }
    }

    /// For one answer.
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).min(LONGEST)
    }
}

/// The most instances that nobody waits for any more. While there are so many, none is asked.
const MOST_LEFT: usize = 4;

/// The instances that nobody waits for any more, and that have not returned.
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// The allocator that a region has.
pub(super) struct AtWork {
    pub(super) name: String,
    pub(super) plugin: Plugin,
    pub(super) params: String,
}

impl AtWork {
    /// Where a new instance of the allocator places `request` in `region`, after it has adopted the
    /// chunks that stay. They ascend.
    pub(super) fn place(
        &self,
        region: PageRange,
        request: &Request,
        staying: Arc<[PageRange]>,
        patience: &Patience,
    ) -> AfterLeaving {
        let unknown = |reason: &str| AfterLeaving::Unknown { reason: reason.to_string() };
        if LEFT.load(Ordering::Relaxed) >= MOST_LEFT {
            return unknown("new instances that were asked before do not return");
        }
        let longest = patience.left();
        if longest.is_zero() {
            let seconds = LONGEST_TOGETHER.as_secs();
            return unknown(&format!("it was not asked, the answers before took {seconds} s"));
        }
        let (plugin, params, request) = (self.plugin.clone(), self.params.clone(), *request);
        let (answers, answer) = sync_channel(1);
        // Set by the first of both sides that leaves the other.
        let ended = Arc::new(AtomicBool::new(false));
        let asked = ended.clone();
        let ask = move || {
            let after = placed_by_new(&plugin, &params, region, &request, &staying);
            if asked.swap(true, Ordering::Relaxed) {
                LEFT.fetch_sub(1, Ordering::Relaxed);
            }
            // Nobody may wait for it any more.
            let _ = answers.send(after);
        };
        if let Err(error) = thread::Builder::new().name("cma-explain".to_string()).spawn(ask) {
            return unknown(&format!("the system has no thread to ask it: {error}"));
        }
        answer.recv_timeout(longest).unwrap_or_else(|_| {
            LEFT.fetch_add(1, Ordering::Relaxed);
            if ended.swap(true, Ordering::Relaxed) {
                LEFT.fetch_sub(1, Ordering::Relaxed);
            }
            unknown(&format!("a new instance did not answer within {}", Elapsed(longest)))
        })
    }
}

fn placed_by_new(
    plugin: &Plugin,
    params: &str,
    region: PageRange,
    request: &Request,
    staying: &[PageRange],
) -> AfterLeaving {
    let unknown = |reason: String| AfterLeaving::Unknown { reason: one_line(&reason) };
    let mut object = match plugin.initialise(region, params) {
        Ok(object) => object,
        Err(reason) => return unknown(reason),
    };
    for range in staying {
        if let RResult::RErr(reason) = object.adopt(*range) {
            return unknown(format!("a new instance can't adopt {range}: {reason}"));
        }
    }
    let answer = match exact_place(request) {
        Some(place) => object.adopt(place).into_result().ok().map(|_| place),
        None => object.allocate(request).into_result().ok().map(|placed| placed.range),
    };
    if let Some(panic) = object.fault().into_option() {
        return unknown(format!("a new instance failed: {panic}"));
    }
    let Some(place) = answer else { return AfterLeaving::Declined };
    let checked =
        check(place, request, region).and_then(|()| check_limits(place, request)).and_then(|()| {
            let free = staying.iter().all(|range| !range.overlaps(place));
            free.then_some(()).ok_or(Misplacement::Overlaps(place))
        });
    match checked {
        Ok(()) => AfterLeaving::Placed(place),
        Err(fault) => unknown(format!("a new instance returned {fault}")),
    }
}
