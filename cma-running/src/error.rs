//! Why a running server was not read or written.

use std::io;
use std::path::PathBuf;

/// Why a running server was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server is named, and none has its attributes mounted.
    #[error("no server has its attributes mounted")]
    NoServer,
    /// No server is named, and several have their attributes mounted.
    #[error("{} servers have their attributes mounted", .0.len())]
    Servers(Vec<PathBuf>),
    /// The folder is no mount of a server, or is none any more.
    #[error("{}: no server has its attributes mounted there", .0.display())]
    NotServed(PathBuf),
    /// The server of the mount has ended without unmounting it.
    #[error("{}: the server of this mount has ended without unmounting it", .0.display())]
    ServerGone(PathBuf),
    /// The mount table can't be read.
    #[error("the table of mounts can't be read: {0}")]
    Mounts(io::Error),
    /// The server's socket can't be used, or the server sends something else than a text.
    #[error(transparent)]
    Socket(cma_client::Error),
    /// There is nothing at the path.
    #[error("{}: there is no such attribute", plain(path))]
    Missing {
        /// The path.
        path: String,
    },
    /// The path is a folder, which has no text.
    #[error("\"{}\" is a folder", plain(path))]
    Folder {
        /// The path.
        path: String,
    },
    /// The path is an attribute, which has no entries.
    #[error("{}: an attribute is not a folder", plain(path))]
    NotFolder {
        /// The path.
        path: String,
    },
    /// The attribute can't be read.
    #[error("{}: {reason}", plain(path))]
    NotRead {
        /// The path.
        path: String,
        /// The name of the errno, if it is one of the specification's, and the reason.
        reason: String,
    },
    /// The server refused the text that was written. The attribute has not changed.
    #[error("{}: {reason}", plain(path))]
    NotWritten {
        /// The path.
        path: String,
        /// The name of the errno, if it is one of the specification's, and the server's reason.
        reason: String,
    },
    /// Attributes are written through a mount, not through a socket.
    #[error("{}: attributes can't be written over a socket", plain(path))]
    ReadOnlySocket {
        /// The path.
        path: String,
    },
    /// The text of an attribute is not as this version of the crate expects.
    #[error("{}: line {line} is not understood: {text:?}", plain(path))]
    Malformed {
        /// The path.
        path: String,
        /// The number of the line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
}

impl Error {
    /// Whether the server can't be reached now, so that the same call may succeed when it, or
    /// another one, runs again in its place.
    pub fn is_gone(&self) -> bool {
        match self {
            Error::NoServer | Error::NotServed(_) | Error::ServerGone(_) => true,
            Error::Socket(error) => {
                matches!(error, cma_client::Error::NoServer { .. } | cma_client::Error::Exchange(_))
            }
            _ => false,
        }
    }
}

/// `path` without control characters, which could be commands to a terminal.
fn plain(path: &str) -> String {
    path.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
