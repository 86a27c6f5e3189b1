//! The ways in from outside: the mounted attributes and the socket for chunks.

use super::device::Device;
use super::ending::{Cause, Ending};
use crate::failure::Failure;
use crate::notice::Notice;
use crate::options::Serve;
use crate::show::{Out, plain};
use cma_framework::Cma;
use cma_sysfs::Sysfs;
use std::io::{self, Write};
use std::sync::mpsc::Sender;

/// Those that are open. Dropping it closes them, however the server comes to its end.
pub(super) struct Doors {
    sysfs: Option<Sysfs>,
    device: Option<Device>,
    /// Told when closing begins.
    ends: Sender<Cause>,
}

impl Doors {
    pub(super) fn open(cma: &Cma, how: &Serve, ending: &Ending) -> Result<Doors, Failure> {
        let mut doors = Doors { sysfs: None, device: None, ends: ending.begin() };
        // First what can be wrong without anybody else's doing.
        doors.device = Device::open(cma, how)?;
        if let Some(socket) = doors.device.as_ref().map(Device::socket) {
            ending.remove_in_the_end(move || socket.remove());
        }
        if let Some(folder) = how.mount.as_deref() {
            let sysfs = Sysfs::mount(cma.attributes(), folder)?;
            let detacher = sysfs.detacher();
            ending.remove_in_the_end(move || drop(detacher.detach()));
            doors.sysfs = Some(sysfs);
        }
        Ok(doors)
    }

    /// Says where they are.
    pub(super) fn tell(&self, out: &mut Out) -> io::Result<()> {
        if let Some(sysfs) = &self.sysfs {
            writeln!(out, "attributes: {}", plain(&sysfs.path().display().to_string()))?;
        }
        if let Some(device) = &self.device {
            writeln!(out, "chunks: {}", plain(&device.path().display().to_string()))?;
        }
        Ok(())
    }

    /// Says which one is gone although nobody told the server to end, once.
    pub(super) fn report_gone(&mut self) {
        if let Some(gone) = self.sysfs.take_if(|sysfs| !sysfs.is_mounted()) {
            let still = self.device.as_ref().map(|device| {
                format!(
                    "chunks are still given through {}; start the server again to mount",
                    device.path().display()
                )
            });
            let what = format!("the mount at {} is gone", gone.path().display());
            Notice::warning(&what).with_help(still).report();
        }
        if let Some(gone) = self.device.take_if(|device| !device.is_open()) {
            let still = self.sysfs.as_ref().map(|sysfs| {
                format!(
                    "the attributes are still at {}; start the server again for chunks",
                    sysfs.path().display()
                )
            });
            let path = gone.path().display().to_string();
            let why = gone.close().err().map(|error| format!(": {error}")).unwrap_or_default();
            let what = format!("no chunks are given through {path} any more{why}");
            Notice::warning(&what).with_help(still).report();
        }
    }

    /// Whether there is one through which somebody can come.
    pub(super) fn are_open(&self) -> bool {
        self.sysfs.is_some() || self.device.is_some()
    }

    pub(super) fn close(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        // The thread that listens lives as long as the process.
        let _ = self.ends.send(Cause::Server);
        let device = self.device.take().map_or(Ok(()), Device::close);
        self.sysfs.take().map_or(Ok(()), Sysfs::unmount).and(device)
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            Notice::warning(&format!("closing failed: {error}")).report();
        }
    }
}
