//! Delivery of events to the host's `tracing` subscriber. Observers, which receive the same events
//! as values, are served by `host::watches`.
//!
//! Events are values ([`What`], [`RequestEvent`]). Each is delivered to every [`Sink`] of
//! [`SINKS`], outside the locks of the framework, by a thread that caused one: a subscriber may be
//! the thread's own.
//!
//! The `tracing` events of requests are named after mainline's tracepoints: `cma_alloc_start`,
//! `cma_alloc_finish` and `cma_release` on level `TRACE`, `cma_attach`, `cma_detach` and
//! `cma_refuse` on `DEBUG`. Faults are on `WARN` and `ERROR`.
//!
//! Invariants:
//!
//! 1. The events of a region are delivered in the order in which they happened, one at a time: they
//!    are queued under the region's lock ([`Outbox`]), and one thread delivers. Queued without the
//!    lock, and so only in approximate order, are memory that was recovered and the refusals of a
//!    stuck region.
//! 2. No region and no change of the configuration waits for a sink. A thread that finds another
//!    one delivering leaves its events in the queue. When more than [`MOST_QUEUED`] events wait, it
//!    waits for that other thread, without holding a lock. A thread inside a sink never waits, so
//!    sinks that use the framework can't deadlock. A thread that has delivered [`MOST_QUEUED`]
//!    events leaves the rest to one that waits, so that no call delivers for ever.
//! 3. A panic in a sink ends in the delivery. It unwinds neither through a change of the
//!    configuration, nor through a guard that is dropped in another panic.
//! 4. An event that no sink wants is not queued, nor one of a thread without a `tracing`
//!    subscriber, such as a thread inside its subscriber: that thread never waits. While no sink
//!    follows requests, a request pays for a load and a branch.

use crate::vocabulary::errors::AllocError;
use crate::vocabulary::{Bytes, ChunkRequest, Errno, What};
use cma_api::{DmaAddr, PAGE_SIZE, Request};
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::Display;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Level, dispatcher};

/// Every sink of the process.
const SINKS: [&dyn Sink; 1] = [&TracingSink];

/// The number of events of a region that may wait for the thread that delivers.
const MOST_QUEUED: usize = 1024;

thread_local! {
    /// Whether this thread is inside a sink.
    static IN_SINK: Cell<bool> = const { Cell::new(false) };
}

/// A receiver of events. It may block or panic.
trait Sink: Sync {
    /// Whether it wants [`RequestEvent`]s and [`What::Released`] now.
    fn follows_requests(&self) -> bool;

    /// Whether it wants [`What::Refused`] now.
    fn follows_refusals(&self) -> bool;

    /// Whether it wants `event` now.
    fn wants(&self, event: &What) -> bool;

    /// Receives an event of the region that is displayed as `region`, which `origin` caused. The
    /// calling thread may be another one.
    fn receive(&self, region: &dyn Display, event: &What, origin: &EventOrigin);

    /// Receives an event of a request.
    fn receive_request(&self, event: &RequestEvent<'_>);
}

/// Whether a sink follows requests.
#[inline]
pub(crate) fn requests_followed() -> bool {
    SINKS.iter().any(|sink| sink.follows_requests())
}

/// Whether a sink follows refusals.
pub(crate) fn refusals_followed() -> bool {
    SINKS.iter().any(|sink| sink.follows_refusals())
}

/// Whether a sink wants `event`.
pub(crate) fn wanted(event: &What) -> bool {
    SINKS.iter().any(|sink| sink.wants(event))
}

/// Calls `deliver`, which hands an event to a sink. A panic in the sink ends here. The panic hook
/// has reported it.
pub(crate) fn emit(deliver: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(deliver)) {
        // Dropping the payload could panic again.
        mem::forget(payload);
    }
}

/// The same for an event that a sink receives as a value.
fn enter_sink(receive: impl FnOnce()) {
    let was_inside = IN_SINK.replace(true);
    emit(receive);
    IN_SINK.set(was_inside);
}

/// The events of one region that are not delivered yet.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: Mutex<EventQueue>,
    /// Wakes threads that wait for the thread that delivers.
    progress: Condvar,
}

#[derive(Default)]
struct EventQueue {
    /// Oldest first.
    events: VecDeque<QueuedEvent>,
    /// Whether events may be delivered.
    open: bool,
    /// Whether a thread delivers.
    delivering: bool,
    /// The number of threads that wait for `progress`.
    waiting: usize,
}

struct QueuedEvent {
    event: What,
    origin: EventOrigin,
}

impl QueuedEvent {
    fn deliver(&self, region: &dyn Display) {
        for sink in SINKS.iter().filter(|sink| sink.wants(&self.event)) {
            enter_sink(|| sink.receive(region, &self.event, &self.origin));
        }
    }
}

/// The thread that caused an event, and its `tracing` subscriber, which may be this thread's own.
#[derive(Clone)]
struct EventOrigin {
    thread: ThreadId,
    subscriber: Dispatch,
}

