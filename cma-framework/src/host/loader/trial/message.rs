//! The messages between the three processes of a trial: orders to a child, a verdict to the parent.

use super::super::LoadFailure;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg,
    socketpair,
};
use rustix::stdio;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The start of every order. No other program starts a message on a standard input with it.
const MAGIC: [u8; 16] = *b"\0cma trial load\x01";

/// The longest message.
pub(super) const LONGEST: usize = 4096;

/// The size of the control buffer for the descriptors of an order.
const SPACE: usize = rustix::cmsg_space!(ScmRights(2));

/// A pair of connected sockets that preserve message boundaries.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// The task of a process that was started for a trial. It is sent with descriptors, the first of
/// which is the sealed copy of the plug-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Start the subject, and kill it after `limit` with every process that it has started.
    Supervise { limit: Duration, memory: u64 },
    /// Load the plug-in with at most `memory` bytes of data, as a child of the process
    /// `supervisor`, and write the result to the [`Report`](super::report::Report), the second
    /// descriptor.
    TryOut { memory: u64, supervisor: u32 },
}

impl Order {
    const BYTES: usize = MAGIC.len() + 1 + 2 * 8;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let (kind, first, second) = match self {
            Order::Supervise { limit, memory } => {
                (0, u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), memory)
            }
            Order::TryOut { memory, supervisor } => (1, u64::from(supervisor), memory),
        };
        let mut bytes = [kind; Self::BYTES];
        bytes[..16].copy_from_slice(&MAGIC);
        bytes[17..25].copy_from_slice(&first.to_ne_bytes());
        bytes[25..].copy_from_slice(&second.to_ne_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Order> {
        let (kind, numbers) = bytes.strip_prefix(&MAGIC)?.split_first()?;
        let (first, second) = numbers.split_first_chunk()?;
        let (first, memory) =
            (u64::from_ne_bytes(*first), u64::from_ne_bytes(second.try_into().ok()?));
        match kind {
            0 => Some(Order::Supervise { limit: Duration::from_millis(first), memory }),
            1 => Some(Order::TryOut { memory, supervisor: u32::try_from(first).ok()? }),
            _ => None,
        }
    }

    /// Sends the order with `descriptors`.
    pub(super) fn send(self, to: impl AsFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        beside.push(SendAncillaryMessage::ScmRights(descriptors));
        sendmsg(to, &[IoSlice::new(&self.to_bytes())], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Takes the order from the standard input of this process, with its descriptors and the
    /// socket. If there is an order, `/dev/null` replaces the standard input; otherwise nothing
    /// changes.
    pub(super) fn take() -> Option<(Order, Vec<OwnedFd>, OwnedFd)> {
        let order = Order::peek(stdio::stdin())?;
        let (descriptors, socket) = Order::receive().ok()?;
        Some((order, descriptors, socket))
    }

    /// The order that is queued at `socket`. It remains in the queue.
    ///
    /// An order makes this program run a library, so it must come from the program that has started
    /// this one and not from a client: a program may be started with a client's connection as its
    /// standard input. A socket that clients can connect to has a name, and so have its
    /// connections; a [`pair`] has none.
    fn peek(socket: impl AsFd) -> Option<Order> {
        let mut bytes = [0; Self::BYTES + 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (_, length) = recv(&socket, &mut bytes[..], flags).ok()?;
        let order = Order::from_bytes(&bytes[..length])?;
        // Fails for a socket of another family.
        let name = UnixStream::from(socket.as_fd().try_clone_to_owned().ok()?).local_addr().ok()?;
        name.is_unnamed().then_some(order)
    }

    /// Receives the order at the standard input. Returns its descriptors and the socket, which is
    /// no longer the standard input.
    fn receive() -> io::Result<(Vec<OwnedFd>, OwnedFd)> {
        let socket = stdio::stdin().try_clone_to_owned()?;
        stdio::dup2_stdin(File::open("/dev/null")?)?;
        let (_, descriptors) = receive_bytes(&socket, RecvFlags::DONTWAIT)?;
        Ok((descriptors, socket))
    }

    /// Waits for the next order on `socket`, with its descriptors; `None` if the peer has closed it
    /// or sends anything else.
    pub(super) fn next(socket: impl AsFd) -> io::Result<Option<(Order, Vec<OwnedFd>)>> {
        let (bytes, descriptors) = receive_bytes(socket, RecvFlags::empty())?;
        Ok(Order::from_bytes(&bytes).map(|order| (order, descriptors)))
    }
}

/// Receives the bytes and the descriptors of an order.
fn receive_bytes(socket: impl AsFd, flags: RecvFlags) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; Order::BYTES + 1];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(&socket, &mut parts, &mut beside, flags))?;
    bytes.truncate(received.bytes);
    let descriptors = beside.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok((bytes, descriptors.flatten().collect()))
}

