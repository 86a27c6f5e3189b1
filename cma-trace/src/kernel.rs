//! Traces from recordings of the Linux kernel's contiguous memory allocator.
//!
//! The kernel logs each request and each release as an event of the group `cma`. [`import`] reads
//! the text of its file `trace` (or `trace_pipe`), of `trace-cmd report` and of `perf script`:
//!
//! ```
//! use cma_trace::kernel::{ImportOptions, import};
//!
//! let text = "\
//!   camera-66 [000] ..... 2.510228: cma_alloc_start: name=reserved count=760 align=8
//!   camera-66 [000] ..... 2.533003: cma_alloc_finish: name=reserved pfn=0x43d00 page=2bbee40a \
//!     count=760 align=8 errorno=0
//!   camera-66 [000] ..... 2.552076: cma_release: name=reserved pfn=0x43d00 count=760
//! ";
//! let imported = import(text.as_bytes(), &ImportOptions::new("a camera"))?;
//! let mut written = Vec::new();
//! imported.trace.write(&mut written)?;
//! let written = String::from_utf8(written)?;
//! assert!(written.ends_with("\n0 a 1 3112960 1048576 camera-66 from=reserved\n41848 f 1\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What becomes of the events
//!
//! - The thread is the device, `NAME-PID`; the area is the region that the request names (`from=`).
//!   Characters that a map can't have become `_`: the area `linux,cma` is the region `linux_cma`.
//! - A request has the time and the place in the order at which the kernel searched: where it
//!   began, or after its last busy try. Then it follows the release of every page that it got.
//! - A request that was refused is a refused request of the trace.
//! - A release whose pages were never allocated shows that a chunk lived before the recording: it
//!   is an allocation of the device `unknown` at the first time, at its address (`at=`).
//! - A release of a part of a chunk frees it with its last part, and one of several chunks frees
//!   all of them.
//! - The kernel clears the bits of a chunk before it logs the release, so on several processors
//!   an allocation of the same pages may be logged first. The chunk is then freed just before.
//! - With the list of free pages that the kernel logs ([`KernelLog`]), all other pages of the area
//!   of which no event tells are chunks of `unknown` that live throughout.
//!
//! Places and sizes are the kernel's numbers of pages (`pfn`, `count`); its `page=` is not used,
//! which it hashes. What makes the trace less than the whole truth is in [`Warnings`].
//!
//! Memory is bounded, whatever the input is: a line has up to 64 KiB, a recording the operations of
//! a trace, which take less than 1 GiB.

mod error;
mod event;
mod free_list;
mod pages;
mod reconstruct;
mod warnings;

pub use error::ImportError;
pub use event::{Event, What};
pub use free_list::{FreeList, KernelLog};
pub use reconstruct::{Imported, Region};
pub use warnings::{Warning, Warnings};

use crate::format::excerpt;
use crate::read::ReadError;
use crate::read::input::with_lines;
use crate::read::lines::Fields;
use cma_api::PAGE_SIZE;
use event::LONGEST_LINE;
use reconstruct::Reconstruction;
use std::io::Read;

/// How a recording is imported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportOptions<'a> {
    /// The description of the recording in the trace.
    pub source: &'a str,
    /// The size of the kernel's pages in bytes: a power of two, at least 4096.
    pub page_size: u64,
    /// The kernel's log, for the pages that are taken throughout.
    pub log: Option<&'a KernelLog>,
    /// The address at which the area starts, where the log doesn't say it.
    pub start: Option<u64>,
}

impl<'a> ImportOptions<'a> {
    /// For a kernel with pages of 4096 bytes, without a log.
    pub fn new(source: &'a str) -> Self {
        ImportOptions { source, page_size: PAGE_SIZE, log: None, start: None }
    }
}

/// A line of a recording that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// An event.
    Event(Event<'a>),
    /// Events were lost before this line.
    Lost {
        /// The line, counted from 1.
        line: u64,
        /// Their number.
        events: u64,
    },
}

/// Reads the events of a recording, from text or from text compressed by gzip, and gives them to
/// `take`, in their order.
///
/// # Errors
///
/// [`ImportError`] of the first line that can't be read, or of `take`.
pub fn events(
    input: impl Read,
    mut take: impl FnMut(Line<'_>) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    with_lines(input, LONGEST_LINE, |lines| {
        let (mut count, mut found) = (0, false);
        loop {
            let fields = match lines.next() {
                Ok(Some(fields)) => fields,
                Ok(None) => break,
                // The first line of a binary file is a long one.
                Err(error) if count == 0 => {
                    return Err(binary(lines.start()).unwrap_or(error.into()));
                }
                Err(error) => return Err(error.into()),
            };
            count = fields.line;
            if count == 1
                && let Some(error) = binary(fields.text)
            {
                return Err(error);
            }
            if let Some(line) = line(&fields)? {
                found |= matches!(line, Line::Event(_));
                take(line)?;
            }
        }
        if found { Ok(()) } else { Err(ImportError::NoEvents { lines: count }) }
    })
}

fn binary(start: &[u8]) -> Option<ImportError> {
    let (recorder, command) = if start.starts_with(b"\x17\x08\x44tracing") {
        ("trace-cmd", "trace-cmd report -i FILE")
    } else if start.starts_with(b"PERFILE2") {
        ("perf", "perf script -i FILE")
    } else {
        return None;
    };
    Some(ImportError::Binary { recorder, command })
}

