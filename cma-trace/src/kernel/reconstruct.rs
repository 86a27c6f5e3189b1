//! From events to the operations of a trace: which chunk a release frees, what lived before the
//! recording, and in which order the kernel decided.

use super::error::ImportError;
use super::event::{Event, What};
use super::free_list::FreeList;
use super::pages::PageMap;
use super::warnings::Warnings;
use crate::recording::{MAX_OPERATIONS, RecordError, Recording};
use crate::trace::Trace;
use cma_api::PAGE_SIZE;
use cma_framework::config::Bytes;
use cma_framework::{ChunkRequest, DmaAddr};
use std::collections::HashMap;
use std::ops::Range;

/// The most areas. Kernels have up to 64.
const MAX_AREAS: usize = 1 << 10;

/// The most requests that have begun and not ended: more threads than a kernel has by default.
const MAX_PENDING: usize = 1 << 16;

/// The device of chunks that lived before the recording.
const UNKNOWN: &str = "unknown";

/// A place in the recording. Lines are in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    line: u64,
    time_us: u64,
}

/// What is known of a page.
#[derive(Clone, Copy, Debug)]
enum Page {
    /// It belongs to the chunk of this number.
    Live(u32),
    /// It has been free since then.
    Free(Moment),
    /// A list has it as free, and no event tells of it. A release that is logged after the list
    /// may have cleared its bits before.
    Listed,
}

/// A request, with its place among the requesters.
#[derive(Clone, Copy, Debug)]
struct Request {
    requester: u32,
    pages: u64,
    align_order: u32,
    at: Option<u64>,
}

#[derive(Debug)]
struct Chunk {
    request: Request,
    begun: Moment,
    /// Its pages that are not free again.
    left: u64,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Allocate(u32),
    Free(u32),
    /// By its number among the refused requests.
    Refused(u32),
}

/// A request that has begun.
#[derive(Debug)]
struct Pending {
    area: usize,
    pages: u64,
    at: Option<u64>,
    /// The moment of its last search.
    decided: Moment,
}

#[derive(Debug, Default)]
struct Area {
    name: Option<String>,
    pages: PageMap<Page>,
    /// Pages that were allocated again before the event of their release.
    owed: PageMap<()>,
    /// From the first to the last page of its chunks.
    used: Option<Range<u64>>,
    /// All its pages, if a free list tells them: those of which nothing is known are taken.
    all: Option<Range<u64>>,
}

/// An imported recording.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// The trace.
    pub trace: Trace,
    /// The areas.
    pub regions: Vec<Region>,
    /// What makes the trace less than the whole truth.
    pub warnings: Warnings,
}

/// An area of the kernel, as a region.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Region {
    /// Its name; `None` if the kernel did not say it.
    pub name: Option<String>,
    /// Its addresses, if a list of free pages tells them.
    pub range: Option<Range<u64>>,
    /// The addresses of its chunks, from the lowest to the highest.
    pub used: Range<u64>,
}

/// The state of an import.
#[derive(Debug)]
pub(super) struct Reconstruction {
    page_size: u64,
    first: Option<Moment>,
    last: Moment,
    /// The last line that says that events were lost.
    lost: Option<u64>,
    areas: Vec<Area>,
    area_of: HashMap<Option<Box<[u8]>>, usize>,
    requesters: Vec<String>,
    requester_of: HashMap<String, u32>,
    /// By thread.
    pending: HashMap<u32, Pending>,
    chunks: Vec<Chunk>,
    refused: Vec<Request>,
    actions: Vec<(Moment, Action)>,
    pub(super) warnings: Warnings,
}

/// The largest step back in time that is taken for the difference between two processors' clocks.
const MAX_BACK_US: u64 = 10_000;

impl Area {
    fn use_pages(&mut self, pages: &Range<u64>) {
        let used = self.used.get_or_insert(pages.clone());
        *used = used.start.min(pages.start)..used.end.max(pages.end);
    }
}

impl Reconstruction {
    pub(super) fn new(page_size: u64) -> Self {
        Reconstruction {
            page_size,
            first: None,
            last: Moment { line: 0, time_us: 0 },
            lost: None,
            areas: Vec::new(),
            area_of: HashMap::new(),
            requesters: Vec::new(),
            requester_of: HashMap::new(),
            pending: HashMap::new(),
            chunks: Vec::new(),
            refused: Vec::new(),
            actions: Vec::new(),
            warnings: Warnings::default(),
        }
    }

