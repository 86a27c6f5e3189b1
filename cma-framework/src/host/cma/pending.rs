//! Requests that wait for room.

use super::Cma;
use super::source::{Order, Source};
use crate::core::books::Holder;
use crate::host::asking::{self, Outcome};
use crate::host::events;
use crate::host::region::{Attempt, Chunk, Region, Waiter};
use crate::vocabulary::errors::{AllocError, TimedOut};
use crate::vocabulary::{Asked, ChunkRequest};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// A request that waits for room. Made by [`Cma::allocate_async`].
///
/// The regions serve those who wait in the order of their asking, region by region. From its first
/// poll on, the request waits for every region that could serve it if it were empty. If there is
/// none, or all of them are stuck, it is refused at once. After a change of the configuration it
/// waits for the regions that it has then, and keeps its turn in those that it had before.
///
/// It works with any executor, and takes no thread while it waits. It has no deadline of its own:
/// the executor has, and ends the wait by [`time_out`](Self::time_out). A request that is dropped
/// leaves every queue, and the next one has its turn.
///
/// A request that is woken but neither polled nor dropped holds up those behind it.
///
/// Nobody is notified when a process gives up memory that was set aside ([`Chunk::map`]). Each poll
/// at the head of a queue checks it. Between polls a host that waits by futures has to call
/// [`Cma::recover_memory`] when that says, as the device server does by a timer; it wakes the
/// request if that makes room. A thread that blocks in [`Cma::allocate`] checks by itself.
#[must_use = "a request is made when it is polled"]
pub struct PendingChunk {
    order: Order,
    waiter: Arc<Waiter>,
    /// The regions in whose queues it is, or will be when they resume.
    joined: Vec<Region>,
    stage: Stage,
    /// The request as events tell it; `None` before its first event.
    asked: Option<Arc<Asked>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Waiting,
    Done,
}

impl Cma {
    /// A chunk that meets `request`, from the first region of `source` that can serve it. See
    /// [`alloc`](Self::alloc), [`alloc_from`](Self::alloc_from) and
    /// [`alloc_from_region`](Self::alloc_from_region), which do the same for a size and an
    /// alignment.
    ///
    /// ```
    /// use cma_framework::{Chunk, ChunkRequest, Cma, Source};
    ///
    /// fn frame(cma: &Cma) -> Result<Chunk, Box<dyn std::error::Error>> {
    ///     let camera = Source::Device { name: "camera", kind: Some("frame") };
    ///     Ok(cma.allocate(camera, &ChunkRequest::parse("3M/64K below=4G")?)?)
    /// }
    /// ```
    ///
    /// A request with a [`wait`](ChunkRequest::wait) blocks up to that time if no region has room
    /// now; [`PendingChunk`] has the order in which those who wait are served.
    ///
    /// # Errors
    ///
    /// [`AllocError`], with the reason of each region that was tried.
    pub fn allocate(
        &self,
        source: Source<'_>,
        request: &ChunkRequest,
    ) -> Result<Chunk, AllocError> {
        match request.wait {
            Some(longest) => self.allocate_async(source, request)?.block(longest),
            None => {
                let (route, pages) = self.resolve(source, request, None)?;
                let chunk =
                    self.0.allocate_by(&route, route.first.as_ref(), &pages, source, request);
                chunk.map_err(|error| source.error(error))
            }
        }
    }

    /// The same for a future, which waits until a region has room. The `wait` of the request has no
    /// effect.
    ///
    /// # Errors
    ///
    /// [`AllocError::Invalid`], [`AllocError::Unregistered`]. The future has the others.
    pub fn allocate_async(
        &self,
        source: Source<'_>,
        request: &ChunkRequest,
    ) -> Result<PendingChunk, AllocError> {
        Ok(PendingChunk::new(self.order(source, request, None, false)?, None))
    }
}

impl PendingChunk {
    pub(super) fn new(order: Order, holder: Option<Holder>) -> Self {
        let waiter = Waiter::new(order.wanted, holder);
        PendingChunk { order, waiter, joined: Vec::new(), stage: Stage::New, asked: None }
    }

    /// The same request, made at `since`: another process had it wait before this one. The time
    /// that it has [waited](Self::waited) counts from then. After the first poll this has no
    /// effect.
    pub fn since(mut self, since: Instant) -> Self {
        if let Some(waiter) = Arc::get_mut(&mut self.waiter) {
            waiter.since = since;
        }
        self
    }

    /// Ends the wait with a last try.
    ///
    /// # Errors
    ///
    /// [`AllocError::TimedOut`], with the reason of each region in this try.
    /// [`AllocError::Answered`] if it was ready before; then nothing is tried.
    pub fn time_out(mut self) -> Result<Chunk, AllocError> {
        if self.stage == Stage::Done {
            return Err(AllocError::Answered);
        }
        self.begin();
        let (placed, outcome) = self.asking(|this| {
            this.order.follow_configuration()?;
            this.order.place(Some(&this.waiter))
        });
        let result = placed.map_err(|error| match error {
            AllocError::NoRegion(refusals) => {
                AllocError::TimedOut(Box::new(TimedOut { waited: self.waited(), refusals }))
            }
            other => other,
        });
        self.finish(result, outcome)
    }

    /// The time since the request was made.
    pub fn waited(&self) -> Duration {
        self.waiter.since.elapsed()
    }

