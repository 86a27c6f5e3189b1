//! One question and its answer.
//!
//! A line is for one thread of one process at a time: after a fork, two processes have the same
//! line, and one that asks on it may take the other's answer. An answer to another question is
//! passed over.

use cma_device_protocol::wire::{self, Descriptors, Lost};
use cma_device_protocol::{Answer, Malformed, Message, Request, TooLong};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long an answer is waited for. The server answers within a millisecond unless it has much
/// memory to clear, or is stopped.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// The line is of no use any more.
    #[error("the server: {0}")]
    Lost(#[from] Lost),
    /// It takes too long.
    #[error("the server has not answered for {} seconds", PATIENCE.as_secs())]
    Late,
    /// It answers something else.
    #[error("the server answers something that was not asked for")]
    Other,
}

impl NoAnswer {
    /// The number that a C program sees.
    pub fn errno(self) -> Errno {
        match self {
            NoAnswer::Lost(Lost::HungUp) => Errno::NODEV,
            NoAnswer::Lost(Lost::NoRoom) => Errno::MFILE,
            NoAnswer::Lost(Lost::System(Errno::CONNRESET | Errno::PIPE)) => Errno::NODEV,
            NoAnswer::Lost(Lost::System(errno)) => errno,
            NoAnswer::Lost(_) | NoAnswer::Other => Errno::PROTO,
            NoAnswer::Late => Errno::TIMEDOUT,
        }
    }
}

impl From<Malformed> for NoAnswer {
    fn from(wrong: Malformed) -> Self {
        NoAnswer::Lost(Lost::Malformed(wrong))
    }
}

/// An answer, and the descriptors that came with it.
#[derive(Debug)]
pub struct Answered {
    pub(crate) message: Message,
    /// What came with it.
    pub descriptors: Descriptors,
}

impl Answered {
    /// What it says.
    ///
    /// # Errors
    ///
    /// [`NoAnswer::Lost`] when it is malformed.
    pub fn answer(&self) -> Result<Answer<'_>, NoAnswer> {
        let (_, answer) = self.message.as_answer()?;
        Ok(answer)
    }

    /// Whether the server closes the line with it, whatever was asked: it had no place for the
    /// line, or took the question for no message.
    pub fn is_last(&self) -> bool {
        self.message.id() == 0
    }
}

/// A new line to the server at `address`, which waits and which other programs that this process
/// becomes don't have.
///
/// # Errors
///
/// What the system says; `EAGAIN` when the server accepts no connections for [`PATIENCE`].
pub fn open(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    retry_on_intr(|| connect(&socket, address))?;
    Ok(socket)
}

/// A question for [`ask`].
///
/// # Errors
///
/// [`TooLong`] when its names don't fit.
pub fn question(request: &Request<'_>) -> Result<Message, TooLong> {
    static ASKED: AtomicU32 = AtomicU32::new(1);
    let number = ASKED.fetch_add(1, Ordering::Relaxed);
    // 0 stands for no question.
    Message::request(u64::from(std::process::id()) << 32 | u64::from(number), request)
}

/// Asks and waits for the answer.
///
/// # Errors
///
/// [`NoAnswer`]. The line should be given up then; after [`NoAnswer::Late`] it may still be
/// answered.
pub fn ask(line: BorrowedFd<'_>, question: &Message) -> Result<Answered, NoAnswer> {
    let until = Instant::now() + PATIENCE;
    loop {
        match wire::send(line, question, &[]) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(line, PollFlags::OUT, until)?,
            // The server may have said why before it hung up.
            Err(Errno::PIPE | Errno::CONNRESET) => break,
            Err(errno) => return Err(Lost::System(errno).into()),
        }
    }
    let mut was_reset = false;
    loop {
        match wire::receive_with(line) {
            // An answer to number 0 is one to whatever was asked.
            Ok((message, descriptors)) if message.id() == question.id() || message.id() == 0 => {
                return Ok(Answered { message, descriptors });
            }
            Ok(_) | Err(Lost::System(Errno::INTR)) => {}
            Err(Lost::System(Errno::AGAIN)) => wait(line, PollFlags::IN, until)?,
            // Said once, when the server hung up with something unread. What it had answered comes
            // behind that.
            Err(Lost::System(Errno::CONNRESET)) if !was_reset => was_reset = true,
            Err(lost) => return Err(lost.into()),
        }
    }
}

/// Waits until something can be sent or received.
fn wait(line: BorrowedFd<'_>, wanted: PollFlags, until: Instant) -> Result<(), NoAnswer> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).map_err(|_| NoAnswer::Late)?;
    match poll(&mut [PollFd::new(&line, wanted)], Some(&timeout)) {
        Ok(0) => Err(NoAnswer::Late),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Lost::System(errno).into()),
    }
}