    /// The kernel lost `events` events before `line`.
    pub(super) fn lose(&mut self, line: u64, events: u64) {
        self.lost = Some(line);
        self.warnings.lost(line, events);
    }

    /// Takes the next event of the recording.
    pub(super) fn take(&mut self, event: &Event<'_>) -> Result<(), ImportError> {
        let now = self.advance(event)?;
        let area = self.area(event.area, event.line)?;
        match event.what {
            What::Start { pages, align_order: _, at } => {
                if self
                    .pending
                    .insert(event.pid, Pending { area, pages, at, decided: now })
                    .is_some()
                {
                    self.warnings.unfinished(event.line);
                }
                if self.pending.len() > MAX_PENDING {
                    return Err(ImportError::TooManyPending { line: event.line });
                }
            }
            What::Busy { first: _ } => {
                if let Some(pending) = self.pending.get_mut(&event.pid) {
                    pending.decided = now;
                }
            }
            What::Finish { pages, align_order, first } => {
                let begun = self.pending.remove(&event.pid);
                let begun = begun.filter(|begun| begun.area == area && begun.pages == pages);
                let decided = begun.as_ref().map_or(now, |begun| begun.decided);
                let at = begun.and_then(|begun| begun.at);
                let device = device(event.task, event.pid);
                let requester = self.requester(&device, area, event.line)?;
                let request = Request { requester, pages, align_order, at };
                self.check(&request, event.line)?;
                match first {
                    Some(first) => self.allocate(area, first, request, decided, now)?,
                    None => {
                        let number = next(&self.refused);
                        self.refused.push(request);
                        self.push(decided, now.line, Action::Refused(number))?;
                    }
                }
            }
            What::Release { first, pages } => {
                let range = self.range(first, pages, event.line)?;
                self.release(area, range, now)?;
            }
        }
        Ok(())
    }

    /// The moment of `event`. A clock that runs a little behind that of the processor before it
    /// shows the time of that.
    fn advance(&mut self, event: &Event<'_>) -> Result<Moment, ImportError> {
        let mut now = Moment { line: event.line, time_us: event.time_us };
        let first = *self.first.get_or_insert(now);
        if now.time_us < self.last.time_us && self.last.line > 0 {
            if self.last.time_us - now.time_us > MAX_BACK_US {
                let (time_us, last_us) = (now.time_us, self.last.time_us);
                return Err(ImportError::BackInTime { line: event.line, time_us, last_us });
            }
            self.warnings.back_in_time(event.line);
            now.time_us = self.last.time_us;
        }
        debug_assert!(now >= first);
        self.last = now;
        Ok(now)
    }

    /// The number of an area by the kernel's name, which stands in `line`.
    fn area(&mut self, name: Option<&[u8]>, line: u64) -> Result<usize, ImportError> {
        if let Some(area) = self.area_of.get(&name.map(Box::from)) {
            return Ok(*area);
        }
        if self.area_of.len() == MAX_AREAS {
            return Err(ImportError::TooManyAreas { line });
        }
        let clean = name.map(|name| clean(name, &['@', ':', '(', ')']));
        // Two names that differ in characters that a region can't have are one region.
        let same = self.areas.iter().position(|area| area.name == clean);
        let area = same.unwrap_or_else(|| {
            self.areas.push(Area { name: clean, ..Area::default() });
            self.areas.len() - 1
        });
        self.area_of.insert(name.map(Box::from), area);
        Ok(area)
    }

    /// The number of a requester of `area`.
    fn requester(&mut self, device: &str, area: usize, line: u64) -> Result<u32, ImportError> {
        let text = match &self.areas[area].name {
            Some(region) => format!("{device} from={region}"),
            None => device.to_string(),
        };
        if let Some(requester) = self.requester_of.get(&text) {
            return Ok(*requester);
        }
        if self.requesters.len() > usize::from(u16::MAX) {
            return Err(operation(line, RecordError::TooManyRequesters));
        }
        let requester = next(&self.requesters);
        self.requesters.push(text.clone());
        self.requester_of.insert(text, requester);
        Ok(requester)
    }

    /// The pages from `first` on, if they are in the address space.
    fn range(&self, first: u64, pages: u64, line: u64) -> Result<Range<u64>, ImportError> {
        let end = first.checked_add(pages);
        let end = end.filter(|end| *end <= u64::MAX / self.page_size);
        let end = end.ok_or(ImportError::PastTheTop { line, first, pages })?;
        Ok(first..end)
    }

