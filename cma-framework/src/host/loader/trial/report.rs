//! Memory in which the subject writes how far it has come and what it found, for the supervisor to
//! read when the subject has ended.
//!
//! It is memory and no socket or pipe, so that no descriptor for it is open while the plug-in runs.

use super::message::{LONGEST, Verdict};
use memmap2::MmapMut;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// What the subject writes before it lets the plug-in panic.
const PANICS: &[u8] = b"panics";

/// The supervisor's side.
#[derive(Debug)]
pub(super) struct Report(File);

/// What the subject has written last.
#[derive(Debug)]
pub(super) enum Last {
    /// Nothing that is known.
    Nothing,
    /// It was about to let the plug-in panic.
    Panics,
    /// It came to the end.
    Verdict(Verdict),
}

impl Report {
    /// An empty report.
    pub(super) fn new() -> io::Result<Report> {
        let file = File::from(memfd_create("", MemfdFlags::CLOEXEC)?);
        file.set_len(LONGEST as u64)?;
        Ok(Report(file))
    }

    /// What the subject has written last in a trial that had the time `limit`.
    pub(super) fn read(&self, limit: Duration) -> io::Result<Last> {
        let mut bytes = [0; LONGEST];
        self.0.read_exact_at(&mut bytes, 0)?;
        let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Ok(match &bytes[..length] {
            PANICS => Last::Panics,
            other => Verdict::from_bytes(other, limit).map_or(Last::Nothing, Last::Verdict),
        })
    }
}

impl AsFd for Report {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The subject's side.
pub(super) struct Writer(MmapMut);

impl Writer {
    /// Writes to the report that came as `descriptor`, which is closed.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Writer> {
        // SAFETY: the supervisor made it for this process alone and reads it, by `read`, after this
        // process has ended.
        Ok(Writer(unsafe { MmapMut::map_mut(&File::from(descriptor)) }?))
    }

    /// From here on the plug-in panics, and is to catch it.
    pub(super) fn panics(&mut self) {
        self.write(PANICS);
    }

    /// It has caught its panic.
    pub(super) fn goes_on(&mut self) {
        self.write(&[]);
    }

    /// This is what came of it.
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        self.write(&verdict.to_bytes());
    }

    fn write(&mut self, text: &[u8]) {
        self.0.fill(0);
        self.0[..text.len()].copy_from_slice(text);
    }
}
