//! From the events of all processes to one trace.

use crate::log::Slot;
use crate::loss::Loss;
use cma_record_log::{Event, NAME_PART};
use cma_trace::{RecordError, Recording, Trace};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::time::Duration;

/// The names of devices, by their keys.
pub(crate) type Names = HashMap<u64, String>;

/// The names that the events have. A part that is missing, because its process was killed, makes
/// the name unknown.
pub(crate) fn names(events: impl Iterator<Item = io::Result<Slot>>) -> io::Result<Names> {
    let mut parts: HashMap<u64, (u8, BTreeMap<u8, [u8; NAME_PART]>)> = HashMap::new();
    for event in events {
        if let Event::Name { key, part, length, text } = event?.event {
            let (_, texts) = parts.entry(key).or_insert_with(|| (length, BTreeMap::new()));
            texts.insert(part, text);
        }
    }
    let whole = parts.into_iter().filter_map(|(key, (length, texts))| {
        let length = usize::from(length);
        let is_whole = texts.len() == length.div_ceil(NAME_PART);
        let bytes: Vec<u8> = texts.into_values().flatten().collect();
        Some((key, device(bytes.get(..length).filter(|_| is_whole)?)))
    });
    Ok(whole.collect())
}

/// The device of a request whose name is unknown.
const UNKNOWN: &str = "unknown";

/// The device that a file or a thread of this name is: without `.so` and what follows, and with
/// `_` for each character that a map can't name.
fn device(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let is_suffix = |at: &usize| matches!(name.as_bytes().get(at + 3), None | Some(b'.'));
    let suffix = name.match_indices(".so").map(|(at, _)| at).find(is_suffix);
    let stem = suffix.and_then(|at| name.get(..at)).unwrap_or(&name);
    let plain = |c: char| {
        let is_special = matches!(c, ';' | ',' | '=' | '/' | '|' | '*' | '?');
        if c.is_whitespace() || c.is_control() || is_special { '_' } else { c }
    };
    let device: String = stem.chars().map(plain).take(MAX_DEVICE).collect();
    if device.is_empty() { UNKNOWN.to_string() } else { device }
}

/// The longest device in characters, which have up to four bytes: a trace takes 255 bytes.
const MAX_DEVICE: usize = 63;

/// A trace that is made of events.
#[derive(Debug)]
pub(crate) struct Merge {
    output: Output,
    processes: BTreeMap<u32, Process>,
    /// Those that have ended: an event of theirs may be in a later slot than that of a process
    /// that took longer to write.
    over: HashSet<u32>,
    /// When processes ended, in order of time; the earliest is the last.
    ended: Vec<(u64, u32)>,
    /// The process id of the program itself.
    program: u32,
    at_least: u64,
    started_ns: u64,
}

/// The buffers of a process.
#[derive(Debug, Default)]
struct Process {
    /// Its process id, and the namespace of that.
    id: Option<(u32, u64)>,
    /// Whether it is the program, whose end is the end of the recording.
    is_program: bool,
    blocks: HashMap<u64, Buffer>,
    /// Mapped ranges by their addresses. No two overlap.
    ranges: BTreeMap<u64, Range>,
    files: HashMap<u64, MemoryFile>,
    /// What calls are replacing, by the slots where they began, plus 1.
    replaced: HashMap<u64, Replaced>,
}

/// A block of the heap or an anonymous mapping.
#[derive(Clone, Copy, Debug)]
struct Buffer {
    /// `None` if the trace could not take it.
    chunk: Option<u32>,
    by: u64,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    end: u64,
    memory: Memory,
}

#[derive(Clone, Copy, Debug)]
enum Memory {
    Anonymous(Buffer),
    /// A part of the memory file with this key.
    File(u64),
}

/// A memory file: a buffer while its creator has a descriptor or a mapping of it.
#[derive(Debug)]
struct MemoryFile {
    chunk: Option<u32>,
    size: u64,
    is_open: bool,
    /// The number of ranges that map it, also of those that a call is replacing.
    ranges: u64,
}

impl Default for MemoryFile {
    fn default() -> Self {
        MemoryFile { chunk: None, size: 0, is_open: true, ranges: 0 }
    }
}