    /// Whether a trace can have the request.
    fn check(&self, request: &Request, line: u64) -> Result<(), ImportError> {
        self.range(0, request.pages, line)?;
        let requested = self.chunk_request(request);
        requested.check().map_err(|error| operation(line, RecordError::Limits(error)))
    }

    fn chunk_request(&self, request: &Request) -> ChunkRequest {
        let bytes = |pages: u64| Bytes(pages.saturating_mul(self.page_size));
        let requested = ChunkRequest::new(bytes(request.pages));
        // The smallest alignment is a page, which a trace does not ask for.
        let align = match request.align_order {
            0 => Bytes(self.page_size.max(PAGE_SIZE)),
            order => bytes(1 << order),
        };
        match request.at {
            None => requested.aligned(align),
            Some(first) => requested.aligned(Bytes(PAGE_SIZE)).at(DmaAddr::new(bytes(first).0)),
        }
    }

    /// A request was served with the pages from `first` on. It was decided at `decided`, and after
    /// its pages were free.
    fn allocate(
        &mut self,
        area: usize,
        first: u64,
        request: Request,
        decided: Moment,
        now: Moment,
    ) -> Result<(), ImportError> {
        let range = self.range(first, request.pages, now.line)?;
        let number = next(&self.chunks);
        let mut decided = decided;
        for (part, known) in self.areas[area].pages.set(range.clone(), Page::Live(number)) {
            match known {
                None | Some(Page::Listed) => {}
                Some(Page::Free(since)) => decided = decided.max(since),
                Some(Page::Live(before)) => {
                    // Its release is logged after its bits were cleared, or was lost.
                    let begun = self.chunks[before as usize].begun;
                    decided = decided.max(begun);
                    if self.lost.is_none_or(|lost| lost < begun.line) {
                        self.areas[area].owed.set(part.clone(), ());
                    } else {
                        self.warnings.lost_release(now.line);
                    }
                    self.leave(before, part.end - part.start, decided, now)?;
                }
            }
        }
        self.areas[area].use_pages(&range);
        self.chunks.push(Chunk { request, begun: decided, left: request.pages });
        self.push(decided, now.line, Action::Allocate(number))
    }

    /// `pages` pages of a chunk are free again at `moment`.
    fn leave(
        &mut self,
        chunk: u32,
        pages: u64,
        moment: Moment,
        now: Moment,
    ) -> Result<(), ImportError> {
        let left = &mut self.chunks[chunk as usize].left;
        *left -= pages;
        if *left == 0 {
            self.push(moment, now.line, Action::Free(chunk))
        } else {
            self.warnings.partly(now.line);
            Ok(())
        }
    }

    /// The event of a release.
    fn release(&mut self, area: usize, range: Range<u64>, now: Moment) -> Result<(), ImportError> {
        let mut was_free = false;
        for (range, owed) in self.areas[area].owed.clear(range) {
            if owed.is_some() {
                continue;
            }
            for (part, known) in self.areas[area].pages.set(range, Page::Free(now)) {
                match known {
                    Some(Page::Live(chunk)) => {
                        self.leave(chunk, part.end - part.start, now, now)?;
                    }
                    Some(Page::Free(since)) => {
                        self.areas[area].pages.set(part, Page::Free(since));
                        was_free = true;
                    }
                    None | Some(Page::Listed) => {
                        let chunk = self.chunk_before(area, part, now.line)?;
                        self.push(now, now.line, Action::Free(chunk))?;
                    }
                }
            }
        }
        if was_free {
            self.warnings.double_release(now.line);
        }
        Ok(())
    }

    /// A chunk that lived before the recording.
    fn chunk_before(
        &mut self,
        area: usize,
        pages: Range<u64>,
        line: u64,
    ) -> Result<u32, ImportError> {
        let number = next(&self.chunks);
        let requester = self.requester(UNKNOWN, area, line)?;
        self.areas[area].use_pages(&pages);
        let (count, at) = (pages.end - pages.start, Some(pages.start));
        let request = Request { requester, pages: count, align_order: 0, at };
        self.check(&request, line)?;
        let begun = self.begin();
        self.chunks.push(Chunk { request, begun, left: 0 });
        self.push(begun, line, Action::Allocate(number))?;
        Ok(number)
    }

