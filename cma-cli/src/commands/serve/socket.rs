//! The front end for processes that request chunks: a socket, served by threads of its own until it
//! is closed.

use crate::notice::{Notice, TextName};
use crate::options::ServeArgs;
use crate::outcome::CommandError;
use cma_device_server::{Address, Limits, Rules, Server, Shutdown, SocketFile};
use cma_framework::Cma;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// A running device server.
pub(super) struct ChunkSocket {
    path: PathBuf,
    file: SocketFile,
    shutdown: Shutdown,
    thread: JoinHandle<io::Result<()>>,
}

impl ChunkSocket {
    /// Starts the device server, if --socket is given.
    pub(super) fn open(cma: &Cma, args: &ServeArgs) -> Result<Option<ChunkSocket>, CommandError> {
        let Some(path) = &args.socket else { return Ok(None) };
        let config_error = |option: &str| {
            let name = TextName(option.to_string());
            move |error| CommandError::Access(name, error)
        };
        let limits = Limits::parse(&args.limits).map_err(config_error("--limits"))?;
        let rules = args
            .rules
            .as_deref()
            .map_or(Ok(Rules::default()), Rules::parse)
            .map_err(config_error("--rules"))?;
        if args.rules.as_deref().is_some_and(|rules| rules.trim().is_empty()) {
            Notice::warning("--rules is empty, so every request is denied").report();
        }
        let address = Address::new(path).mode(args.socket_mode);
        let server = Server::bind(&address, cma.clone(), limits, rules)?;
        let file = server.socket_file();
        let shutdown = Shutdown::new().map_err(CommandError::Serve)?;
        let thread = thread::Builder::new()
            .name("device".to_string())
            .spawn({
                let shutdown = shutdown.clone();
                move || server.run(&shutdown)
            })
            .map_err(CommandError::Serve)?;
        Ok(Some(ChunkSocket { path: address.path().to_path_buf(), file, shutdown, thread }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The socket's file, to be removed when the process exits without [`close`](Self::close).
    pub(super) fn file(&self) -> SocketFile {
        self.file.clone()
    }

    pub(super) fn is_open(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Closes all connections, frees their chunks and removes the socket.
    pub(super) fn close(self) -> io::Result<()> {
        self.shutdown.begin();
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the device server's thread panicked")))
    }
}
