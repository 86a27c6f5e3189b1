//! Messages and descriptors through a socket.
//!
//! The server receives with [`receive`], which gives the kernel no place to put descriptors: those
//! that a client sends are closed before anybody sees them. A client receives with
//! [`receive_with`].

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

/// The most descriptors that one message can bring (`SCM_MAX_FD` of Linux).
pub const MAX_DESCRIPTORS: usize = 253;

/// Descriptors that came with a message.
pub type Descriptors = ArrayVec<OwnedFd, MAX_DESCRIPTORS>;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// What came in place of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The other end is gone.
    #[error("the other end hung up")]
    Disconnected,
    /// Something that is no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// There was no room for the descriptors that came with it.
    #[error("no room for the descriptors of a message: this process has too many open files")]
    DescriptorsLost,
    /// The system says no; `EAGAIN` when there is nothing yet.
    #[error("{0}")]
    System(#[from] Errno),
}

/// Sends a message without waiting; `EAGAIN` when there is no room for it.
///
/// # Errors
///
/// What the system says. Then nothing was sent.
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
        "no message brings so many descriptors"
    );
    sendmsg(socket, &[IoSlice::new(message.as_bytes())], &mut beside, flags).map(|_| ())
}

/// Receives a message without waiting, and none of the descriptors that come with it.
///
/// # Errors
///
/// [`ReceiveError`].
pub fn receive(socket: BorrowedFd<'_>) -> Result<Message, ReceiveError> {
    // One byte more, to see that there is one.
    let mut bytes = [0; MESSAGE_BYTES + 1];
    let (_, length) = recv(socket, &mut bytes, RecvFlags::DONTWAIT)?;
    message(&bytes, length)
}

/// Receives a message and the descriptors that come with it, without waiting.
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
        // A message of no bytes looks the same, and whoever sends one means nothing by it.
        0 => Err(ReceiveError::Disconnected),
        length => Ok(Message::from_bytes(&bytes[..length])?),
    }
}

#[cfg(test)]
mod tests;
