//! The messages between a server and the keeper's process.
//!
//! Each is a packet: a byte that says what it is, and then a name, a text, or an errno in four
//! bytes. Before the name, `Pin` and `Unpin` have an offset and a length of eight bytes each.
//! `Put`, `Stored` and `Accept` carry one descriptor. Connections come as `Stored` over a second
//! socket.

use crate::name::{MAX_NAME, Name};
use rustix::io::{Errno, IoSlice, IoSliceMut, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};

/// One message. A server sends those before `Stored`, and the keeper the others.
#[derive(Debug)]
pub(crate) enum Message<F> {
    Put(Name, F),
    Remove(Name),
    Take,
    Pin(Name, Part),
    Unpin(Name, Part),
    /// Accept connections at the listener of that name, and send them over this socket.
    Accept(Name, F),
    /// The server serves. There is no answer.
    Ready,
    /// Why the server ends. There is no answer.
    Failed(String),
    /// One of the answers to `Take`, or a new connection.
    Stored(Name, F),
    /// It is done, or all are stored that were taken.
    Done,
    Refused(Errno),
}

/// A part of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Part {
    const SIZE: usize = 16;

    fn bytes(self) -> [u8; Part::SIZE] {
        let mut bytes = [0; Part::SIZE];
        bytes[..8].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.len.to_ne_bytes());
        bytes
    }

    fn of(bytes: &[u8; Part::SIZE]) -> Part {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        Part { offset: word(0), len: word(8) }
    }

    /// `None` beyond 64 bits.
    pub(crate) fn range(self) -> Option<Range<u64>> {
        Some(self.offset..self.offset.checked_add(self.len)?)
    }
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveError {
    Disconnected,
    /// It is no message. Descriptors that came with it are closed.
    Malformed,
    /// The descriptor of the message was lost, because this process has too many.
    DescriptorLost,
    /// `AGAIN`: there is none yet, at a socket that doesn't block.
    System(Errno),
}

/// A byte more than the longest message, to recognise longer ones.
const ROOM: usize = 1 + MAX_TEXT + 1;

/// The longest text in bytes.
const MAX_TEXT: usize = 1024;

const _: () = assert!(MAX_NAME <= MAX_TEXT);

const SPACE: usize = rustix::cmsg_space!(ScmRights(1));

impl Message<BorrowedFd<'_>> {
    /// Sends it. A full queue makes it wait, unless the socket doesn't block.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let part;
        let (kind, rest, descriptor) = match self {
            Message::Pin(name, pages) | Message::Unpin(name, pages) => {
                let kind = if matches!(self, Message::Pin(..)) { b'I' } else { b'U' };
                part = [&pages.bytes()[..], name.as_str().as_bytes()].concat();
                (kind, &part[..], None)
            }
            Message::Put(name, descriptor) => (b'P', name.as_str().as_bytes(), Some(*descriptor)),
            Message::Remove(name) => (b'R', name.as_str().as_bytes(), None),
            Message::Take => (b'T', &[][..], None),
            Message::Accept(name, socket) => (b'A', name.as_str().as_bytes(), Some(*socket)),
            Message::Ready => (b'Y', &[][..], None),
            Message::Failed(text) => {
                let length = text.floor_char_boundary(MAX_TEXT);
                (b'F', &text.as_bytes()[..length], None)
            }
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
    /// Receives a message, and waits for it.
    pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Self, ReceiveError> {
        Message::receive_with(socket, RecvFlags::empty())
    }

    /// Receives a message that is already there, and leaves it in the queue if its descriptor can't
    /// be received. Nobody else receives from the socket.
    pub(crate) fn receive_whole(socket: BorrowedFd<'_>) -> Result<Self, ReceiveError> {
        let message = Message::receive_with(socket, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        if !matches!(message, Err(ReceiveError::DescriptorLost | ReceiveError::System(_))) {
            // The kernel closes what the message carries.
            let _ = retry_on_intr(|| recv(socket, &mut [0; 1], RecvFlags::DONTWAIT));
        }
        message
    }

    /// Receives a message with these flags.
    pub(crate) fn receive_with(
        socket: BorrowedFd<'_>,
        flags: RecvFlags,
    ) -> Result<Self, ReceiveError> {
        let mut bytes = [0; ROOM];
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            let flags = flags | RecvFlags::CMSG_CLOEXEC;
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
        let named = |text| str::from_utf8(text).ok().and_then(|text| Name::new(text).ok());
        let name = || named(rest);
        let name_and_part = || {
            let (part, name) = rest.split_first_chunk()?;
            Some((named(name)?, Part::of(part)))
        };
        let message = match (kind, descriptors.pop()) {
            (b'P', Some(descriptor)) => name().map(|name| Message::Put(name, descriptor)),
            (b'S', Some(descriptor)) => name().map(|name| Message::Stored(name, descriptor)),
            (b'A', Some(socket)) => name().map(|name| Message::Accept(name, socket)),
            (b'I', None) => name_and_part().map(|(name, part)| Message::Pin(name, part)),
            (b'U', None) => name_and_part().map(|(name, part)| Message::Unpin(name, part)),
            (b'R', None) => name().map(Message::Remove),
            (b'Y', None) => rest.is_empty().then_some(Message::Ready),
            (b'F', None) => str::from_utf8(rest).ok().map(|text| Message::Failed(text.into())),
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