    /// Waits for the chunk, `longest` at most.
    pub(super) fn block(mut self, longest: Duration) -> Result<Chunk, AllocError> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let begun = Instant::now();
        loop {
            if let Poll::Ready(result) = Pin::new(&mut self).poll(&mut context) {
                return result;
            }
            let next_check = self.check_memory();
            match longest.checked_sub(begun.elapsed()) {
                Some(left) if !left.is_zero() => {
                    thread::park_timeout(next_check.map_or(left, |next| next.min(left)));
                }
                _ => return self.time_out(),
            }
        }
    }

    /// Checks the memory that is set aside in the regions for which it waits. What is usable again
    /// is freed, and the head of the queue called. Returns the time until the next check; `None`
    /// if no region has memory.
    fn check_memory(&self) -> Option<Duration> {
        self.joined.iter().filter_map(Region::check_memory).min()
    }

    fn begin(&mut self) {
        if self.stage == Stage::New {
            self.stage = Stage::Waiting;
            self.order.cma.0.waiters.add(&self.waiter);
            events::request_started(self.order.route.pair(), &self.order.request);
        }
    }

    /// Tries to have it served by `attempt`. In an observed framework, regions report the request.
    fn asking<T>(&mut self, attempt: impl FnOnce(&mut Self) -> T) -> (T, Outcome) {
        if !self.order.cma.framework().watches.is_empty() {
            let process = self.waiter.holder.as_ref().map(|holder| holder.process.clone());
            let (source, wanted) = (&self.order.source, self.order.wanted);
            self.asked.get_or_insert_with(|| Arc::new(source.borrowed().asked(wanted, process)));
        }
        match self.asked.clone() {
            Some(asked) => asking::with(&asked, || attempt(self)),
            None => (attempt(self), Outcome::NotReported),
        }
    }

    /// Tries the regions in their order, and waits for those that refuse. `None` means that it
    /// waits.
    fn attempt(&mut self) -> Option<Result<Chunk, AllocError>> {
        // A change after this calls the waiter again.
        if let Err(error) = self.order.follow_configuration() {
            return Some(Err(error));
        }
        let (order, waiter) = (&self.order, &self.waiter);
        let choices = match order.choices(Some(waiter)) {
            Ok(choices) => choices,
            Err(error) => return Some(Err(error)),
        };
        self.joined.retain(|region| {
            let stays = order.has(region);
            if !stays {
                region.leave_queue(waiter);
            }
            stays
        });
        let mut stuck = Vec::new();
        for region in choices.filter_map(|choice| choice.region) {
            let Ok(request) = order.request_in(region) else { continue };
            match region.allocate_or_wait(&request, waiter, &*order.cma.0) {
                Attempt::Served(chunk) => return Some(Ok(chunk)),
                Attempt::Waits if self.joined.contains(region) => {}
                Attempt::Waits => self.joined.push(region.clone()),
                Attempt::Hopeless => self.joined.retain(|joined| joined != region),
                Attempt::Stuck => stuck.push((region, request)),
            }
        }
        if self.joined.is_empty() {
            // This try counts, and says why.
            return Some(order.place(Some(waiter)));
        }
        for (region, request) in stuck {
            let is_new = !self.joined.contains(region);
            if region.wait_for_resumption(request, waiter, is_new) && is_new {
                self.joined.push(region.clone());
            }
        }
        None
    }

    /// Ends the wait with `result`.
    fn finish(
        &mut self,
        result: Result<Chunk, AllocError>,
        outcome: Outcome,
    ) -> Result<Chunk, AllocError> {
        self.stop_waiting();
        if let (Err(error), Some(asked)) = (&result, &self.asked) {
            self.order.cma.framework().report_failure(asked, error, outcome);
        }
        let mut result = result.map_err(|error| self.order.source.borrowed().error(error));
        if let (Ok(chunk), Some(holder)) = (&mut result, &self.waiter.holder) {
            chunk.set_holder(holder.clone());
        }
        events::request_ended(self.order.route.pair(), &self.order.request, &result);
        result
    }

    fn stop_waiting(&mut self) {
        self.stage = Stage::Done;
        self.order.cma.0.waiters.remove(&self.waiter);
        // The waker is foreign code: a region would drop it with the waiter under its lock, and its
        // drop may panic.
        let waker = self.waiter.stop_listening();
        for region in self.joined.drain(..) {
            region.leave_queue(&self.waiter);
        }
        drop(waker);
    }
}

impl Future for PendingChunk {
    type Output = Result<Chunk, AllocError>;

    /// Pending for good after it was ready once.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let is_new = this.stage == Stage::New;
        if this.stage == Stage::Done || !this.waiter.listen(context.waker()) && !is_new {
            return Poll::Pending;
        }
        this.begin();
        match this.asking(PendingChunk::attempt) {
            (Some(result), outcome) => Poll::Ready(this.finish(result, outcome)),
            (None, _) => Poll::Pending,
        }
    }
}

impl Drop for PendingChunk {
    fn drop(&mut self) {
        if self.stage == Stage::Waiting {
            self.stop_waiting();
            if let Some(asked) = &self.asked {
                self.order.cma.framework().report_given_up(asked);
            }
            events::request_cancelled(self.order.route.pair(), &self.order.request);
        }
    }
}

impl fmt::Debug for PendingChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PendingChunk({} from {:?})", self.order.wanted, self.order.source.borrowed())
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
