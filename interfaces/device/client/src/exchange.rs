//! One request and its answer.
//!
//! A connection serves one thread of one process at a time. After a fork both processes have the
//! connection, and one that sends a request may receive the other's answer. An answer to another
//! request is ignored.

use cma_device_protocol::wire::{self, Descriptors, ReceiveError};
use cma_device_protocol::{Answer, Malformed, Message, NamesTooLong, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Time limit for an answer, besides the time that the request itself may wait. The server answers
/// within a millisecond unless it has much memory to clear, or is stopped.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The connection can't be used any more.
    #[error("the server: {0}")]
    Receive(#[from] ReceiveError),
    /// The server did not answer in time.
    #[error("the server has not answered for {} seconds", after.as_secs())]
    TimedOut {
        /// The time limit.
        after: Duration,
    },
    /// The answer does not belong to the request.
    #[error("the server sent an answer that does not belong to the request")]
    Unexpected,
}

impl ExchangeError {
    /// The errno that a C program gets.
    pub fn errno(self) -> Errno {
        match self {
            ExchangeError::Receive(ReceiveError::Disconnected) => Errno::NODEV,
            ExchangeError::Receive(ReceiveError::DescriptorsLost) => Errno::MFILE,
            ExchangeError::Receive(ReceiveError::System(Errno::CONNRESET | Errno::PIPE)) => {
                Errno::NODEV
            }
            ExchangeError::Receive(ReceiveError::System(errno)) => errno,
            ExchangeError::Receive(_) | ExchangeError::Unexpected => Errno::PROTO,
            ExchangeError::TimedOut { .. } => Errno::TIMEDOUT,
        }
    }
}

impl From<Malformed> for ExchangeError {
    fn from(malformed: Malformed) -> Self {
        ExchangeError::Receive(ReceiveError::Malformed(malformed))
    }
}

/// An answer, and the descriptors that came with it.
#[derive(Debug)]
pub struct Reply {
    pub(crate) message: Message,
    /// The descriptors.
    pub descriptors: Descriptors,
}

impl Reply {
    /// The answer.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Receive`] when it is malformed.
    pub fn answer(&self) -> Result<Answer<'_>, ExchangeError> {
        let (_, answer) = self.message.as_answer()?;
        Ok(answer)
    }

    /// Whether the server closes the connection after this answer, which belongs to no request: the
    /// server had no slot for the connection, or could not read the request.
    pub fn is_last(&self) -> bool {
        self.message.id() == 0
    }
}

/// Connects to the server at `address`. The socket is blocking, and closed by `exec`.
///
/// # Errors
///
/// The system's; `EAGAIN` when the server accepts no connections for [`ANSWER_TIMEOUT`].
pub fn connect(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_TIMEOUT))?;
    retry_on_intr(|| net::connect(&socket, address))?;
    Ok(socket)
}

/// The message for `request`, with an id of its own, for [`exchange`].
///
/// # Errors
///
/// [`NamesTooLong`].
pub fn request_message(request: &Request<'_>) -> Result<Message, NamesTooLong> {
    static NEXT_ID: AtomicU32 = AtomicU32::new(1);
    let number = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    // The process number keeps the id different from 0, which belongs to no request.
    Message::request(u64::from(std::process::id()) << 32 | u64::from(number), request)
}

/// Sends a request and waits for the answer: up to [`ANSWER_TIMEOUT`], and `wait` more, which is
/// the time that the request allows the server to wait ([`Request::wait`]).
///
/// # Errors
///
/// [`ExchangeError`]. The caller should close the connection then; after
/// [`ExchangeError::TimedOut`] the answer may still arrive.
pub fn exchange(
    connection: BorrowedFd<'_>,
    request: &Message,
    wait: Duration,
) -> Result<Reply, ExchangeError> {
    let limit = TimeLimit::new(ANSWER_TIMEOUT.saturating_add(wait));
    loop {
        match wire::send(connection, request, &[]) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => limit.wait(connection, PollFlags::OUT)?,
            // The server may have sent the reason before it closed the connection.
            Err(Errno::PIPE | Errno::CONNRESET) => break,
            Err(errno) => return Err(ReceiveError::System(errno).into()),
        }
    }
    let (mut was_reset, mut was_ended) = (false, false);
    loop {
        match wire::receive_with(connection) {
            // An answer with id 0 belongs to no request, and is the last one.
            Ok((message, descriptors)) if message.id() == request.id() || message.id() == 0 => {
                return Ok(Reply { message, descriptors });
            }
            Ok(_) | Err(ReceiveError::System(Errno::INTR)) => {}
            Err(ReceiveError::System(Errno::AGAIN)) => limit.wait(connection, PollFlags::IN)?,
            // The kernel reports ECONNRESET once, when the server closed the connection with a
            // request unread. Answers that are still queued can be received after it.
            Err(ReceiveError::System(Errno::CONNRESET)) if !was_reset => was_reset = true,
            // The kernel looks for a message first and for the end of the connection later. Without
            // blocking it reports the end, although the server has sent its last answer between.
            Err(ReceiveError::Disconnected) if !was_ended => was_ended = true,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The time limit of one exchange.
struct TimeLimit {
    after: Duration,
    /// `None` when the clock doesn't reach it.
    deadline: Option<Instant>,
}

impl TimeLimit {
    fn new(after: Duration) -> Self {
        TimeLimit { after, deadline: Instant::now().checked_add(after) }
    }

    /// Waits until the connection is ready to send or receive.
    fn wait(&self, connection: BorrowedFd<'_>, wanted: PollFlags) -> Result<(), ExchangeError> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // A time that the kernel can't represent is none.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(&connection, wanted)], timeout.as_ref()) {
            Ok(0) => Err(ExchangeError::TimedOut { after: self.after }),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(ReceiveError::System(errno).into()),
        }
    }
}
