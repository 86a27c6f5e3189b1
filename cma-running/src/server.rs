//! A running server, however it is reached.

use crate::entry::{Entry, EntryKind};
use crate::error::Error;
use crate::mount::Mount;
use crate::state::State;
use cma_client::{AttributeReader, AttributeText, Client};
use cma_framework::Attributes;
use cma_framework::attributes::{self, AttributeError};
use rustix::io::Errno;
use std::fmt;
use std::path::Path;

/// A running server, and the way to its attributes.
///
/// Paths are relative to the root of the attributes, such as `regions/b1/free`. A `Server` keeps no
/// connection: when its server ends and another one starts in its place, the next call reads that
/// one.
#[derive(Clone, Debug)]
pub struct Server(Access);

#[derive(Clone, Debug)]
enum Access {
    Mount(Mount),
    Socket(Client),
    Local(Attributes),
}

impl Server {
    /// The server whose attributes are mounted on `folder`.
    ///
    /// # Errors
    ///
    /// [`Error::NotServed`], [`Error::ServerGone`], or [`Error::NotRead`] when this user may not
    /// look into the folder.
    pub fn mount(folder: &Path) -> Result<Server, Error> {
        Mount::at(folder).map(|mount| Server(Access::Mount(mount)))
    }

    /// The server whose attributes are mounted, if there is one only.
    ///
    /// # Errors
    ///
    /// [`Error::NoServer`], [`Error::Servers`], or why the only mount can't be read.
    pub fn only() -> Result<Server, Error> {
        Mount::only().map(|mount| Server(Access::Mount(mount)))
    }

    /// The server that listens on `socket`.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`].
    pub fn connect(socket: &Path) -> Result<Server, Error> {
        Ok(Server(Access::Socket(Client::connect(socket).map_err(Error::Socket)?)))
    }

    /// The framework of this process.
    pub fn local(attributes: Attributes) -> Server {
        Server(Access::Local(attributes))
    }

    /// The text of the attribute at `path`.
    ///
    /// # Errors
    ///
    /// [`Error`]; a text above 64 MiB is not read.
    pub fn read(&self, path: &str) -> Result<String, Error> {
        self.session()?.read(path)
    }

    /// The first bytes of the text of the attribute at `path`. Over a mount at most `most` of them
    /// are read.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn read_start(&self, path: &str, most: u64) -> Result<String, Error> {
        match &self.0 {
            Access::Mount(mount) => mount.read_start(path, most),
            Access::Socket(_) | Access::Local(_) => self.session()?.read(path),
        }
    }

    /// The entries of the folder at `path`, in the server's order.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn list(&self, path: &str) -> Result<Vec<Entry>, Error> {
        self.session()?.list(path)
    }

    /// Writes `text` to the attribute at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::NotWritten`] with the server's reason, [`Error::ReadOnlySocket`], or why there is
    /// nothing to write to. Nothing has changed then.
    pub fn write(&self, path: &str, text: &str) -> Result<(), Error> {
        match &self.0 {
            Access::Mount(mount) => mount.write(path, text),
            Access::Socket(_) => Err(Error::ReadOnlySocket { path: path.to_string() }),
            Access::Local(attributes) => {
                attributes.write(path, text.as_bytes()).map_err(|error| match error {
                    AttributeError::Missing { .. } | AttributeError::NotFolder => {
                        Error::Missing { path: path.to_string() }
                    }
                    AttributeError::Folder => Error::Folder { path: path.to_string() },
                    error => Error::NotWritten {
                        path: path.to_string(),
                        reason: format!("{:?}: {error}", error.errno()),
                    },
                })
            }
        }
    }

    /// The state of every region. Each attribute is read by itself, so two of them may show
    /// different moments; the chunks of one region are those of one moment.
    ///
    /// # Errors
    ///
    /// [`Error`]. A region that is unregistered meanwhile is left out, and one whose allocator does
    /// not return has no [`books`](crate::RegionState::books).
    pub fn state(&self) -> Result<State, Error> {
        State::read(&self.session()?)
    }

    /// For several reads: over a socket they share a connection.
    pub(crate) fn session(&self) -> Result<Session<'_>, Error> {
        Ok(match &self.0 {
            Access::Mount(mount) => Session::Mount(mount),
            Access::Socket(client) => {
                Session::Socket(client, client.attributes().map_err(Error::Socket)?)
            }
            Access::Local(attributes) => Session::Local(attributes),
        })
    }
}