fn line<'a>(fields: &Fields<'a>) -> Result<Option<Line<'a>>, ImportError> {
    if let Some(events) = lost(fields.text) {
        return Ok(Some(Line::Lost { line: fields.line, events }));
    }
    match event::parse(fields.text, fields.line) {
        Ok(event) => Ok(event.map(Line::Event)),
        Err(event::Fault { column, expected }) => {
            let rest = &fields.text[column..];
            let found = rest.split(|byte| *byte == b' ').find(|word| !word.is_empty());
            let found = excerpt(found.unwrap_or_default());
            Err(ReadError::Field { line: fields.line, column: column + 1, expected, found }.into())
        }
    }
}

/// The number of events that were lost before the line, if it says so: `CPU:1 [LOST 5 EVENTS]`
/// (kernel, trace-cmd), `CPU:1 [5 EVENTS DROPPED]` (trace-cmd), `PERF_RECORD_LOST lost 5` (perf),
/// or the kernel's header with the events that are left and those that were written.
fn lost(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let is_cpu = text.starts_with(b"CPU:") && text.ends_with(b"]");
    let has = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
    let digits = |text: &[u8]| {
        let start = text.iter().position(u8::is_ascii_digit)?;
        let rest = &text[start..];
        event::number(rest.split(|byte| !byte.is_ascii_digit()).next()?, 10)
    };
    if is_cpu && (has(b"[LOST ") || has(b"EVENTS DROPPED]")) {
        let inside = &text[text.iter().position(|byte| *byte == b'[')?..];
        return Some(digits(inside).unwrap_or(1));
    }
    if has(b"PERF_RECORD_LOST lost ") {
        let at = text.windows(5).rposition(|window| window == b"lost ")?;
        return Some(digits(&text[at..]).unwrap_or(1));
    }
    let figures = text.strip_prefix(b"# entries-in-buffer/entries-written: ")?;
    let slash = figures.iter().position(|byte| *byte == b'/')?;
    let (left, written) = (digits(&figures[..slash])?, digits(&figures[slash..])?);
    written.checked_sub(left).filter(|lost| *lost > 0)
}

/// Imports a recording, from text or from text compressed by gzip. With a log, the first list of
/// free pages of each area that is not older than the recording counts: at its time, or at the
/// start of the recording if it has none.
///
/// # Errors
///
/// [`ImportError`]. Nothing is imported then.
pub fn import(input: impl Read, options: &ImportOptions<'_>) -> Result<Imported, ImportError> {
    let mut reconstruction = Reconstruction::new(page_size(options)?);
    // The last first, to be taken from the end; known from the first event on.
    let mut lists: Option<Vec<&FreeList>> = None;
    events(input, |line| match line {
        Line::Lost { line, events } => {
            reconstruction.lose(line, events);
            Ok(())
        }
        Line::Event(event) => {
            if let Some(lists) = &mut lists {
                let is_due =
                    |list: &mut &FreeList| list.time_us.is_none_or(|at| at < event.time_us);
                while let Some(list) = lists.pop_if(is_due) {
                    reconstruction.set_state(list, start(list, options)?)?;
                }
            } else if let Some(log) = options.log {
                let (found, old) = lists_since(event.time_us, log);
                if let (true, Some(last)) = (found.is_empty(), old.last()) {
                    reconstruction.warnings.old_lists(last.line, old.len() as u64);
                }
                lists = Some(found);
            }
            reconstruction.take(&event)
        }
    })?;
    for list in lists.into_iter().flatten().rev() {
        reconstruction.set_state(list, start(list, options)?)?;
    }
    reconstruction.finish(options.source)
}

/// The first list of each area that is not older than a recording which begins at `begin_us`, the
/// latest first; and the older ones.
fn lists_since(begin_us: u64, log: &KernelLog) -> (Vec<&FreeList>, Vec<&FreeList>) {
    let is_old = |list: &&FreeList| list.time_us.is_some_and(|at| at < begin_us);
    let (old, new): (Vec<_>, Vec<_>) = log.lists().iter().partition(is_old);
    let mut found = KernelLog::of_each_area(new.into_iter());
    found.sort_by_key(|list| std::cmp::Reverse(list.time_us));
    (found, old)
}

/// The chunks of the areas at the last lists of free pages of a log, as a trace: each taken range
/// is one chunk of the device `unknown`.
///
/// # Errors
///
/// [`ImportError`].
pub fn state(log: &KernelLog, options: &ImportOptions<'_>) -> Result<Imported, ImportError> {
    let mut reconstruction = Reconstruction::new(page_size(options)?);
    let options = ImportOptions { log: Some(log), ..options.clone() };
    for list in KernelLog::of_each_area(log.lists().iter().rev()) {
        reconstruction.set_state(list, start(list, &options)?)?;
    }
    reconstruction.finish(options.source)
}

fn page_size(options: &ImportOptions<'_>) -> Result<u64, ImportError> {
    let found = options.page_size;
    if found.is_power_of_two() && (PAGE_SIZE..=1 << 20).contains(&found) {
        return Ok(found);
    }
    Err(ImportError::Option { expected: "a page size of 4K, 16K or 64K", found })
}

/// The address at which the area of `list` starts.
fn start(list: &FreeList, options: &ImportOptions<'_>) -> Result<u64, ImportError> {
    let bytes = list.total.saturating_mul(options.page_size);
    let logged = || options.log.and_then(|log| log.start_of(bytes));
    let found = options.start.or_else(logged).ok_or(ImportError::NoStart { bytes })?;
    if found.is_multiple_of(options.page_size) {
        return Ok(found);
    }
    Err(ImportError::Option {
        expected: "a start of the area that is a multiple of its pages",
        found,
    })
}

#[cfg(test)]
mod tests;