/// What a `realloc` or `mremap` replaces.
#[derive(Debug)]
enum Replaced {
    Block(u64, Buffer),
    Ranges(Vec<(u64, Range)>),
}

/// The trace so far.
#[derive(Debug)]
struct Output {
    recording: Recording,
    names: Names,
    time_us: u64,
    left_out: Option<(u64, RecordError)>,
    full: Option<(u64, RecordError)>,
}

impl Output {
    fn allocate(&mut self, size: u64, alignment: u64, by: u64) -> Buffer {
        let device = self.names.get(&by).map_or(UNKNOWN, String::as_str);
        let chunk = match self.recording.allocate(self.time_us, size, alignment, device) {
            Ok(chunk) => Some(chunk),
            Err(error) => {
                self.refused(error);
                None
            }
        };
        Buffer { chunk, by }
    }

    fn free(&mut self, chunk: Option<u32>) {
        if let Some(Err(error)) = chunk.map(|chunk| self.recording.free(self.time_us, chunk)) {
            self.refused(error);
        }
    }

    fn refused(&mut self, error: RecordError) {
        match error {
            RecordError::TooManyOperations => {
                self.full.get_or_insert((self.time_us, error));
            }
            error => self.left_out.get_or_insert((0, error)).0 += 1,
        }
    }
}

impl Merge {
    /// `program`: the process id of the program. `ended`: when processes ended, by number.
    pub(crate) fn new(
        source: &str,
        at_least: u64,
        program: u32,
        started_ns: u64,
        names: Names,
        ended: &HashMap<u32, u64>,
    ) -> Self {
        let mut ended: Vec<_> = ended.iter().map(|(number, time)| (*time, *number)).collect();
        ended.sort_unstable_by(|a, b| b.cmp(a));
        let output = Output {
            recording: Recording::new(source),
            names,
            time_us: 0,
            left_out: None,
            full: None,
        };
        let (processes, over) = (BTreeMap::new(), HashSet::new());
        Merge { output, processes, over, ended, program, at_least, started_ns }
    }

    /// Adds an event; they come in the order of their slots. Events that contradict earlier ones,
    /// as a program can write into the log, are ignored.
    pub(crate) fn event(&mut self, slot: &Slot) {
        self.end_until(slot.stamp.time_ns);
        self.advance(slot.stamp.time_ns);
        let (number, output) = (slot.stamp.process, &mut self.output);
        if self.over.contains(&number) {
            return;
        }
        let key = slot.slot + 1;
        if let Event::Start { pid, namespace } = slot.event {
            self.start(number, (pid, namespace));
            return;
        }
        let process = self.processes.entry(number).or_default();
        match slot.event {
            Event::End => {
                if !process.is_program
                    && let Some(process) = self.processes.remove(&number)
                {
                    process.end(output);
                    self.over.insert(number);
                }
            }
            Event::Allocate { address, size, alignment, by, replaces } => {
                let before = process.replaced.remove(&replaces);
                if let Some(stale) = process.blocks.remove(&address) {
                    output.free(stale.chunk);
                }
                process.blocks.insert(address, output.allocate(size, alignment, by));
                process.drop_replaced(before, output);
            }
            Event::Free { address } => {
                if let Some(buffer) = process.blocks.remove(&address) {
                    output.free(buffer.chunk);
                }
            }
            Event::Begin { address, length: 0 } => {
                if let Some(buffer) = process.blocks.remove(&address) {
                    process.replaced.insert(key, Replaced::Block(address, buffer));
                }
            }
            Event::Begin { address, length } => {
                let ranges = process.carve(address, length, self.at_least, true, output);
                if !ranges.is_empty() {
                    process.replaced.insert(key, Replaced::Ranges(ranges));
                }
            }
            Event::Settle { begun, kept } => {
                let before = process.replaced.remove(&begun);
                let rest = if kept { process.restore(before) } else { before };
                process.drop_replaced(rest, output);
            }
            Event::Map { address, length, by, replaces, file } => {
                process.unmap(address, length, self.at_least, output);
                let mut file = Some(file).filter(|file| *file != 0);
                let before = process.replaced.remove(&replaces);
                if replaces != 0 {
                    // A range that was not recorded moved.
                    let Some(Replaced::Ranges(ranges)) = &before else { return };
                    file = ranges.iter().find_map(|(_, range)| match range.memory {
                        Memory::File(file) => Some(file),
                        Memory::Anonymous(_) => None,
                    });
                }
                let memory = match file {
                    Some(file) => {
                        process.files.entry(file).or_default().ranges += 1;
                        Memory::File(file)
                    }
                    None => Memory::Anonymous(output.allocate(length, 1, by)),
                };
                process.ranges.insert(address, Range { end: end_of(address, length), memory });
                process.drop_replaced(before, output);
            }
            Event::Unmap { address, length } => {
                process.unmap(address, length, self.at_least, output);
            }
            Event::Resize { file, size, by } => {
                let entry = process.files.entry(file).or_default();
                if entry.size != size {
                    entry.size = size;
                    let is_big = size >= self.at_least.max(1);
                    let new = if is_big { output.allocate(size, 1, by).chunk } else { None };
                    output.free(std::mem::replace(&mut entry.chunk, new));
                }
            }
            Event::Close { file } => {
                if let Some(entry) = process.files.get_mut(&file) {
                    entry.is_open = false;
                    process.release_unused(file, output);
                }
            }
            // Names were read before.
            _ => {}
        }
    }

