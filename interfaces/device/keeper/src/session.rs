//! What the keeper's process does for a server that runs.

use crate::accepting::Accepting;
use crate::store::Store;
use crate::wire::{Message, ReceiveError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, Shutdown, shutdown};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A server at the other end of a socket.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    socket: BorrowedFd<'a>,
    is_connected: bool,
    accepting: Option<Accepting>,
    is_ready: bool,
    /// Why it ends.
    said: Option<String>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(socket: BorrowedFd<'a>) -> Self {
        Session { socket, is_connected: true, accepting: None, is_ready: false, said: None }
    }

    /// Whether the server has its socket, as far as the last request tells.
    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether the server has reported that it serves.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Notes why the server ends.
    pub(crate) fn say(&mut self, why: String) {
        self.said = Some(why);
    }

    /// Waits for the server, for its clients, for `others` or for `timeout`, and serves one request
    /// and one client. Returns which of the others are readable.
    pub(crate) fn proceed(
        &mut self,
        store: &mut Store,
        others: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> Result<Vec<bool>, Errno> {
        let own = self.accepting.as_ref().and_then(Accepting::timeout);
        let timeout = timeout.into_iter().chain(own).min();
        let timeout = timeout.and_then(|time| time.try_into().ok());
        let of_others = others.iter().map(|other| PollFd::from_borrowed_fd(*other, PollFlags::IN));
        let mut polled: Vec<PollFd<'_>> = of_others.collect();
        if self.is_connected {
            polled.push(PollFd::from_borrowed_fd(self.socket, PollFlags::IN));
            polled.extend(self.accepting.as_ref().and_then(|accepting| accepting.awaited(store)));
        }
        retry_on_intr(|| poll(&mut polled, timeout.as_ref()))?;
        let mut readable = polled.iter().map(|polled| !polled.revents().is_empty());
        let of_others = readable.by_ref().take(others.len()).collect();
        let has_request = readable.next() == Some(true);
        if has_request {
            self.is_connected = self.serve_one(store) != Served::End;
        }
        self.accepting.take_if(|accepting| !accepting.proceed(store));
        Ok(of_others)
    }

    /// Serves the requests that the server sent before it ended.
    pub(crate) fn finish(&mut self, store: &mut Store) {
        while self.serve_one(store) == Served::Request {}
    }

    /// Why the server ended, if it said so.
    pub(crate) fn said(self) -> Option<String> {
        self.said
    }

    /// Carries out a request, if there is one.
    fn serve_one(&mut self, store: &mut Store) -> Served {
        let result = match Message::receive_with(self.socket, RecvFlags::DONTWAIT) {
            Ok(Message::Put(name, descriptor)) => store.put(name, descriptor),
            Ok(Message::Remove(name)) => store.remove(&name),
            Ok(Message::Pin(name, part)) => store.pin(&name, part),
            Ok(Message::Unpin(name, part)) => store.unpin(&name, part),
            Ok(Message::Take) => store.iter().try_for_each(|(name, descriptor)| {
                Message::Stored(name.clone(), descriptor.as_fd()).send(self.socket)
            }),
            Ok(Message::Accept(listener, server)) => {
                Accepting::new(listener, server, store).map(|new| self.accepting = Some(new))
            }
            Ok(Message::Ready) => {
                self.is_ready = true;
                return Served::Request;
            }
            Ok(Message::Failed(why)) => {
                self.said = Some(why);
                return Served::Request;
            }
            Ok(Message::Stored(..) | Message::Done | Message::Refused(_))
            | Err(ReceiveError::Malformed) => Err(Errno::PROTO),
            Err(ReceiveError::DescriptorLost) => Err(Errno::MFILE),
            Err(ReceiveError::System(Errno::AGAIN)) => return Served::Nothing,
            Err(ReceiveError::Disconnected | ReceiveError::System(_)) => return Served::End,
        };
        let answer = match result {
            Ok(()) => Message::Done,
            Err(errno) => Message::Refused(errno),
        };
        match answer.send(self.socket) {
            Ok(()) => Served::Request,
            // It doesn't read. The next answer would be taken for this one.
            Err(_) => {
                let _ = shutdown(self.socket, Shutdown::Both);
                Served::End
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    Request,
    /// There is none.
    Nothing,
    /// There will be none.
    End,
}

/// Holds descriptors for the server at the other end of `socket`, until it is gone. What it does
/// wrong is refused and changes nothing.
pub fn serve(socket: impl AsFd, store: &mut Store) {
    let mut session = Session::new(socket.as_fd());
    while session.is_connected() && session.proceed(store, &[], None).is_ok() {}
}
