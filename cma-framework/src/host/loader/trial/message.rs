//! What the three processes of a trial say to each other: orders on the way down, a verdict on the
//! way back.

use super::super::LoadFailure;
use rustix::io::Errno;
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

/// How every order starts. No other program's first message on a standard input does.
const MAGIC: [u8; 16] = *b"\0cma trial load\x01";

/// The longest message.
pub(super) const LONGEST: usize = 4096;

/// Room for the descriptors of an order.
const SPACE: usize = rustix::cmsg_space!(ScmRights(2));

/// Two connected ends. A message is received whole.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// What a process that was started for a trial is to do. Descriptors come with it, the sealed copy
/// of the plug-in first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Start the subject and end it after `limit`, with every process that it has started.
    Supervise { limit: Duration, memory: u64 },
    /// Load the plug-in with no more than `memory` bytes of data, as a child of the process
    /// `supervisor`, and write what comes of it to the [`Report`](super::report::Report) that comes
    /// second.
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

    /// Sends it, and `descriptors` with it.
    pub(super) fn send(self, to: impl AsFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        beside.push(SendAncillaryMessage::ScmRights(descriptors));
        sendmsg(to, &[IoSlice::new(&self.to_bytes())], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The order that waits at the standard input of this process, if one does, with the
    /// descriptors that come with it and the socket. `/dev/null` takes the place of the standard
    /// input then; otherwise nothing is changed.
    pub(super) fn take() -> Option<(Order, Vec<OwnedFd>, OwnedFd)> {
        let order = Order::waiting(stdio::stdin())?;
        let (descriptors, socket) = Order::receive().ok()?;
        Some((order, descriptors, socket))
    }

    /// The order that waits at `socket`, which stays there. What somebody says who has connected
    /// to this program is none, for who gives an order has this program run a library: a program
    /// may be started with such a connection as its standard input. A socket that others can
    /// connect to has a name, and so has each connection to it; a [`pair`] has none.
    fn waiting(socket: impl AsFd) -> Option<Order> {
        let mut bytes = [0; Self::BYTES + 1];
        let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (_, length) = recv(&socket, &mut bytes[..], look).ok()?;
        let order = Order::from_bytes(&bytes[..length])?;
        // An error for a socket of another family.
        let name = UnixStream::from(socket.as_fd().try_clone_to_owned().ok()?).local_addr().ok()?;
        name.is_unnamed().then_some(order)
    }

    /// The descriptors of the order that waits at the standard input, and the socket, which is no
    /// longer the standard input.
    fn receive() -> io::Result<(Vec<OwnedFd>, OwnedFd)> {
        let socket = stdio::stdin().try_clone_to_owned()?;
        stdio::dup2_stdin(File::open("/dev/null")?)?;
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; Self::BYTES];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, flags)?;
        let descriptors = beside.drain().filter_map(|part| match part {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        Ok((descriptors.flatten().collect(), socket))
    }
}

/// What came of a trial.
#[derive(Debug)]
pub(super) enum Verdict {
    Sound,
    Refused(LoadFailure),
    NoTrial(io::Error),
}

impl Verdict {
    /// Its words, with a zero between each two. No word has a zero in it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let text;
        let words: &[&str] = match self {
            Verdict::Sound => &["sound"],
            Verdict::NoTrial(error) => {
                text = error.to_string();
                &["no-trial", &text]
            }
            Verdict::Refused(reason) => match reason {
                LoadFailure::Crashed { signal, said } => &["crashed", signal, said],
                LoadFailure::Ended { code, said } => {
                    text = code.to_string();
                    &["ended", &text, said]
                }
                LoadFailure::Endless { said, .. } => &["endless", said],
                LoadFailure::AbortsOnPanic => &["aborts"],
                other => {
                    text = other.to_string();
                    &["refused", other.kind(), &text, other.remedy()]
                }
            },
        };
        let mut bytes = words.join("\0").into_bytes();
        bytes.truncate(LONGEST);
        bytes
    }

    /// The verdict of a trial that had the time `limit`.
    ///
    /// # Errors
    ///
    /// It is none.
    pub(super) fn from_bytes(bytes: &[u8], limit: Duration) -> io::Result<Verdict> {
        let text = String::from_utf8_lossy(bytes);
        let words: Vec<&str> = text.split('\0').collect();
        let reason = match words[..] {
            ["sound"] => return Ok(Verdict::Sound),
            ["no-trial", error] => {
                return Ok(Verdict::NoTrial(io::Error::other(error.to_string())));
            }
            ["crashed", signal, said] => {
                LoadFailure::Crashed { signal: signal.into(), said: said.into() }
            }
            ["ended", code, said] => LoadFailure::Ended {
                code: code.parse().map_err(io::Error::other)?,
                said: said.into(),
            },
            ["endless", said] => LoadFailure::Endless { limit, said: said.into() },
            ["aborts"] => LoadFailure::AbortsOnPanic,
            ["refused", kind, reason, remedy] => LoadFailure::InTrial {
                kind: kind.into(),
                reason: reason.into(),
                remedy: remedy.into(),
            },
            _ => {
                return Err(io::Error::other(
                    "the process that was to make it gave an answer that is none",
                ));
            }
        };
        Ok(Verdict::Refused(reason))
    }
}

/// Sends `verdict` to who has ordered the trial.
pub(super) fn answer(to: impl AsFd, verdict: &Verdict) -> io::Result<()> {
    send(to, &verdict.to_bytes(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The verdict on a trial that had the time `limit`, if it has come; `None` if the other end was
/// closed without one.
pub(super) fn answered(from: impl AsFd, limit: Duration) -> io::Result<Option<Verdict>> {
    let mut bytes = [0; LONGEST];
    match recv(from, &mut bytes[..], RecvFlags::DONTWAIT) {
        Ok((_, 0)) | Err(Errno::AGAIN | Errno::CONNRESET) => Ok(None),
        Ok((_, length)) => Verdict::from_bytes(&bytes[..length], limit).map(Some),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
