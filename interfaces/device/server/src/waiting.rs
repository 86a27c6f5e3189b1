//! Requests that wait for room.
//!
//! A request that waits is a future of the framework in the session of its connection. No thread
//! waits with it. Its waker makes epoll report the connection, whose socket is writable because the
//! client has read all answers; the thread that takes this event polls the future. The deadline
//! does the same by way of the timer.

use crate::accounts::Charge;
use crate::deadlines::Deadline;
use cma_framework::{AllocError, Chunk, PendingChunk, SharingRequest};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The chunk that a request waits for.
#[derive(Debug)]
pub(crate) struct PendingLease {
    // Dropped first: the charge ends when the framework has forgotten the request.
    pub(crate) chunk: PendingChunk,
    /// The charge for the chunk, unless it exceeds every region; then the request fails.
    pub(crate) charge: Option<Charge>,
    /// The same request without the wait.
    pub(crate) request: SharingRequest,
}

/// A request of a connection that waits for room.
#[derive(Debug)]
pub(crate) struct WaitingRequest {
    /// The id of its message.
    pub(crate) id: u64,
    /// Whether the answer brings memory.
    pub(crate) memory: bool,
    pub(crate) pending: PendingLease,
    pub(crate) deadline: Deadline,
    pub(crate) waker: Waker,
}

impl WaitingRequest {
    pub(crate) fn poll(&mut self) -> Poll<Result<Chunk, AllocError>> {
        Pin::new(&mut self.pending.chunk).poll(&mut Context::from_waker(&self.waker))
    }
}