/// The result of a trial.
#[derive(Debug)]
pub(super) enum Verdict {
    Sound,
    Refused(LoadFailure),
    NoTrial(io::Error),
}

impl Verdict {
    /// The verdict as fields that are separated by zeros. No field contains a zero.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let text;
        let fields: &[&str] = match self {
            Verdict::Sound => &["sound"],
            Verdict::NoTrial(error) => {
                text = error.to_string();
                &["no-trial", &text]
            }
            Verdict::Refused(reason) => match reason {
                LoadFailure::Crashed { signal, last_output } => &["crashed", signal, last_output],
                LoadFailure::Ended { code, last_output } => {
                    text = code.to_string();
                    &["ended", &text, last_output]
                }
                LoadFailure::Endless { last_output, .. } => &["endless", last_output],
                LoadFailure::AbortsOnPanic => &["aborts"],
                other => {
                    text = other.to_string();
                    &["refused", other.kind(), &text, other.remedy()]
                }
            },
        };
        let mut bytes = fields.join("\0").into_bytes();
        bytes.truncate(LONGEST);
        bytes
    }

    /// The verdict of a trial that had the time `limit`.
    ///
    /// # Errors
    ///
    /// `bytes` are not a verdict.
    pub(super) fn from_bytes(bytes: &[u8], limit: Duration) -> io::Result<Verdict> {
        let text = String::from_utf8_lossy(bytes);
        let fields: Vec<&str> = text.split('\0').collect();
        let reason = match fields[..] {
            ["sound"] => return Ok(Verdict::Sound),
            ["no-trial", error] => {
                return Ok(Verdict::NoTrial(io::Error::other(error.to_string())));
            }
            ["crashed", signal, last_output] => {
                LoadFailure::Crashed { signal: signal.into(), last_output: last_output.into() }
            }
            ["ended", code, last_output] => LoadFailure::Ended {
                code: code.parse().map_err(io::Error::other)?,
                last_output: last_output.into(),
            },
            ["endless", last_output] => {
                LoadFailure::Endless { limit, last_output: last_output.into() }
            }
            ["aborts"] => LoadFailure::AbortsOnPanic,
            ["refused", kind, reason, remedy] => LoadFailure::InTrial {
                kind: kind.into(),
                reason: reason.into(),
                remedy: remedy.into(),
            },
            _ => {
                return Err(io::Error::other("the supervising process sent a malformed verdict"));
            }
        };
        Ok(Verdict::Refused(reason))
    }
}

/// Sends `verdict` to the process that has ordered the trial.
pub(super) fn send_verdict(to: impl AsFd, verdict: &Verdict) -> io::Result<()> {
    send(to, &verdict.to_bytes(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the verdict of a trial that had the time `limit`, if it has arrived; `None` if the peer
/// has closed the socket without one.
pub(super) fn receive_verdict(from: impl AsFd, limit: Duration) -> io::Result<Option<Verdict>> {
    let mut bytes = [0; LONGEST];
    match recv(from, &mut bytes[..], RecvFlags::DONTWAIT) {
        Ok((_, 0)) | Err(Errno::AGAIN | Errno::CONNRESET) => Ok(None),
        Ok((_, length)) => Verdict::from_bytes(&bytes[..length], limit).map(Some),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
