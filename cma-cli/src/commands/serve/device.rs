//! The door for processes that want chunks: a socket, served by threads of its own until it is
//! closed.

use crate::failure::Failure;
use crate::notice::{Notice, Place};
use crate::options::Serve;
use cma_device_server::{Address, Limits, Rules, Server, Shutdown, SocketFile};
use cma_framework::Cma;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// A server at work.
pub(super) struct Device {
    path: PathBuf,
    socket: SocketFile,
    shutdown: Shutdown,
    thread: JoinHandle<io::Result<()>>,
}

impl Device {
    /// Opens the door, if one was asked for.
    pub(super) fn open(cma: &Cma, how: &Serve) -> Result<Option<Device>, Failure> {
        let Some(path) = &how.socket else { return Ok(None) };
        let misread = |option: &str| {
            let place = Place(option.to_string());
            move |error| Failure::Access(place, error)
        };
        let limits = Limits::parse(&how.limits).map_err(misread("--limits"))?;
        let rules = how
            .rules
            .as_deref()
            .map_or(Ok(Rules::default()), Rules::parse)
            .map_err(misread("--rules"))?;
        if how.rules.as_deref().is_some_and(|rules| rules.trim().is_empty()) {
            Notice::warning("--rules is empty, so nobody may ask for anything").report();
        }
        let address = Address::new(path).mode(how.socket_mode);
        let server = Server::bind(&address, cma.clone(), limits, rules)?;
        let socket = server.socket_file();
        let shutdown = Shutdown::new().map_err(Failure::Serve)?;
        let thread = thread::Builder::new()
            .name("device".to_string())
            .spawn({
                let shutdown = shutdown.clone();
                move || server.run(&shutdown)
            })
            .map_err(Failure::Serve)?;
        Ok(Some(Device { path: address.path().to_path_buf(), socket, shutdown, thread }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of its socket, for who has to end the process without closing the door.
    pub(super) fn socket(&self) -> SocketFile {
        self.socket.clone()
    }

    pub(super) fn is_open(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Hangs up on everybody, frees their chunks and takes the socket away.
    pub(super) fn close(self) -> io::Result<()> {
        self.shutdown.begin();
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the device's thread panicked")))
    }
}
