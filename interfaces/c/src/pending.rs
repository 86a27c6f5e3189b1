//! Requests that are not answered yet, with a descriptor for poll(2), select(2) and epoll(7).
//!
//! To a server the descriptor is the connection, which becomes readable with the answer. In a host
//! it is a timer: it expires at the end of the wait, when memory that was set aside is to be
//! checked again, or at once when the framework wakes the request.

use crate::border::{border, handle_place, place};
use crate::chunk::{ChunkObject, cma_chunk};
use crate::failure::Failure;
use crate::handles::{Object, Table};
use crate::remote::RemoteChunk;
use cma_client::Error;
use cma_client::exchange::request_message;
use cma_device_protocol::wire::{self, ReceiveError};
use cma_device_protocol::{Message, Request};
use cma_framework::{Chunk, Cma, PendingChunk};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// A request that is not answered yet. One thread uses it at a time; a second call gets -EBUSY.
pub struct cma_pending(());

impl Object for cma_pending {
    type Value = PendingObject;
    const KIND: u8 = 3;
    const NAME: &'static str = "pending request";

    fn table() -> &'static Table<Self> {
        static PENDING: Table<cma_pending> = Table::new();
        &PENDING
    }
}

/// What a handle of a pending request is for.
pub(crate) enum PendingObject {
    Sent { connection: OwnedFd, id: u64 },
    Local(Box<LocalRequest>),
}

/// A request to a host.
pub(crate) struct LocalRequest {
    cma: Cma,
    timer: Arc<Timer>,
    state: LocalState,
}

enum LocalState {
    Answered(Result<Chunk, Failure>),
    Waiting { request: Box<PendingChunk>, deadline: Option<Instant> },
}

/// What became of a request.
enum Outcome {
    Answered(Result<ChunkObject, Failure>),
    NotYet(PendingObject),
}

impl PendingObject {
    /// Sends a request to a server, on a new connection.
    pub(crate) fn sent(connection: OwnedFd, request: &Request<'_>) -> Result<Self, Failure> {
        let message: Message = request_message(request).map_err(Error::from)?;
        match wire::send(connection.as_fd(), &message, &[]) {
            // The server may have sent the reason before it closed the connection.
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(errno) => return Err(Failure::system("send", &errno.into())),
        }
        Ok(PendingObject::Sent { connection, id: message.id() })
    }

    /// A request to a host that is answered already.
    pub(crate) fn answered(cma: Cma, result: Result<Chunk, Failure>) -> Result<Self, Failure> {
        let timer = Arc::new(Timer::new()?);
        timer.expire();
        let state = LocalState::Answered(result);
        Ok(PendingObject::Local(Box::new(LocalRequest { cma, timer, state })))
    }

    /// A request to a host that waits up to `longest`.
    pub(crate) fn waiting(
        cma: Cma,
        request: PendingChunk,
        longest: Duration,
    ) -> Result<Self, Failure> {
        let timer = Arc::new(Timer::new()?);
        let deadline = Instant::now().checked_add(longest);
        let state = LocalState::Waiting { request: Box::new(request), deadline };
        Ok(PendingObject::Local(Box::new(LocalRequest { cma, timer, state }.advanced())))
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            PendingObject::Sent { connection, .. } => connection.as_fd(),
            PendingObject::Local(local) => local.timer.0.as_fd(),
        }
    }

    fn finish(self) -> Outcome {
        match self {
            PendingObject::Sent { connection, id } => receive(connection, id),
            PendingObject::Local(local) => match local.advanced() {
                LocalRequest { state: LocalState::Answered(result), .. } => {
                    Outcome::Answered(result.map(ChunkObject::from))
                }
                local => Outcome::NotYet(PendingObject::Local(Box::new(local))),
            },
        }
    }
}

/// Takes the answer to request `id` if it has come.
fn receive(connection: OwnedFd, id: u64) -> Outcome {
    let (mut was_reset, mut was_ended) = (false, false);
    let failed = |error: Error| Outcome::Answered(Err(error.into()));
    loop {
        return match wire::receive_with(connection.as_fd()) {
            // An answer with id 0 belongs to no request, and is the last one.
            Ok((message, descriptors)) if message.id() == id || message.id() == 0 => {
                let chunk = match message.as_answer() {
                    Ok((_, answer)) => RemoteChunk::answered(connection, answer, descriptors),
                    Err(malformed) => return failed(Error::Exchange(malformed.into())),
                };
                Outcome::Answered(chunk.map(ChunkObject::from))
            }
            Ok(_) | Err(ReceiveError::System(Errno::INTR)) => continue,
            // Answers that are queued can be received after it.
            Err(ReceiveError::System(Errno::CONNRESET)) if !was_reset => {
                was_reset = true;
                continue;
            }
            // The kernel looks for a message first and for the end of the connection later.
            Err(ReceiveError::Disconnected) if !was_ended => {
                was_ended = true;
                continue;
            }
            Err(ReceiveError::System(Errno::AGAIN)) => {
                Outcome::NotYet(PendingObject::Sent { connection, id })
            }
            Err(error) => failed(Error::Exchange(error.into())),
        };
    }
}