impl EventOrigin {
    fn current() -> Self {
        let subscriber = dispatcher::get_default(Dispatch::clone);
        EventOrigin { thread: thread::current().id(), subscriber }
    }

    /// Calls `emit`, which emits a `tracing` event, with the subscriber of the origin. Its argument
    /// is whether this thread is the origin.
    fn with_subscriber(&self, emit: impl FnOnce(bool)) {
        if self.thread == thread::current().id() {
            emit(true);
        } else {
            dispatcher::with_default(&self.subscriber, || emit(false));
        }
    }
}

impl Outbox {
    /// Queues events that are wanted. Called under the region's lock, where it exists, so that the
    /// queue has the order of the changes. Returns whether [`deliver`](Self::deliver) is due.
    #[cold]
    pub(crate) fn queue(&self, events: impl IntoIterator<Item = What>) -> bool {
        let origin = EventOrigin::current();
        if origin.subscriber.is::<NoSubscriber>() {
            // Also when a subscriber caused the events: `tracing` drops such events.
            return false;
        }
        let queued = |event| QueuedEvent { event, origin: origin.clone() };
        self.lock().events.extend(events.into_iter().map(queued));
        true
    }

    /// Allows events to be delivered.
    pub(crate) fn open(&self) {
        self.lock().open = true;
    }