    /// The moment before the first event.
    fn begin(&self) -> Moment {
        Moment { line: 0, time_us: self.first.map_or(0, |first| first.time_us) }
    }

    fn push(&mut self, moment: Moment, line: u64, action: Action) -> Result<(), ImportError> {
        if self.actions.len() == MAX_OPERATIONS {
            return Err(operation(line, RecordError::TooManyOperations));
        }
        self.actions.push((moment, action));
        Ok(())
    }

    /// Adds what `list` says of pages of which nothing is known yet: they have been in this state
    /// since the beginning.
    pub(super) fn set_state(&mut self, list: &FreeList, start: u64) -> Result<(), ImportError> {
        let area = match &list.area {
            Some(name) => self.area(Some(name.as_bytes()), list.line)?,
            None => match self.areas.len() {
                0 => self.area(None, list.line)?,
                1 => 0,
                _ => return Err(ImportError::WhichArea { areas: self.names() }),
            },
        };
        let all = self.range(start / self.page_size, list.total, list.line)?;
        for free in &list.free {
            let free = all.start + free.start..all.start + free.end;
            let area = &mut self.areas[area];
            for (part, known) in area.pages.parts(free) {
                if known.is_none() {
                    area.pages.set(part, Page::Listed);
                }
            }
        }
        self.areas[area].all = Some(all);
        Ok(())
    }

    fn names(&self) -> String {
        let names = self.areas.iter().map(|area| area.name.as_deref().unwrap_or("-"));
        names.collect::<Vec<_>>().join(", ")
    }

    /// What was imported.
    pub(super) fn finish(mut self, source: &str) -> Result<Imported, ImportError> {
        let line = self.last.line;
        for area in 0..self.areas.len() {
            let owed = self.areas[area].owed.clear(0..u64::MAX);
            let owed = owed.iter().filter(|(_, owed)| owed.is_some()).count();
            self.warnings.never_released(line, owed as u64);
            let Some(all) = self.areas[area].all.clone() else { continue };
            for (part, known) in self.areas[area].pages.parts(all) {
                if known.is_none() {
                    self.chunk_before(area, part, line)?;
                }
            }
        }
        self.warnings.cut(line, self.pending.len() as u64);
        let mut actions = std::mem::take(&mut self.actions);
        actions.sort_by_key(|(moment, _)| moment.line);
        let mut recording = Recording::new(source);
        let begin = self.begin().time_us;
        let mut numbers = vec![u32::MAX; self.chunks.len()];
        for (moment, action) in actions {
            let time_us = moment.time_us - begin;
            let done = match action {
                Action::Allocate(chunk) => {
                    let request = self.chunks[chunk as usize].request;
                    let requester = &self.requesters[request.requester as usize];
                    recording
                        .allocate_limited(time_us, &self.chunk_request(&request), requester)
                        .map(|number| numbers[chunk as usize] = number)
                }
                Action::Free(chunk) => recording.free(time_us, numbers[chunk as usize]),
                Action::Refused(number) => {
                    let request = self.refused[number as usize];
                    let requester = &self.requesters[request.requester as usize];
                    recording.refuse(time_us, &self.chunk_request(&request), requester)
                }
            };
            done.map_err(|error| operation(moment.line, error))?;
        }
        let bytes = |pages: Range<u64>| pages.start * self.page_size..pages.end * self.page_size;
        let regions = self.areas.into_iter().map(|area| Region {
            name: area.name,
            range: area.all.map(bytes),
            used: bytes(area.used.unwrap_or(0..0)),
        });
        let regions = regions.collect();
        Ok(Imported { trace: recording.finish(), regions, warnings: self.warnings })
    }
}

/// The number of the next of `items`. There are fewer than operations.
fn next<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

fn operation(line: u64, error: RecordError) -> ImportError {
    ImportError::Operation { line, error }
}

/// The device of a thread: `NAME-PID`.
fn device(task: &[u8], pid: u32) -> String {
    format!("{}-{pid}", clean(task, &[]))
}

/// A name as a map can have it: other characters become `_`.
fn clean(name: &[u8], others: &[char]) -> String {
    let is_bad = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, ';' | ',' | '=' | '/' | '|' | '*' | '?')
            || others.contains(&c)
    };
    let name = String::from_utf8_lossy(&name[..name.len().min(64)]);
    name.chars().map(|c| if is_bad(c) { '_' } else { c }).collect()
}