impl fmt::Display for Server {
    /// The path of its mount or its socket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Access::Mount(mount) => write!(f, "{}", mount.root().display()),
            Access::Socket(client) => write!(f, "{}", client.path().display()),
            Access::Local(_) => f.write_str("this process"),
        }
    }
}

/// Reads a server several times.
pub(crate) enum Session<'s> {
    Mount(&'s Mount),
    Socket(&'s Client, AttributeReader),
    Local(&'s Attributes),
}

impl Session<'_> {
    pub(crate) fn read(&self, path: &str) -> Result<String, Error> {
        match self {
            Session::Mount(mount) => mount.read(path),
            Session::Socket(client, reader) => match at(client, reader, path)? {
                AttributeText::Text(text) => Ok(text),
                AttributeText::Folder(_) => Err(Error::Folder { path: path.to_string() }),
            },
            Session::Local(attributes) => {
                attributes.read(path).map_err(|error| match error {
                    // A part of the path.
                    AttributeError::NotFolder => Error::Missing { path: path.to_string() },
                    error => local_error(path, &error),
                })
            }
        }
    }

    pub(crate) fn list(&self, path: &str) -> Result<Vec<Entry>, Error> {
        match self {
            Session::Mount(mount) => mount.list(path),
            Session::Socket(client, reader) => match at(client, reader, path)? {
                AttributeText::Folder(list) => Ok(list.lines().map(entry).collect()),
                AttributeText::Text(_) => Err(Error::NotFolder { path: path.to_string() }),
            },
            Session::Local(attributes) => {
                let entries = attributes.list(path).map_err(|error| local_error(path, &error))?;
                let entry = |(name, entry)| {
                    let kind = match entry {
                        attributes::Entry::Folder => EntryKind::Folder,
                        attributes::Entry::Link { target } => EntryKind::Link { target },
                        attributes::Entry::Attribute { .. } => EntryKind::Attribute,
                    };
                    Entry { name, kind }
                };
                Ok(entries.into_iter().map(entry).collect())
            }
        }
    }
}

/// What is at `path`. Slashes at either end are ignored, as in the path of a file.
fn at(client: &Client, reader: &AttributeReader, path: &str) -> Result<AttributeText, Error> {
    let inside = path.trim_matches('/');
    let text = match reader.read(inside) {
        // The server has closed the silent connection to make room for another client.
        Err(error) if is(&error, Errno::USERS) => client.attribute(inside),
        text => text,
    };
    text.map_err(|error| {
        let path = path.to_string();
        match error {
            error if is(&error, Errno::NOENT) || is(&error, Errno::NOTDIR) => {
                Error::Missing { path }
            }
            cma_client::Error::Refused { reason, .. } => Error::NotRead { path, reason },
            error => Error::Socket(error),
        }
    })
}

fn is(error: &cma_client::Error, expected: Errno) -> bool {
    matches!(error, cma_client::Error::Refused { errno, .. } if *errno == expected.raw_os_error())
}

/// An entry in the list that a server sends.
fn entry(line: &str) -> Entry {
    let (name, kind) = if let Some(name) = line.strip_suffix('/') {
        (name, EntryKind::Folder)
    } else if let Some((name, target)) = line.split_once(" -> ") {
        (name, EntryKind::Link { target: target.to_string() })
    } else {
        (line, EntryKind::Attribute)
    };
    Entry { name: name.to_string(), kind }
}

fn local_error(path: &str, error: &AttributeError) -> Error {
    let path = path.to_string();
    match error {
        AttributeError::Missing { .. } => Error::Missing { path },
        AttributeError::Folder => Error::Folder { path },
        AttributeError::NotFolder => Error::NotFolder { path },
        error => Error::NotRead { path, reason: format!("{:?}: {error}", error.errno()) },
    }
}