    /// Delivers queued events, unless another thread does. Called without a lock.
    #[cold]
    pub(crate) fn deliver(&self, region: &dyn Display) {
        let mut queue = self.lock();
        while queue.delivering && queue.events.len() > MOST_QUEUED && !IN_SINK.get() {
            queue.waiting += 1;
            queue = self.progress.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.waiting -= 1;
        }
        if !queue.open || queue.delivering {
            return;
        }
        queue.delivering = true;
        let mut delivered = 0;
        while let Some(next) = queue.events.pop_front() {
            drop(queue);
            next.deliver(region);
            // Dropping a subscriber may run the host's code, which may panic.
            enter_sink(|| drop(next));
            delivered += 1;
            queue = self.lock();
            if queue.waiting > 0 && queue.events.len() <= MOST_QUEUED {
                self.progress.notify_all();
            }
            if queue.waiting > 0 && delivered >= MOST_QUEUED {
                // A thread that waits delivers the rest.
                break;
            }
        }
        queue.delivering = false;
        if queue.waiting > 0 {
            self.progress.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, EventQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event of a request, whichever regions it tries. Delivered by the requester's thread.
pub(crate) struct RequestEvent<'a> {
    /// Empty for a request that names regions.
    device: &'a str,
    kind: &'a str,
    request: &'a Request,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Started,
    Served {
        region: &'a dyn Display,
        start: DmaAddr,
    },
    Refused {
        error: &'a AllocError,
    },
    /// It waited and was given up.
    Cancelled,
}

/// A chunk, as an event reports it.
pub(crate) trait Served {
    fn region(&self) -> &dyn Display;
    fn start(&self) -> DmaAddr;
}

/// Runs `call`, which serves `request`, between two events.
#[cold]
pub(crate) fn around<C: Served>(
    pair: (&str, &str),
    request: &Request,
    call: impl FnOnce() -> Result<C, AllocError>,
) -> Result<C, AllocError> {
    request_started(pair, request);
    let answer = call();
    request_ended(pair, request, &answer);
    answer
}

/// Delivers that a request begins.
pub(crate) fn request_started(pair: (&str, &str), request: &Request) {
    deliver_request(pair, request, Stage::Started);
}

/// Delivers how a request ended.
pub(crate) fn request_ended<C: Served>(
    pair: (&str, &str),
    request: &Request,
    answer: &Result<C, AllocError>,
) {
    let stage = match answer {
        Ok(chunk) => Stage::Served { region: chunk.region(), start: chunk.start() },
        Err(error) => Stage::Refused { error },
    };
    deliver_request(pair, request, stage);
}

/// Delivers that a request that waited was given up.
pub(crate) fn request_cancelled(pair: (&str, &str), request: &Request) {
    deliver_request(pair, request, Stage::Cancelled);
}

fn deliver_request((device, kind): (&str, &str), request: &Request, stage: Stage<'_>) {
    let event = RequestEvent { device, kind, request, stage };
    for sink in SINKS.iter().filter(|sink| sink.follows_requests()) {
        enter_sink(|| sink.receive_request(&event));
    }
}

/// Emits a `tracing` event. Of another thread it is emitted without a span: this thread's current
/// one is not its cause.
macro_rules! emit_as {
    ($is_origin:expr, $level:ident, name: $name:expr, $($event:tt)*) => {
        if $is_origin {
            tracing::$level!(name: $name, $($event)*);
        } else {
            tracing::$level!(name: $name, parent: None::<tracing::Id>, $($event)*);
        }
    };
    ($is_origin:expr, $level:ident, $($event:tt)*) => {
        if $is_origin {
            tracing::$level!($($event)*);
        } else {
            tracing::$level!(parent: None::<tracing::Id>, $($event)*);
        }
    };
}

/// Emits events to the host's `tracing` subscriber.
struct TracingSink;

impl Sink for TracingSink {
    #[inline]
    fn follows_requests(&self) -> bool {
        tracing::level_enabled!(Level::TRACE)
    }

    fn follows_refusals(&self) -> bool {
        tracing::level_enabled!(Level::DEBUG)
    }

    fn wants(&self, event: &What) -> bool {
        match event {
            // `cma_alloc_finish` reports the chunk of a request, and its failure. The others tell
            // an observer about itself.
            What::Placed { .. }
            | What::Restored(_)
            | What::Failed { .. }
            | What::GivenUp { .. }
            | What::Began { .. }
            | What::Ended
            | What::Missed { .. } => false,
            What::Released { .. } => tracing::level_enabled!(Level::TRACE),
            What::Attached { .. } | What::Detached { .. } => tracing::level_enabled!(Level::DEBUG),
            What::Refused { .. } => self.follows_refusals(),
            What::Recovered { .. } => tracing::level_enabled!(Level::INFO),
            What::NotAttached { .. }
            | What::NotChanged { .. }
            | What::NotReplaced { .. }
            | What::NotFreed { .. }
            | What::Resumed { .. }
            | What::SetAside { .. } => tracing::level_enabled!(Level::WARN),
            What::OutOfService { .. } | What::Stuck(_) => {
                tracing::level_enabled!(Level::ERROR)
            }
        }
    }

    fn receive(&self, region: &dyn Display, event: &What, origin: &EventOrigin) {
        origin.with_subscriber(|is_origin| match event {
            What::Placed { .. }
            | What::Restored(_)
            | What::Failed { .. }
            | What::GivenUp { .. }
            | What::Began { .. }
            | What::Ended
            | What::Missed { .. } => {}
            What::Released { range } => {
                let (start, count) = (range.start(), range.pages().get());
                emit_as!(is_origin, trace, name: "cma_release", %region, %start, count, "cma_release");
            }
            What::Attached { allocator } => {
                emit_as!(is_origin, debug, name: "cma_attach", %region, allocator, "cma_attach");
            }
            What::Detached { allocator } => {
                emit_as!(is_origin, debug, name: "cma_detach", %region, allocator, "cma_detach");
            }
            What::Refused { request: ChunkRequest { size, alignment, .. }, reason, .. } => {
                let [count, align] = [size, alignment].map(|Bytes(bytes)| bytes / PAGE_SIZE);
                emit_as!(is_origin, debug, name: "cma_refuse", %region, count, align, %reason, "cma_refuse");
            }
            What::OutOfService { allocator, reason } => {
                emit_as!(is_origin, error, %region, allocator, reason, "allocator taken out of service");
            }
            What::NotAttached { reason } => {
                emit_as!(is_origin, warn, %region, %reason, "no allocator attached");
            }
            What::NotChanged { error } => {
                emit_as!(is_origin, warn, %region, %error, "allocator not changed");
            }
            What::NotReplaced { error } => {
                emit_as!(is_origin, warn, %region, %error, "allocator not replaced by its other build");
            }
            What::NotFreed { address } => {
                emit_as!(is_origin, warn, %region, "no chunk known by its address starts at {address}; nothing was freed");
            }
            What::Stuck(stuck) => {
                emit_as!(is_origin, error, %region, "{stuck}");
            }
            What::Resumed { deferred } => {
                emit_as!(is_origin, warn, %region, deferred, "the allocator has returned; the region resumes");
            }
            What::SetAside { range, moved_to: Some(now) } => {
                emit_as!(is_origin, warn, %region, %range, %now, "memory set aside, the chunk moved");
            }
            What::SetAside { range, moved_to: None } => {
                emit_as!(is_origin, warn, %region, %range, "memory set aside");
            }
            What::Recovered { range } => {
                emit_as!(is_origin, info, %region, %range, "memory that was set aside is free again");
            }
        });
    }

    fn receive_request(&self, event: &RequestEvent<'_>) {
        let RequestEvent { device, kind, request, stage } = event;
        let (count, align) = pages(request);
        match stage {
            Stage::Started => {
                tracing::trace!(name: "cma_alloc_start", device, r#type = kind, count, align, "cma_alloc_start");
            }
            Stage::Served { region, start } => {
                tracing::trace!(name: "cma_alloc_finish", device, r#type = kind, %region, %start, count, align, errno = 0, "cma_alloc_finish");
            }
            Stage::Cancelled => {
                let errno = Errno::ECANCELED as i32;
                tracing::trace!(name: "cma_alloc_finish", device, r#type = kind, count, align, errno, error = "given up", "cma_alloc_finish");
            }
            Stage::Refused { error } => {
                let errno = error.errno() as i32;
                tracing::trace!(name: "cma_alloc_finish", device, r#type = kind, count, align, errno, %error, "cma_alloc_finish");
            }
        }
    }
}

/// Size and alignment of a request, in pages.
fn pages(request: &Request) -> (u64, u64) {
    (request.pages().get(), request.alignment().pages().get())
}
