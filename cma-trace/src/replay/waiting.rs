//! The requests of a replay that wait for room, in the trace's own time.

use cma_framework::errors::AllocError;
use cma_framework::{Chunk, PendingChunk};
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A request whose wait has ended.
pub(super) struct Ended {
    pub(super) slot: u32,
    /// The index of the operation that made the request.
    pub(super) operation: usize,
    pub(super) result: Result<Chunk, AllocError>,
}

/// The requests that wait. Each is polled only after the framework has woken it, and its wait ends
/// when the trace's time has passed its deadline, so that no thread ever waits.
#[derive(Default)]
pub(super) struct Waiting {
    /// By the slot for the chunk.
    requests: HashMap<u32, Request>,
    /// The slots by deadline and operation.
    deadlines: BTreeMap<(u64, usize), u32>,
    woken: Arc<Woken>,
}

struct Request {
    pending: PendingChunk,
    operation: usize,
    deadline_us: u64,
    wait: Duration,
}

/// The slots of the requests that were woken and not polled since.
type Woken = Mutex<Vec<u32>>;

struct Waken {
    slot: u32,
    woken: Arc<Woken>,
}

impl Wake for Waken {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
    }
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The result of a request that may wait for `wait` from `time_us` on; `None` if it waits.
    pub(super) fn begin(
        &mut self,
        slot: u32,
        operation: usize,
        time_us: u64,
        wait: Duration,
        mut pending: PendingChunk,
    ) -> Option<Result<Chunk, AllocError>> {
        if let Poll::Ready(result) = self.poll(slot, &mut pending) {
            return Some(result);
        }
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let deadline_us = time_us.saturating_add(micros);
        self.deadlines.insert((deadline_us, operation), slot);
        self.requests.insert(slot, Request { pending, operation, deadline_us, wait });
        None
    }

    fn poll(&self, slot: u32, pending: &mut PendingChunk) -> Poll<Result<Chunk, AllocError>> {
        let waker = Waker::from(Arc::new(Waken { slot, woken: self.woken.clone() }));
        Pin::new(pending).poll(&mut Context::from_waker(&waker))
    }

    /// The next request that was woken and has its result.
    pub(super) fn next_ready(&mut self) -> Option<Ended> {
        loop {
            let slot = self.woken.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let Some(mut request) = self.take(slot) else { continue };
            match self.poll(slot, &mut request.pending) {
                Poll::Ready(result) => {
                    return Some(Ended { slot, operation: request.operation, result });
                }
                Poll::Pending => {
                    self.deadlines.insert((request.deadline_us, request.operation), slot);
                    self.requests.insert(slot, request);
                }
            }
        }
    }

    /// Ends the wait of a request whose deadline is before `time_us`, the first of them first.
    pub(super) fn next_expired(&mut self, time_us: u64) -> Option<Ended> {
        let (&(deadline_us, _), &slot) = self.deadlines.first_key_value()?;
        if deadline_us < time_us { self.give_up(slot) } else { None }
    }

    /// Ends the wait of any request, the one with the first deadline first.
    pub(super) fn next_left(&mut self) -> Option<Ended> {
        let slot = *self.deadlines.first_key_value()?.1;
        self.give_up(slot)
    }

    /// Ends the wait of the request for `slot`, if one waits, with a last try.
    pub(super) fn give_up(&mut self, slot: u32) -> Option<Ended> {
        let Request { pending, operation, wait, .. } = self.take(slot)?;
        let result = pending.time_out().map_err(|error| match error {
            // The time of the trace, and not that of the replay.
            AllocError::TimedOut(mut timed_out) => {
                timed_out.waited = wait;
                AllocError::TimedOut(timed_out)
            }
            error => error,
        });
        Some(Ended { slot, operation, result })
    }

    fn take(&mut self, slot: u32) -> Option<Request> {
        let request = self.requests.remove(&slot)?;
        self.deadlines.remove(&(request.deadline_us, request.operation));
        Some(request)
    }
}
