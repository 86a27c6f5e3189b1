//! Shared memory in which the subject writes its progress and its verdict. The supervisor reads it
//! after the subject has ended.
//!
//! It is memory instead of a socket or pipe, so that the subject needs no open descriptor for it
//! while the plug-in runs.

use super::message::{LONGEST, Verdict};
use memmap2::MmapMut;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The mark that the subject writes before it provokes the plug-in's panic.
const PANIC_EXPECTED: &[u8] = b"panics";

/// The supervisor's side of the memory.
#[derive(Debug)]
pub(super) struct Report(File);

/// The last progress that the subject has written.
#[derive(Debug)]
pub(super) enum Progress {
    /// No mark, or an unknown one.
    Unknown,
    /// The provoked panic had started and the plug-in had not caught it yet.
    PanicExpected,
    /// The trial was complete.
    Verdict(Verdict),
}

impl Report {
    /// An empty report.
    pub(super) fn new() -> io::Result<Report> {
        let file = File::from(memfd_create("", MemfdFlags::CLOEXEC)?);
        file.set_len(LONGEST as u64)?;
        Ok(Report(file))
    }

    /// The subject's last progress, in a trial that had the time `limit`.
    pub(super) fn read(&self, limit: Duration) -> io::Result<Progress> {
        let mut bytes = [0; LONGEST];
        self.0.read_exact_at(&mut bytes, 0)?;
        let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Ok(match &bytes[..length] {
            PANIC_EXPECTED => Progress::PanicExpected,
            other => Verdict::from_bytes(other, limit).map_or(Progress::Unknown, Progress::Verdict),
        })
    }
}

impl AsFd for Report {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The subject's side of the memory.
pub(super) struct ReportWriter(MmapMut);

impl ReportWriter {
    /// Maps the report `descriptor` and closes the descriptor.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<ReportWriter> {
        // SAFETY: the supervisor made it for this process alone, and reads it with `read` after
        // this process has ended.
        Ok(ReportWriter(unsafe { MmapMut::map_mut(&File::from(descriptor)) }?))
    }

    /// Marks that the plug-in is about to panic, and has to catch the panic.
    pub(super) fn expect_panic(&mut self) {
        self.write(PANIC_EXPECTED);
    }

    /// Marks that the plug-in has caught its panic.
    pub(super) fn panic_caught(&mut self) {
        self.write(&[]);
    }

    /// Writes the verdict.
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        self.write(&verdict.to_bytes());
    }

    fn write(&mut self, text: &[u8]) {
        self.0.fill(0);
        self.0[..text.len()].copy_from_slice(text);
    }
}
