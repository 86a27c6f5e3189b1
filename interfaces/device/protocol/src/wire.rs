//! Sending and receiving messages with descriptors.
//!
//! The server receives with [`receive`], which gives the kernel no buffer for descriptors: the
//! kernel closes those that a client sends. A client receives with [`receive_with`].

use crate::malformed::{MESSAGE_BYTES, Malformed};
use crate::message::Message;
use arrayvec::ArrayVec;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, send as send_plain, sendmsg,
};
use std::mem::MaybeUninit;

/// The most descriptors that one message can carry (`SCM_MAX_FD` of Linux).
pub const MAX_DESCRIPTORS: usize = 253;

/// Descriptors that came with a message.
pub type Descriptors = ArrayVec<OwnedFd, MAX_DESCRIPTORS>;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// Why no message was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The other end has closed the connection.
    #[error("the other end closed the connection")]
    Disconnected,
    /// The bytes are not a message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Descriptors of the message did not fit.
    #[error("descriptors of a message were lost: this process has too many open files")]
    DescriptorsLost,
    /// A system call failed; `EAGAIN` when no message is queued.
    #[error("{0}")]
    System(#[from] Errno),
}

/// Sends a message without blocking; `EAGAIN` when the queue is full.
///
/// # Errors
///
/// The system's. Then nothing was sent.
///
/// # Panics
///
/// With more than [`MAX_DESCRIPTORS`].
pub fn send(
    socket: BorrowedFd<'_>,
    message: &Message,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    if descriptors.is_empty() {
        return send_plain(socket, message.as_bytes(), flags).map(|_| ());
    }
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(
        beside.push(SendAncillaryMessage::ScmRights(descriptors)),
        "a message carries at most {MAX_DESCRIPTORS} descriptors"
    );
    sendmsg(socket, &[IoSlice::new(message.as_bytes())], &mut beside, flags).map(|_| ())
}

/// Receives a message without blocking. Descriptors that come with it are closed.
///
/// # Errors
///
/// [`ReceiveError`].
pub fn receive(socket: BorrowedFd<'_>) -> Result<Message, ReceiveError> {
    // One byte more, to recognise longer messages.
    let mut bytes = [0; MESSAGE_BYTES + 1];
    let (_, length) = recv(socket, &mut bytes, RecvFlags::DONTWAIT)?;
    message(&bytes, length)
}

/// The next message, which stays the next one until it is [received](receive). Does not block.
///
/// # Errors
///
/// [`ReceiveError`].
pub fn peek(socket: BorrowedFd<'_>) -> Result<Message, ReceiveError> {
    let mut bytes = [0; MESSAGE_BYTES + 1];
    let (_, length) = recv(socket, &mut bytes, RecvFlags::DONTWAIT | RecvFlags::PEEK)?;
    message(&bytes, length)
}

/// Receives a message and its descriptors without blocking.
///
/// # Errors
///
/// [`ReceiveError`]. Descriptors that came are closed then.
pub fn receive_with(socket: BorrowedFd<'_>) -> Result<(Message, Descriptors), ReceiveError> {
    let mut bytes = [0; MESSAGE_BYTES + 1];
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, flags)?;
    let mut descriptors = Descriptors::new();
    for part in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(these) = part {
            for descriptor in these {
                descriptors.try_push(descriptor).map_err(|_| ReceiveError::DescriptorsLost)?;
            }
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(ReceiveError::DescriptorsLost);
    }
    Ok((message(&bytes, received.bytes)?, descriptors))
}

fn message(bytes: &[u8], length: usize) -> Result<Message, ReceiveError> {
    match length {
        // An empty message can't be distinguished from the end of the connection, and is treated
        // like it.
        0 => Err(ReceiveError::Disconnected),
        length => Ok(Message::from_bytes(&bytes[..length])?),
    }
}

#[cfg(test)]
mod tests;
