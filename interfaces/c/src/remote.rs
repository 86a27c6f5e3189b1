//! Chunks of a server: a connection, and the pieces of memory that came over it.
//!
//! The connection of a chunk is used by one call at a time, that which has borrowed the chunk.

use crate::failure::Failure;
use cma_client::Error;
use cma_client::exchange::{ExchangeError, exchange, request_message};
use cma_client::pieces::PieceBatch;
use cma_device_protocol::wire::Descriptors;
use cma_device_protocol::{Answer, ChunkAnswer, Request};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::SocketAddrUnix;
use std::path::Path;

/// A server that accepted a connection.
#[derive(Debug)]
pub(crate) struct Server {
    client: cma_client::Client,
    address: SocketAddrUnix,
}

impl Server {
    pub(crate) fn connect(path: &Path) -> Result<Self, Failure> {
        let client = cma_client::Client::connect(path)?;
        let address = SocketAddrUnix::new(client.path())
            .map_err(|errno| Failure::system("the path of the socket", &errno.into()))?;
        Ok(Server { client, address })
    }

    /// For requests without a chunk.
    pub(crate) fn client(&self) -> &cma_client::Client {
        &self.client
    }

    /// A new connection.
    pub(crate) fn open(&self) -> Result<OwnedFd, Failure> {
        cma_client::exchange::connect(&self.address).map_err(|errno| {
            let path = self.client.path().to_path_buf();
            Error::NoServer { path, source: errno.into() }.into()
        })
    }

    /// Allocates a chunk. When its connection slots run out, the server closes silent connections,
    /// and may have closed this one before the request arrived. Then there is another try.
    pub(crate) fn allocate(&self, request: &Request<'_>) -> Result<RemoteChunk, Failure> {
        let attempt = || RemoteChunk::allocate(self.open()?, request);
        attempt().or_else(|failure| match failure.errno() {
            libc::EUSERS => attempt(),
            _ => Err(failure),
        })
    }
}

/// A chunk of a server. The server frees it when the connection is closed.
#[derive(Debug)]
pub(crate) struct RemoteChunk {
    /// The pieces that came last. Dropped before the connection.
    batch: Option<Box<PieceBatch>>,
    connection: OwnedFd,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) granule: u64,
    /// The number of pieces that make up its memory.
    pub(crate) pieces: u64,
}

impl RemoteChunk {
    fn allocate(connection: OwnedFd, request: &Request<'_>) -> Result<Self, Failure> {
        let batch =
            call(&connection, request, |answer, descriptors| batch_of(answer, descriptors, 0))?;
        Ok(RemoteChunk::new(connection, batch))
    }

    /// The chunk of an answer to a request that was sent on `connection`.
    pub(crate) fn answered(
        connection: OwnedFd,
        answer: Answer<'_>,
        descriptors: Descriptors,
    ) -> Result<Self, Failure> {
        let batch = taken(answer, descriptors, |answer, files| batch_of(answer, files, 0))?;
        Ok(RemoteChunk::new(connection, batch))
    }

    fn new(connection: OwnedFd, batch: PieceBatch) -> Self {
        let ChunkAnswer { start, size, granule, pieces, .. } = *batch.chunk();
        RemoteChunk {
            batch: Some(Box::new(batch)),
            connection,
            start,
            bytes: size,
            granule,
            pieces,
        }
    }

    /// The pieces of memory from number `first` on, or a batch that has that piece. The last batch
    /// is kept, so that those who go through the pieces ask the server once for each batch.
    pub(crate) fn batch(&mut self, first: u64) -> Result<&PieceBatch, Failure> {
        if self.granule == 0 {
            return Err(Error::Simulated.into());
        }
        let has = |batch: &PieceBatch| {
            let from = batch.chunk().first;
            (from..from + batch.pieces().count() as u64).contains(&first)
        };
        let batch = match self.batch.take().filter(|batch| has(batch)) {
            Some(batch) => batch,
            None => Box::new(call(
                &self.connection,
                &Request::Chunk { first },
                |answer, descriptors| batch_of(answer, descriptors, first),
            )?),
        };
        batch.check_mappable()?;
        Ok(self.batch.insert(batch))
    }

    /// The same, without keeping it.
    pub(crate) fn take_batch(&mut self, first: u64) -> Result<PieceBatch, Failure> {
        self.batch(first)?;
        let batch = self.batch.take().ok_or(Error::Exchange(ExchangeError::Unexpected))?;
        Ok(*batch)
    }

    /// Frees the chunk, and returns when it is free, or when the server has said that it frees it
    /// later: a process still holds its memory. If there is no answer, the end of the connection
    /// frees it.
    pub(crate) fn free(&mut self) {
        self.batch = None;
        let _ = call(&self.connection, &Request::Free, |_, _| Some(()));
    }
}

fn batch_of(answer: Answer<'_>, descriptors: Descriptors, first: u64) -> Option<PieceBatch> {
    match answer {
        Answer::Chunk(chunk) => PieceBatch::new(chunk, descriptors, first).ok(),
        _ => None,
    }
}

/// Sends `request` and returns what `extract` takes of the answer.
fn call<T>(
    connection: &OwnedFd,
    request: &Request<'_>,
    extract: impl FnOnce(Answer<'_>, Descriptors) -> Option<T>,
) -> Result<T, Failure> {
    let message = request_message(request).map_err(Error::from)?;
    let mut reply = exchange(connection.as_fd(), &message, request.wait()).map_err(Error::from)?;
    let descriptors = std::mem::take(&mut reply.descriptors);
    taken(reply.answer().map_err(Error::from)?, descriptors, extract)
}

/// What `extract` takes of an answer that is no refusal.
fn taken<T>(
    answer: Answer<'_>,
    descriptors: Descriptors,
    extract: impl FnOnce(Answer<'_>, Descriptors) -> Option<T>,
) -> Result<T, Failure> {
    match answer {
        Answer::Refused { errno, reason } => Err(Failure::new(errno, reason)),
        answer => extract(answer, descriptors)
            .ok_or_else(|| Error::Exchange(ExchangeError::Unexpected).into()),
    }
}
