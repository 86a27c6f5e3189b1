//! The front ends of a server: the mounted attributes and the socket for chunks.

use super::End;
use super::shutdown::{ShutdownCause, ShutdownMonitor};
use super::socket::ChunkSocket;
use crate::notice::Notice;
use crate::outcome::CommandError;
use crate::service::Service;
use crate::show::{Out, plain};
use cma_device_server::{Discard, Lasting};
use cma_framework::Cma;
use cma_metrics::{Exporter, Host, Metrics};
use cma_sysfs::Sysfs;
use rustix::fd::OwnedFd;
use std::io::{self, Write};
use std::sync::mpsc::Sender;

/// The open front ends. Dropping closes them, however the server ends.
pub(super) struct FrontEnds {
    sysfs: Option<Sysfs>,
    socket: Option<ChunkSocket>,
    metrics: Option<Exporter>,
    /// Starts the time limit of the shutdown.
    shutdown: Sender<ShutdownCause>,
}

impl FrontEnds {
    /// `restarts` is how often the server took over what the one before held.
    pub(super) fn open(
        cma: &Cma,
        service: &Service,
        inherited: Option<OwnedFd>,
        lasting: Option<(Lasting, Discard)>,
        restarts: u64,
        shutdown: &ShutdownMonitor,
    ) -> Result<FrontEnds, CommandError> {
        let begin = shutdown.begin_sender();
        let mut front_ends =
            FrontEnds { sysfs: None, socket: None, metrics: None, shutdown: begin };
        // Before the first request can come.
        if let Some(endpoint) = &service.metrics {
            let host = Host { version: env!("CARGO_PKG_VERSION").to_string(), restarts };
            let exporter = Metrics::start(cma, host)
                .and_then(|metrics| Exporter::start(endpoint, metrics))
                .map_err(CommandError::Metrics)?;
            if let Some(file) = exporter.socket_file() {
                shutdown.on_forced_exit(move || file.remove());
            }
            front_ends.metrics = Some(exporter);
        }
        front_ends.socket = ChunkSocket::open(cma, service, inherited, lasting)?;
        if let Some(file) = front_ends.socket.as_ref().map(ChunkSocket::file) {
            shutdown.on_forced_exit(move || file.remove());
        }
        if let Some(folder) = service.mount.as_deref() {
            let sysfs = Sysfs::mount(cma.attributes(), folder)?;
            let detacher = sysfs.detacher();
            shutdown.on_forced_exit(move || drop(detacher.detach()));
            front_ends.sysfs = Some(sysfs);
        }
        Ok(front_ends)
    }

    /// Prints their paths.
    pub(super) fn print(&self, out: &mut Out) -> io::Result<()> {
        if let Some(sysfs) = &self.sysfs {
            writeln!(out, "attributes: {}", plain(&sysfs.path().display().to_string()))?;
        }
        if let Some(socket) = &self.socket {
            writeln!(out, "chunks: {}", plain(&socket.path().display().to_string()))?;
        }
        if let Some(exporter) = &self.metrics {
            writeln!(out, "metrics: {}", plain(&exporter.endpoint().to_string()))?;
        }
        Ok(())
    }

    /// The socket for chunks.
    pub(super) fn socket(&self) -> Option<&ChunkSocket> {
        self.socket.as_ref()
    }

    /// Reports, once, each front end that ended although no shutdown was requested.
    pub(super) fn report_lost(&mut self) {
        if let Some(lost) = self.sysfs.take_if(|sysfs| !sysfs.is_mounted()) {
            let help = self.socket.as_ref().map(|socket| {
                format!(
                    "{} still serves chunks; start the server again to mount",
                    socket.path().display()
                )
            });
            let message = format!("the mount at {} is gone", lost.path().display());
            Notice::warning(&message).with_help(help).report();
        }
        if let Some(lost) = self.socket.take_if(|socket| !socket.is_open()) {
            let help = self.sysfs.as_ref().map(|sysfs| {
                format!(
                    "the attributes are still at {}; start the server again for chunks",
                    sysfs.path().display()
                )
            });
            let path = lost.path().display().to_string();
            let reason = lost
                .close(End::HandOver)
                .err()
                .map(|error| format!(": {error}"))
                .unwrap_or_default();
            let message = format!("{path} serves no chunks any more{reason}");
            Notice::warning(&message).with_help(help).report();
        }
    }

    /// Whether one is left that serves memory or the state.
    pub(super) fn are_open(&self) -> bool {
        self.sysfs.is_some() || self.socket.is_some()
    }

    pub(super) fn close(mut self, end: End) -> io::Result<()> {
        self.close_all(end)
    }

    fn close_all(&mut self, end: End) -> io::Result<()> {
        // The receiving thread lives as long as the process.
        let _ = self.shutdown.send(ShutdownCause::Server);
        self.metrics.take();
        let socket = self.socket.take().map_or(Ok(()), |socket| socket.close(end));
        self.sysfs.take().map_or(Ok(()), Sysfs::unmount).and(socket)
    }
}

impl Drop for FrontEnds {
    fn drop(&mut self) {
        // After an error nothing is lost that another server can continue.
        if let Err(error) = self.close_all(End::HandOver) {
            Notice::warning(&format!("closing failed: {error}")).report();
        }
    }
}