    /// Returns the trace, and what it does not have.
    pub(crate) fn finish(mut self) -> (Trace, Vec<Loss>) {
        self.end_until(u64::MAX);
        let Output { recording, left_out, full, .. } = self.output;
        let full = full.map(|(time_us, reason)| Loss::TraceFull {
            time: Duration::from_micros(time_us),
            reason,
        });
        let left_out = left_out.map(|(requests, reason)| Loss::LeftOut { requests, reason });
        (recording.finish(), full.into_iter().chain(left_out).collect())
    }

    /// Times never decrease: an event that was written late has the time of the one before it.
    fn advance(&mut self, time_ns: u64) {
        let time_us = time_ns.saturating_sub(self.started_ns) / 1000;
        self.output.time_us = self.output.time_us.max(time_us);
    }

    /// Ends the processes that ended up to `time_ns`.
    fn end_until(&mut self, time_ns: u64) {
        while let Some((time, number)) = self.ended.pop_if(|(time, _)| *time <= time_ns) {
            if self.processes.get(&number).is_some_and(|process| process.is_program) {
                continue;
            }
            self.over.insert(number);
            if let Some(process) = self.processes.remove(&number) {
                self.advance(time);
                process.end(&mut self.output);
            }
        }
    }

    /// A process starts. Another one with its id called `exec`, or has ended.
    fn start(&mut self, number: u32, id: (u32, u64)) {
        let is_earlier =
            |other: &u32, process: &mut Process| *other != number && process.id == Some(id);
        let earlier: Vec<_> = self.processes.extract_if(.., is_earlier).collect();
        let was_program = earlier.iter().any(|(_, process)| process.is_program);
        for (number, process) in earlier {
            process.end(&mut self.output);
            self.over.insert(number);
        }
        let is_first = !self.processes.values().any(|process| process.is_program);
        let process = self.processes.entry(number).or_default();
        process.id = Some(id);
        process.is_program = was_program || is_first && id.0 == self.program;
    }
}

impl Process {
    /// Frees all chunks, in the order in which they were allocated.
    fn end(self, output: &mut Output) {
        let of_range = |range: Range| match range.memory {
            Memory::Anonymous(buffer) => buffer.chunk,
            Memory::File(_) => None,
        };
        let of_replaced = |replaced| match replaced {
            Replaced::Block(_, buffer) => vec![buffer.chunk],
            Replaced::Ranges(ranges) => {
                ranges.into_iter().map(|(_, range)| of_range(range)).collect()
            }
        };
        let blocks = self.blocks.into_values().map(|buffer| buffer.chunk);
        let ranges = self.ranges.into_values().map(of_range);
        let files = self.files.into_values().map(|file| file.chunk);
        let replaced = self.replaced.into_values().flat_map(of_replaced);
        let all = blocks.chain(ranges).chain(files).chain(replaced);
        let mut chunks: Vec<u32> = all.flatten().collect();
        chunks.sort_unstable();
        for chunk in chunks {
            output.free(Some(chunk));
        }
    }

