//! A server's address, and the calls of the device interface (specification section 6).

use crate::attributes::{AttributeReader, AttributeText};
use crate::call::call;
use crate::chunk::RemoteChunk;
use crate::error::Error;
use crate::exchange;
use crate::pending::PendingChunk;
use cma_device_protocol::{Answer, ChunkRequest, InfoAnswer, ListedChunk, RegionSelector, Request};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use std::path::{Path, PathBuf};

/// The address of a server that accepted a connection.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
    address: SocketAddrUnix,
}

impl Client {
    /// The server that listens at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::NoServer`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = std::path::absolute(&path).unwrap_or_else(|_| path.as_ref().to_path_buf());
        let no_server =
            |errno: rustix::io::Errno| Error::NoServer { path: path.clone(), source: errno.into() };
        let address = SocketAddrUnix::new(&path).map_err(no_server)?;
        let client = Client { path: path.clone(), address };
        client.open()?;
        Ok(client)
    }

    /// The path of the server's socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a connection.
    fn open(&self) -> Result<OwnedFd, Error> {
        exchange::connect(&self.address)
            .map_err(|errno| Error::NoServer { path: self.path.clone(), source: errno.into() })
    }

    /// Does `work` on a new connection.
    ///
    /// When its connection slots run out, the server closes connections without a chunk, the one
    /// that was silent for longest first. It may have closed this one before the request arrived,
    /// so `work` is done once more, on another connection.
    fn on_connection<T>(&self, work: impl Fn(OwnedFd) -> Result<T, Error>) -> Result<T, Error> {
        match work(self.open()?) {
            Err(Error::Refused { errno, .. }) if errno == Errno::USERS.raw_os_error() => {
                work(self.open()?)
            }
            result => result,
        }
    }

    /// Allocates a chunk of `size` bytes for `device`, in memory of type `kind` (`common` when it
    /// is `None`), at a multiple of `alignment` bytes (0 for a page). The size is rounded up to
    /// pages, or to the unit in which the region's memory can be shared.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], with the server's reasons, or another [`Error`].
    pub fn alloc(
        &self,
        device: &str,
        kind: Option<&str>,
        size: u64,
        alignment: u64,
    ) -> Result<RemoteChunk, Error> {
        let from = RegionSelector::Device { device, kind: kind.unwrap_or_default() };
        self.allocate(from, &ChunkRequest::new(size).aligned(alignment))
    }

    /// Allocates a chunk from the first region of `regions` that can serve it: names separated by
    /// commas, up to the end or a `;`.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc).
    pub fn alloc_from(
        &self,
        regions: &str,
        size: u64,
        alignment: u64,
    ) -> Result<RemoteChunk, Error> {
        let from = RegionSelector::Regions(regions);
        self.allocate(from, &ChunkRequest::new(size).aligned(alignment))
    }

    /// Allocates a chunk with limits. While there is no room, the call blocks, for up to the time
    /// that the request waits.
    ///
    /// ```no_run
    /// # use cma_client::{ChunkRequest, Client, RegionSelector};
    /// # use std::time::Duration;
    /// # let client = Client::connect("/run/cma.sock")?;
    /// let from = RegionSelector::Device { device: "camera", kind: "frame" };
    /// let request = ChunkRequest::new(3 << 20).below(4 << 30).wait(Duration::from_secs(2));
    /// let frame = client.allocate(from, &request)?;
    /// # Ok::<(), cma_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc). `ETIMEDOUT` is a wait that ended without a chunk, with the reason
    /// of each region at the last try.
    pub fn allocate(
        &self,
        from: RegionSelector<'_>,
        chunk: &ChunkRequest,
    ) -> Result<RemoteChunk, Error> {
        let request = Request::Alloc { from, chunk: *chunk, memory: true };
        self.on_connection(|connection| RemoteChunk::alloc(connection, &request))
    }

    /// Sends a request for a chunk, as [`allocate`](Self::allocate), and returns before the answer.
    /// Its descriptor says when the answer has come. A request that has to wait for room takes no
    /// thread, here or in the server.
    ///
    /// ```no_run
    /// # use cma_client::{ChunkRequest, Client, Error, Outcome, RegionSelector, RemoteChunk};
    /// # use std::time::Duration;
    /// use tokio::io::{Interest, unix::AsyncFd};
    ///
    /// async fn frame(client: &Client) -> Result<RemoteChunk, Box<dyn std::error::Error>> {
    ///     let from = RegionSelector::Device { device: "camera", kind: "frame" };
    ///     let request = ChunkRequest::new(3 << 20).wait(Duration::from_secs(2));
    ///     let mut pending = client.request(from, &request)?;
    ///     loop {
    ///         // SAFETY: a `PendingChunk` owns its descriptor, and keeps it until `finish`.
    ///         let connection =
    ///             unsafe { AsyncFd::register_with_interest(pending, Interest::READABLE) }?;
    ///         connection.readable().await?.retain_ready();
    ///         match connection.into_inner().finish() {
    ///             Outcome::Answered(chunk) => return Ok(chunk?),
    ///             Outcome::NotYet(same) => pending = same, // the executor was woken for nothing
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoServer`], or another [`Error`] of sending. The refusals of
    /// [`allocate`](Self::allocate) are answers. `EUSERS` among them says that the server had no
    /// free connection; the request was not made, and another one may be accepted.
    pub fn request(
        &self,
        from: RegionSelector<'_>,
        chunk: &ChunkRequest,
    ) -> Result<PendingChunk, Error> {
        PendingChunk::send(self.open()?, &Request::Alloc { from, chunk: *chunk, memory: true })
    }

    /// The totals of the regions that may serve `device` for type `kind`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], with the server's reasons, or another [`Error`].
    pub fn info(&self, device: &str, kind: Option<&str>) -> Result<InfoAnswer, Error> {
        self.info_by(RegionSelector::Device { device, kind: kind.unwrap_or_default() })
    }

    /// The totals of the regions of a list: names separated by `,` or `|`, up to the end or a `;`.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn info_about(&self, regions: &str) -> Result<InfoAnswer, Error> {
        self.info_by(RegionSelector::Regions(regions))
    }

    fn info_by(&self, from: RegionSelector<'_>) -> Result<InfoAnswer, Error> {
        self.on_connection(|connection| {
            call(connection.as_fd(), &Request::Info(from), |answer, _| match answer {
                Answer::Info(info) => Some(info),
                _ => None,
            })
        })
    }

    /// Opens a connection for reading attributes of the server's framework.
    ///
    /// # Errors
    ///
    /// [`Error::NoServer`].
    pub fn attributes(&self) -> Result<AttributeReader, Error> {
        self.open().map(AttributeReader)
    }

    /// What is at `path` of the attributes of the server's framework, on a connection of its own.
    ///
    /// # Errors
    ///
    /// As [`AttributeReader::read`], and [`Error::NoServer`].
    pub fn attribute(&self, path: &str) -> Result<AttributeText, Error> {
        self.on_connection(|connection| AttributeReader(connection).read(path))
    }

    /// The chunks of this process's user, in the order of their allocation: those of all its
    /// processes, and those whose connection is closed while a process still holds their memory.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn chunks(&self) -> Result<Vec<ListedChunk>, Error> {
        self.on_connection(|connection| {
            let (mut chunks, mut more) = (Vec::<ListedChunk>::new(), true);
            while more {
                let after = chunks.last().map_or(0, |last| last.number);
                let request = Request::List { after };
                let (some, further) =
                    call(connection.as_fd(), &request, |answer, _| match answer {
                        Answer::Listed(some, further) => Some((some, further)),
                        _ => None,
                    })?;
                more = further && some.last().is_some_and(|last| last.number > after);
                chunks.extend(some);
            }
            Ok(chunks)
        })
    }
}
