//! Requests whose answer a program awaits beside other events: by `poll(2)`, or by an executor.

use crate::call::answered;
use crate::chunk::RemoteChunk;
use crate::error::Error;
use crate::exchange::{ExchangeError, Reply, request_message};
use cma_device_protocol::Request;
use cma_device_protocol::wire::{self, ReceiveError};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// A request for a chunk that is not answered yet. Made by
/// [`Client::request`](crate::Client::request).
///
/// Its descriptor becomes readable when the answer has come, or the server has ended. Dropping it
/// gives the request up; a chunk that it has got meanwhile is freed.
#[must_use = "a request that is dropped is given up"]
#[derive(Debug)]
pub struct PendingChunk {
    connection: OwnedFd,
    id: u64,
}

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// The server has answered, or ended.
    Answered(Result<RemoteChunk, Error>),
    /// There is no answer yet.
    NotYet(PendingChunk),
}

impl PendingChunk {
    /// Sends a request for a chunk on a connection that has none.
    pub(crate) fn send(connection: OwnedFd, request: &Request<'_>) -> Result<Self, Error> {
        let message = request_message(request)?;
        match wire::send(connection.as_fd(), &message, &[]) {
            // The server may have sent the reason before it closed the connection.
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {
                Ok(PendingChunk { connection, id: message.id() })
            }
            Err(errno) => Err(Error::system("send")(errno)),
        }
    }

    /// Takes the answer if it has come, without blocking.
    pub fn finish(self) -> Outcome {
        let (mut was_reset, mut was_ended) = (false, false);
        let reply = loop {
            match wire::receive_with(self.connection.as_fd()) {
                // An answer with id 0 belongs to no request, and is the last one.
                Ok((message, descriptors)) if message.id() == self.id || message.id() == 0 => {
                    break Reply { message, descriptors };
                }
                Ok(_) | Err(ReceiveError::System(Errno::INTR)) => {}
                Err(ReceiveError::System(Errno::AGAIN)) => return Outcome::NotYet(self),
                // Why each may be reported before the last answer: `exchange`.
                Err(ReceiveError::System(Errno::CONNRESET)) if !was_reset => was_reset = true,
                Err(ReceiveError::Disconnected) if !was_ended => was_ended = true,
                Err(error) => return Outcome::Answered(Err(ExchangeError::from(error).into())),
            }
        };
        let batch = answered(reply, crate::chunk::first_pieces);
        Outcome::Answered(batch.map(|batch| RemoteChunk::new(self.connection, batch)))
    }
}

impl AsFd for PendingChunk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl AsRawFd for PendingChunk {
    fn as_raw_fd(&self) -> RawFd {
        self.connection.as_raw_fd()
    }
}
