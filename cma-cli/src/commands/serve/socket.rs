//! The front end for processes that request chunks: a socket, served by threads of its own until it
//! is closed.

use super::End;
use crate::notice::Notice;
use crate::outcome::CommandError;
use crate::service::{Service, SocketSettings};
use cma_device_server::{Address, Discard, Lasting, Server, Settings, Shutdown, SocketFile};
use cma_framework::Cma;
use rustix::fd::OwnedFd;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// A running device server.
pub(super) struct ChunkSocket {
    path: PathBuf,
    settings: Settings,
    file: SocketFile,
    shutdown: Shutdown,
    thread: JoinHandle<io::Result<()>>,
}

impl ChunkSocket {
    /// Starts the device server, on the socket that the service manager has opened, or on the one
    /// of the settings, if there is one.
    pub(super) fn open(
        cma: &Cma,
        service: &Service,
        inherited: Option<OwnedFd>,
        lasting: Option<(Lasting, Discard)>,
    ) -> Result<Option<ChunkSocket>, CommandError> {
        let (limits, rules) = (service.limits.clone(), service.rules.clone());
        let server = match (inherited, &service.socket) {
            (Some(socket), wanted) => {
                let cma = cma.clone();
                let server = match lasting {
                    None => Server::on_socket(socket, cma, limits, rules)?,
                    Some((lasting, discard)) => {
                        Server::on_socket_lasting(socket, cma, limits, rules, lasting, &discard)?
                    }
                };
                if wanted.as_ref().is_some_and(|wanted| wanted.path != server.path()) {
                    let path = server.path().display();
                    let message = format!("the service manager's socket {path} serves");
                    let help = "name it in the configuration too, or remove its socket unit";
                    Notice::warning(&message).with_help(Some(help.to_string())).report();
                }
                server
            }
            (None, Some(SocketSettings { path, mode, group })) => {
                let address = Address::new(path).mode(*mode);
                let address = group.map_or(address.clone(), |group| address.group(group));
                match lasting {
                    None => Server::bind(&address, cma.clone(), limits, rules)?,
                    Some((lasting, discard)) => {
                        let cma = cma.clone();
                        Server::bind_lasting(&address, cma, limits, rules, lasting, &discard)?
                    }
                }
            }
            (None, None) => return Ok(None),
        };
        let path = server.path().to_path_buf();
        let settings = server.settings();
        let file = server.socket_file();
        let shutdown = Shutdown::new().map_err(CommandError::Serve)?;
        let thread = thread::Builder::new()
            .name("device".to_string())
            .spawn({
                let shutdown = shutdown.clone();
                move || server.run(&shutdown)
            })
            .map_err(CommandError::Serve)?;
        let socket = ChunkSocket { path, settings, file, shutdown, thread };
        socket.warn_of_access(service);
        Ok(Some(socket))
    }

    /// Warns of a server that admits nobody or everybody.
    pub(super) fn warn_of_access(&self, service: &Service) {
        if service.has_empty_rules {
            Notice::warning("the rules are empty, so every request is denied").report();
        }
        let mode = fs::metadata(&self.path).map_or(0, |file| file.mode() & 0o777);
        if mode & 0o002 != 0 && service.rules.admit_everyone() {
            let path = self.path.display();
            let message = format!(
                "every user can connect to {path} (mode {mode:o}) and have memory for every device \
                and from every region"
            );
            let help = "--socket-mode 660 admits one group; --rules says who may have what";
            Notice::warning(&message).with_help(Some(help.to_string())).report();
        }
    }

    /// The limits and rules, which can be replaced.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
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

    /// Closes all connections, frees their chunks and removes the socket, unless another server
    /// continues them.
    pub(super) fn close(self, end: End) -> io::Result<()> {
        match end {
            End::ForGood => self.shutdown.begin(),
            End::HandOver => self.shutdown.begin_hand_over(),
        }
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the device server's thread panicked")))
    }
}