    /// Removes a range from the mappings, and returns what was there. A mapping of which a part
    /// remains is a new buffer if that is big enough, and so is the removed part of it if
    /// `is_kept`; the old one is freed before.
    fn carve(
        &mut self,
        address: u64,
        length: u64,
        at_least: u64,
        is_kept: bool,
        output: &mut Output,
    ) -> Vec<(u64, Range)> {
        let to = end_of(address, length);
        let overlaps: Vec<u64> = {
            let before = self.ranges.range(..address).next_back();
            let before = before.filter(|(_, range)| range.end > address);
            let within = self.ranges.range(address..to.max(address));
            before.into_iter().chain(within).map(|(start, _)| *start).collect()
        };
        let mut removed = Vec::new();
        for start in overlaps {
            let Some(whole) = self.ranges.remove(&start) else { continue };
            let (from, until) = (start.max(address), whole.end.min(to));
            if (from, until) == (start, whole.end) {
                removed.push((start, whole));
                continue;
            }
            let rest = [(start, from), (until, whole.end)].into_iter().filter(|(a, b)| a < b);
            match whole.memory {
                Memory::File(file) => {
                    for (start, end) in rest {
                        self.files.entry(file).or_default().ranges += 1;
                        self.ranges.insert(start, Range { end, ..whole });
                    }
                    removed.push((from, Range { end: until, ..whole }));
                }
                Memory::Anonymous(Buffer { chunk, by }) => {
                    output.free(chunk);
                    for (start, end) in rest.filter(|(a, b)| b - a >= at_least) {
                        let memory = Memory::Anonymous(output.allocate(end - start, 1, by));
                        self.ranges.insert(start, Range { end, memory });
                    }
                    if is_kept {
                        let memory = Memory::Anonymous(output.allocate(until - from, 1, by));
                        removed.push((from, Range { end: until, memory }));
                    }
                }
            }
        }
        removed
    }

    fn unmap(&mut self, address: u64, length: u64, at_least: u64, output: &mut Output) {
        let ranges = self.carve(address, length, at_least, false, output);
        self.drop_replaced(Some(Replaced::Ranges(ranges)), output);
    }

    /// Puts back what a call that failed did not replace. Returns what has no place any more.
    fn restore(&mut self, before: Option<Replaced>) -> Option<Replaced> {
        match before? {
            Replaced::Block(address, buffer) => {
                let occupied = self.blocks.insert(address, buffer)?;
                Some(Replaced::Block(address, occupied))
            }
            Replaced::Ranges(ranges) => {
                self.ranges.extend(ranges);
                None
            }
        }
    }

    /// Frees what was replaced.
    fn drop_replaced(&mut self, replaced: Option<Replaced>, output: &mut Output) {
        match replaced {
            None => {}
            Some(Replaced::Block(_, buffer)) => output.free(buffer.chunk),
            Some(Replaced::Ranges(ranges)) => {
                for (_, range) in ranges {
                    match range.memory {
                        Memory::Anonymous(buffer) => output.free(buffer.chunk),
                        Memory::File(file) => {
                            if let Some(entry) = self.files.get_mut(&file) {
                                entry.ranges = entry.ranges.saturating_sub(1);
                                self.release_unused(file, output);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Frees a memory file that is neither open nor mapped.
    fn release_unused(&mut self, file: u64, output: &mut Output) {
        let is_unused = |entry: &MemoryFile| !entry.is_open && entry.ranges == 0;
        if self.files.get(&file).is_some_and(is_unused)
            && let Some(entry) = self.files.remove(&file)
        {
            output.free(entry.chunk);
        }
    }
}

/// The end of a mapping, which the kernel rounds up to pages.
fn end_of(address: u64, length: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    address.saturating_add(length).checked_next_multiple_of(page).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
