//! A server's address, and the calls of the device interface (specification section 6).

use crate::chunk::RemoteChunk;
use crate::error::Error;
use crate::line::{Answered, NoAnswer, ask, open, question};
use cma_device_protocol::wire::Descriptors;
use cma_device_protocol::{Answer, Info, Listed, Request, Source};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use std::path::{Path, PathBuf};

/// A server that was found.
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
        client.line()?;
        Ok(client)
    }

    /// Where the server is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn line(&self) -> Result<OwnedFd, Error> {
        open(&self.address)
            .map_err(|errno| Error::NoServer { path: self.path.clone(), source: errno.into() })
    }

    /// Asks on a new line.
    ///
    /// When its places run out, the server closes connections that have no chunk, the longest
    /// silent first. It may have closed this one before the question came, so the question is asked
    /// once more, on another line.
    fn ask<T>(&self, question: impl Fn(OwnedFd) -> Result<T, Error>) -> Result<T, Error> {
        match question(self.line()?) {
            Err(Error::Refused { errno, .. }) if errno == Errno::USERS.raw_os_error() => {
                question(self.line()?)
            }
            answered => answered,
        }
    }

    /// A chunk of `size` bytes for `device`, in memory of type `kind` (`common` when it is `None`),
    /// at a multiple of `alignment` bytes (0 for a page). The size is rounded up to pages, or to
    /// what can be shared of the regions' memory.
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
        self.alloc_by(Source::Device { device, kind: kind.unwrap_or_default() }, size, alignment)
    }

    /// A chunk from the first region of `regions` that can serve it: names separated by commas, up
    /// to the end or a `;`.
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
        self.alloc_by(Source::Regions(regions), size, alignment)
    }

    fn alloc_by(&self, from: Source<'_>, size: u64, alignment: u64) -> Result<RemoteChunk, Error> {
        let request = Request::Alloc { from, size, alignment, memory: true };
        self.ask(|line| RemoteChunk::ask(line, &request))
    }

    /// What the regions amount to that `device` may get memory of type `kind` from.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], with the server's reasons, or another [`Error`].
    pub fn info(&self, device: &str, kind: Option<&str>) -> Result<Info, Error> {
        self.info_by(Source::Device { device, kind: kind.unwrap_or_default() })
    }

    /// What the regions named amount to: names separated by commas, up to the end or a `;`.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn info_about(&self, regions: &str) -> Result<Info, Error> {
        self.info_by(Source::Regions(regions))
    }

    fn info_by(&self, from: Source<'_>) -> Result<Info, Error> {
        self.ask(|line| {
            ask_for(line.as_fd(), &Request::Info(from), |answer, _| match answer {
                Answer::Info(info) => Some(info),
                _ => None,
            })
        })
    }

    /// The chunks that this process' user has, in the order in which they were asked for: of all
    /// its processes, and those that a process that is gone has left behind with others.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn chunks(&self) -> Result<Vec<Listed>, Error> {
        self.ask(|line| {
            let (mut chunks, mut more) = (Vec::<Listed>::new(), true);
            while more {
                let after = chunks.last().map_or(0, |last| last.number);
                let (some, further) =
                    ask_for(line.as_fd(), &Request::List { after }, |answer, _| match answer {
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

/// Asks, and takes what is wanted of the answer and what came with it.
pub(crate) fn ask_for<T>(
    line: BorrowedFd<'_>,
    request: &Request<'_>,
    wanted: impl FnOnce(Answer<'_>, Descriptors) -> Option<T>,
) -> Result<T, Error> {
    let Answered { message, descriptors } = ask(line, &question(request)?)?;
    match message.as_answer().map_err(NoAnswer::from)? {
        (_, Answer::Refused { errno, words }) => {
            Err(Error::Refused { errno, words: words.to_string() })
        }
        (_, answer) => wanted(answer, descriptors).ok_or(Error::NoAnswer(NoAnswer::Other)),
    }
}
