//! The messages between a server and the keeper's process.
//!
//! Each is a packet: a byte that says what it is, and then a name, or an errno in four bytes. `put`
//! and `stored` carry one descriptor.

use crate::name::{MAX_NAME, Name};
use rustix::io::{Errno, IoSlice, IoSliceMut, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// One message. A server sends the first three, and the keeper the others.
#[derive(Debug)]
pub(crate) enum Message<F> {
    Put(Name, F),
    Remove(Name),
    Take,
    /// One of the answers to `Take`.
    Stored(Name, F),
    /// It is done, or all are stored that were taken.
    Done,
    Refused(Errno),
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveError {
    Disconnected,
    /// It is no message. Descriptors that came with it are closed.
    Malformed,
    /// The descriptor of the message was lost, because this process has too many.
    DescriptorLost,
    System(Errno),
}

/// A byte more than the longest message, to recognise longer ones.
const ROOM: usize = 1 + MAX_NAME + 1;

const SPACE: usize = rustix::cmsg_space!(ScmRights(1));

impl Message<BorrowedFd<'_>> {
    /// Sends it, and waits while the queue is full.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let (kind, rest, descriptor) = match self {
            Message::Put(name, descriptor) => (b'P', name.as_str().as_bytes(), Some(*descriptor)),
            Message::Remove(name) => (b'R', name.as_str().as_bytes(), None),
            Message::Take => (b'T', &[][..], None),
            Message::Stored(name, descriptor) => {
                (b'S', name.as_str().as_bytes(), Some(*descriptor))
            }
            Message::Done => (b'D', &[][..], None),
            Message::Refused(errno) => (b'X', &errno.raw_os_error().to_ne_bytes()[..], None),
        };
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        let kind = [kind];
        let bytes = [IoSlice::new(&kind), IoSlice::new(rest)];
        retry_on_intr(|| {
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                beside.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            sendmsg(socket, &bytes, &mut beside, SendFlags::NOSIGNAL)
        })
        .map(drop)
    }
}

impl Message<OwnedFd> {
    /// Receives a message.
    pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Self, ReceiveError> {
        let mut bytes = [0; ROOM];
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = retry_on_intr(|| {
            recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, flags)
        })
        .map_err(ReceiveError::System)?;
        let mut descriptors = Vec::new();
        for part in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(these) = part {
                descriptors.extend(these);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(ReceiveError::DescriptorLost);
        }
        let message = &bytes[..received.bytes];
        let (kind, rest) = message.split_first().ok_or(ReceiveError::Disconnected)?;
        let name = || str::from_utf8(rest).ok().and_then(|text| Name::new(text).ok());
        let message = match (kind, descriptors.pop()) {
            (b'P', Some(descriptor)) => name().map(|name| Message::Put(name, descriptor)),
            (b'S', Some(descriptor)) => name().map(|name| Message::Stored(name, descriptor)),
            (b'R', None) => name().map(Message::Remove),
            (b'T', None) => rest.is_empty().then_some(Message::Take),
            (b'D', None) => rest.is_empty().then_some(Message::Done),
            (b'X', None) => {
                let errno = rest.try_into().ok().map(i32::from_ne_bytes);
                errno.map(|errno| Message::Refused(Errno::from_raw_os_error(errno)))
            }
            _ => None,
        };
        message.ok_or(ReceiveError::Malformed)
    }
}