impl LocalRequest {
    /// Tries the request again, and sets the timer for the next try.
    fn advanced(self) -> Self {
        let LocalState::Waiting { mut request, deadline } = self.state else { return self };
        // Set before the try: what wakes the request after it must not be undone.
        let recheck = self.cma.recover_memory();
        self.timer.expire_at([deadline, recheck].into_iter().flatten().min());
        let waker = Waker::from(self.timer.clone());
        let result = match Pin::new(&mut *request).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => result,
            Poll::Pending if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                request.time_out()
            }
            Poll::Pending => {
                return LocalRequest { state: LocalState::Waiting { request, deadline }, ..self };
            }
        };
        self.timer.expire();
        LocalRequest { state: LocalState::Answered(result.map_err(Failure::from)), ..self }
    }
}

/// A timer that poll(2) sees.
#[derive(Debug)]
struct Timer(OwnedFd);

impl Timer {
    fn new() -> Result<Self, Failure> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags);
        Ok(Timer(timer.map_err(|errno| Failure::system("timerfd_create", &errno.into()))?))
    }

    /// Makes it readable at that time; `None` for never.
    fn expire_at(&self, at: Option<Instant>) {
        // 0 would disarm the timer.
        let least = Duration::from_nanos(1);
        let after = at.map(|at| at.saturating_duration_since(Instant::now()).max(least));
        self.set(after.unwrap_or_default());
    }

    fn expire(&self) {
        self.set(Duration::from_nanos(1));
    }

    fn set(&self, after: Duration) {
        let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let it_value = Timespec::try_from(after).unwrap_or(never);
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Itimerspec { it_interval, it_value };
        // It fails for arguments alone that it doesn't get.
        let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &value);
    }
}

impl Wake for Timer {
    fn wake(self: Arc<Self>) {
        self.expire();
    }
}

/// A descriptor that becomes readable when it is worth calling cma_pending_finish. The library owns
/// it: it is valid until the request is finished or cancelled, and only for poll(2), select(2) and
/// epoll(7).
#[unsafe(no_mangle)]
pub extern "C" fn cma_pending_descriptor(
    pending: *mut cma_pending,
    fd: Option<&mut MaybeUninit<c_int>>,
) -> c_int {
    border("cma_pending_descriptor", || {
        let fd = place(fd, "descriptor")?;
        fd.write(-1);
        let number = |pending: &mut PendingObject| pending.descriptor().as_raw_fd();
        let number = cma_pending::table().with(pending, number);
        fd.write(number.map_err(Failure::handle::<cma_pending>)?);
        Ok(())
    })
}

/// Takes the answer: the chunk, or the error that a call that blocks would have returned. Either
/// ends the handle. -EAGAIN if there is no answer yet; then the handle stays.
#[unsafe(no_mangle)]
pub extern "C" fn cma_pending_finish(
    pending: *mut cma_pending,
    chunk: Option<&mut MaybeUninit<*mut cma_chunk>>,
) -> c_int {
    border("cma_pending_finish", || {
        let out = handle_place(chunk, "chunk")?;
        let loan = cma_pending::table().borrow(pending).map_err(Failure::handle::<cma_pending>)?;
        let answer = loan.change(|pending| match pending.finish() {
            Outcome::Answered(result) => (None, Some(result)),
            Outcome::NotYet(pending) => (Some(pending), None),
        });
        match answer {
            Some(result) => {
                out.write(cma_chunk::table().insert(result?)?);
                Ok(())
            }
            None => Err(Failure::new(libc::EAGAIN, "the request is not answered yet")),
        }
    })
}

/// Gives the request up and ends the handle. A chunk that it has got meanwhile is freed.
#[unsafe(no_mangle)]
pub extern "C" fn cma_pending_cancel(pending: *mut cma_pending) -> c_int {
    border("cma_pending_cancel", || {
        cma_pending::table().take(pending).map(drop).map_err(Failure::handle::<cma_pending>)
    })
}
