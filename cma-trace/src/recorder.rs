//! Recording what happens in a framework, while it happens.

use crate::format::{FROM, MAGIC, SOURCE, VERSION};
use crate::limits::Limits;
use crate::recording::{MAX_OPERATIONS, is_region_list, one_line};
use crate::trace::Figures;
use cma_api::{PAGE_SIZE, PageRange, Pages};
use cma_framework::config::{Bytes, COMMON};
use cma_framework::events::{Asked, Event, EventRegion, Observation, Observer, What};
use cma_framework::{ChunkRequest, Cma, Owner};
use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are collected before they are written. They are also written when no event waits.
const BUFFER: usize = 1 << 16;

/// The most requesters and the most sets of limits of a trace.
const MAX_INDEXED: usize = 1 << 16;

/// The most bytes of a device or a type.
const MAX_PART: usize = 127;

/// The most bytes of a comment.
const MAX_COMMENT: usize = 1024;

/// The device of chunks and requests of which no device is known.
const NO_DEVICE: &str = "host";

/// The device of memory that is [set aside](What::SetAside).
const SET_ASIDE: &str = "set-aside";

/// The recording of a framework to a file: every request of every region that was served or failed,
/// and every free.
///
/// A thread of its own writes, so a slow file delays no request. When it is slower than the events
/// come for long, some are dropped; the recording counts them in a comment, and then continues with
/// the chunks that are live. It takes memory for the live chunks, for at most 2 * 65,536 events,
/// and for the names and limits that a trace can have.
///
/// The file can be read at any time: its last line may be missing then, and its header has no
/// figures before [`finish`](Self::finish). An error of the file, or the end of what a trace can
/// hold, ends the recording and nothing else; it is a `tracing` event and the result of `finish`.
///
/// # Replaying a recording
///
/// A replay (`replay_on`) on the same regions, map and allocators returns the same addresses and
/// refuses the same requests, if
///
/// - no event was dropped, no allocator was changed or failed, and no region was stuck or set
///   memory aside;
/// - no request was refused because others waited;
/// - all chunks that lived before were adopted when the recording began, if an allocator places by
///   more than the live chunks. `best-fit`, `bitmap` and `buddy` place by these alone. `tlsf`
///   remembers the order of frees: there the recording must begin when the region is new, or when
///   the allocator was just attached.
///
/// This holds for any number of threads, as long as each request asks one region: operations are
/// recorded in the order in which the region carried them out. A request that asks several regions
/// is recorded where it was served or refused last. Other threads may have changed the regions
/// before that one in between, and the replay, which asks them then, may be served by them.
///
/// Sizes are as requested, or in whole pieces of the region's memory if a chunk was given out in
/// those. A request is recorded when it is served or refused, so one that waited has no `wait`. A
/// request that names no device has that of its process, or `host`; a character that a trace can't
/// have in a name is an underscore.
#[derive(Debug)]
pub struct Recorder {
    observation: Observation,
    writer: Arc<Writer>,
}

/// A recording that was finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The figures of the trace.
    pub figures: Figures,
    /// The number of events that were dropped.
    pub missed: u64,
}

/// Why a recording ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// The file can't be written. It has what was recorded before.
    #[error("the recording can't be written: {0}")]
    Io(#[from] io::Error),
    /// A trace can't have more of something. The file has what was recorded before.
    #[error("a trace has up to {most} {of}")]
    Full {
        /// Of what.
        of: &'static str,
        /// The most.
        most: usize,
    },
    /// Not all was written in time.
    #[error("the file is too slow: {waiting} events were not written")]
    TooSlow {
        /// The number of events that waited.
        waiting: usize,
    },
}

impl Recorder {
    /// Records what happens in `cma` from now on to `file`, which should be new and empty.
    /// `source` describes in one line what is recorded.
    ///
    /// # Errors
    ///
    /// The header can't be written, or the system has no thread for it.
    pub fn start(cma: &Cma, file: File, source: &str) -> io::Result<Recorder> {
        let mut state = State::new(file, source);
        state.flush()?;
        let writer = Arc::new(Writer(Mutex::new(state)));
        let observation = cma.observe(writer.clone())?;
        Ok(Recorder { observation, writer })
    }

    /// Ends the recording: waits until all is written, `longest` at most, and completes the header
    /// if the file has a place for that.
    ///
    /// # Errors
    ///
    /// [`RecorderError`], also when the recording has ended before.
    pub fn finish(self, longest: Duration) -> Result<Recorded, RecorderError> {
        let begun = Instant::now();
        let caught_up = self.observation.catch_up(longest);
        let waiting = self.observation.delivery().waiting;
        drop(self.observation);
        // The thread may still write what came later, or be in a write that doesn't return.
        loop {
            match self.writer.0.try_lock() {
                _ if !caught_up => break,
                Ok(mut state) => return state.finish(),
                Err(TryLockError::Poisoned(state)) => return state.into_inner().finish(),
                Err(TryLockError::WouldBlock) if begun.elapsed() < longest => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(TryLockError::WouldBlock) => break,
            }
        }
        Err(RecorderError::TooSlow { waiting })
    }
}

/// The observer that writes.
struct Writer(Mutex<State>);

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    fn with(&self, change: impl FnOnce(&mut State) -> Result<(), RecorderError>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ended.is_none()
            && let Err(error) = change(&mut state)
        {
            state.end(error);
        }
    }
}

impl Observer for Writer {
    fn receive(&self, event: &Event) {
        self.with(|state| state.record(event));
    }

    fn settle(&self) {
        self.with(|state| Ok(state.flush()?));
    }
}

#[derive(Debug)]
struct State {
    file: File,
    /// Whole lines that are not written yet.
    buffer: Vec<u8>,
    /// The bytes of whole lines that were written.
    written: u64,
    /// Where the header has its figures.
    figures_at: u64,
    /// Why it has ended.
    ended: Option<RecorderError>,
    begun: Instant,
    last_us: u64,
    next_id: u64,
    /// The live chunks by their first page.
    live: BTreeMap<u64, Live>,
    live_bytes: u64,
    figures: Figures,
    missed: u64,
    requesters: HashSet<String>,
    limits: HashSet<Limits>,
}

#[derive(Debug)]
struct Live {
    range: PageRange,
    id: u64,
    /// The size as it was recorded.
    size: u64,
}

/// A line of the header in which the figures have room.
fn header_line(figures: Option<Figures>) -> String {
    let numbers = figures.map(|figures| {
        let Figures { operations, peak_live_bytes, peak_live_chunks } = figures;
        [operations, peak_live_bytes, peak_live_chunks]
    });
    let [operations, bytes, chunks] = match numbers {
        Some(numbers) => numbers.map(|number| number.to_string()),
        None => ["?", "?", "?"].map(String::from),
    };
    format!(
        "# ops: {operations:>20}  peak-live-bytes: {bytes:>20}  peak-live-chunks: {chunks:>20}\n"
    )
}

impl State {
    fn new(file: File, source: &str) -> Self {
        let head = format!("{MAGIC} {VERSION}\n{SOURCE} {}\n", one_line(source));
        State {
            file,
            written: 0,
            figures_at: head.len() as u64,
            buffer: (head + &header_line(None)).into_bytes(),
            ended: None,
            begun: Instant::now(),
            last_us: 0,
            next_id: 1,
            live: BTreeMap::new(),
            live_bytes: 0,
            figures: Figures::default(),
            missed: 0,
            requesters: HashSet::new(),
            // A trace always has these.
            limits: HashSet::from([Limits::NONE]),
        }
    }

    fn record(&mut self, event: &Event) -> Result<(), RecorderError> {
        let elapsed = event.at.saturating_duration_since(self.begun).as_micros();
        // Threads take the time before they queue the event.
        self.last_us = self.last_us.max(u64::try_from(elapsed).unwrap_or(u64::MAX));
        match (&event.what, &event.region) {
            (What::Began { allocator, live }, Some(region)) => {
                let allocator = allocator.as_deref().unwrap_or("no allocator");
                let live_count = live.len();
                self.comment(format_args!(
                    "region {region}: {}, {allocator}, live chunks: {live_count}",
                    region.range
                ));
                self.begin(region, live)?;
            }
            (What::Placed { range, request, asked }, Some(region)) => {
                self.place(
                    *range,
                    &as_recorded(asked, request, *range),
                    &names(asked, Some(region)),
                )?;
            }
            (What::Restored(owner), Some(region)) => self.place_owned(region, owner)?,
            (What::Released { range }, Some(_)) => self.release(*range)?,
            (What::Refused { last: true, asked, .. } | What::Failed { asked, .. }, region) => {
                self.refuse(asked, region.as_ref())?;
            }
            (What::SetAside { range, .. }, Some(region)) => {
                self.place(*range, &at(*range), &with_region(SET_ASIDE, region))?;
            }
            (What::Attached { allocator }, Some(region)) => {
                self.comment(format_args!("region {region}: {allocator} serves it"));
            }
            (What::OutOfService { allocator, reason }, Some(region)) => {
                self.comment(format_args!(
                    "region {region}: {allocator} is out of service: {reason}"
                ));
            }
            (What::Stuck(stuck), Some(region)) => {
                self.comment(format_args!("region {region}: {stuck}"));
            }
            (What::Missed { count }, _) => {
                self.missed += count;
                self.comment(format_args!("missed: {count} events"));
            }
            _ => {}
        }
        if self.buffer.len() >= BUFFER { Ok(self.flush()?) } else { Ok(()) }
    }

    /// Makes `live` the live chunks of a region: those before the recording, or those after some
    /// events were dropped.
    fn begin(&mut self, region: &EventRegion, live: &[Owner]) -> Result<(), RecorderError> {
        let now: HashSet<PageRange> = live.iter().map(|owner| owner.range).collect();
        let (first, end) = (region.range.first_page(), region.range.end_page());
        let known = self.live.range(first..end).map(|(_, live)| live.range);
        let gone: Vec<_> = known.filter(|range| !now.contains(range)).collect();
        gone.into_iter().try_for_each(|range| self.release(range))?;
        for owner in live {
            if !self.live.contains_key(&owner.range.first_page()) {
                self.place_owned(region, owner)?;
            }
        }
        Ok(())
    }

    /// Records a chunk whose request was made before the recording.
    fn place_owned(&mut self, region: &EventRegion, owner: &Owner) -> Result<(), RecorderError> {
        let process = owner.process.as_ref().map(|process| &*process.name);
        let device = device_name(owner.device.as_ref(), process);
        self.place(owner.range, &at(owner.range), &with_region(&device, region))
    }

    fn place(
        &mut self,
        range: PageRange,
        request: &ChunkRequest,
        requester: &str,
    ) -> Result<(), RecorderError> {
        let id = self.request('a', request, requester)?;
        let size = request.size.0;
        self.live.insert(range.first_page(), Live { range, id, size });
        self.live_bytes += size;
        let figures = &mut self.figures;
        figures.peak_live_bytes = figures.peak_live_bytes.max(self.live_bytes);
        figures.peak_live_chunks = figures.peak_live_chunks.max(self.live.len() as u64);
        Ok(())
    }

    fn release(&mut self, range: PageRange) -> Result<(), RecorderError> {
        let Some(Live { id, size, .. }) = self.live.get(&range.first_page()) else {
            return Ok(());
        };
        let (id, size) = (*id, *size);
        self.count_operation()?;
        self.live.remove(&range.first_page());
        self.live_bytes -= size;
        let _ = writeln!(self.buffer, "{} f {id}", self.last_us);
        Ok(())
    }

    fn refuse(&mut self, asked: &Asked, region: Option<&EventRegion>) -> Result<(), RecorderError> {
        let request = without_wait(&asked.request);
        let names = names(asked, region);
        self.request('r', &request, &names).map(drop)
    }

    /// Writes a request; returns its id.
    fn request(
        &mut self,
        letter: char,
        request: &ChunkRequest,
        requester: &str,
    ) -> Result<u64, RecorderError> {
        let limits = Limits::of(request);
        if !self.limits.contains(&limits) {
            if self.limits.len() == MAX_INDEXED {
                return Err(RecorderError::Full { of: "sets of limits", most: MAX_INDEXED });
            }
            self.limits.insert(limits);
        }
        if !self.requesters.contains(requester) {
            if self.requesters.len() == MAX_INDEXED {
                let of = "combinations of device, type and named regions";
                return Err(RecorderError::Full { of, most: MAX_INDEXED });
            }
            self.requesters.insert(requester.to_string());
        }
        self.count_operation()?;
        let id = self.next_id;
        self.next_id += 1;
        let (size, alignment) = (request.size.0, request.alignment.0.max(1));
        let time = self.last_us;
        let _ =
            writeln!(self.buffer, "{time} {letter} {id} {size} {alignment} {requester}{limits}");
        Ok(id)
    }

    fn count_operation(&mut self) -> Result<(), RecorderError> {
        if self.figures.operations == MAX_OPERATIONS as u64 {
            return Err(RecorderError::Full { of: "operations", most: MAX_OPERATIONS });
        }
        self.figures.operations += 1;
        Ok(())
    }

    fn comment(&mut self, text: fmt::Arguments<'_>) {
        let text: String = one_line(&text.to_string());
        let end = text.floor_char_boundary(MAX_COMMENT);
        let _ = writeln!(self.buffer, "# {}", &text[..end]);
    }

    /// Writes what is collected. If that fails, a line that was written in part is removed from the
    /// file.
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let result = self.file.write_all(&self.buffer);
        match &result {
            Ok(()) => self.written += self.buffer.len() as u64,
            // A pipe has nothing to remove it from, and its reader drops the line.
            Err(_) => drop(self.file.set_len(self.written)),
        }
        self.buffer.clear();
        result
    }

    /// Ends the recording early.
    fn end(&mut self, error: RecorderError) {
        tracing::error!(%error, "recording ended");
        if !matches!(error, RecorderError::Io(_)) {
            self.comment(format_args!("the recording ended early: {error}"));
            let _ = self.complete();
        }
        self.ended = Some(error);
        self.live.clear();
        self.requesters.clear();
        self.limits.clear();
    }

    fn finish(&mut self) -> Result<Recorded, RecorderError> {
        if let Some(error) = self.ended.take() {
            return Err(error);
        }
        match self.missed {
            0 => self.comment(format_args!("the recording is complete")),
            missed => {
                self.comment(format_args!(
                    "the recording is not complete: {missed} events were missed"
                ));
            }
        }
        self.complete()?;
        Ok(Recorded { figures: self.figures, missed: self.missed })
    }

    /// Writes the rest and the figures.
    fn complete(&mut self) -> io::Result<()> {
        self.flush()?;
        // A pipe keeps a header without figures.
        let _ = self.file.write_all_at(header_line(Some(self.figures)).as_bytes(), self.figures_at);
        Ok(())
    }
}

/// The request of a chunk as it was made; if its place is larger than that, as the region got it.
fn as_recorded(asked: &Asked, request: &ChunkRequest, range: PageRange) -> ChunkRequest {
    let made = &asked.request;
    let same = Pages::covering(made.size.0) == range.pages()
        && made.alignment.0.max(PAGE_SIZE) == request.alignment.0;
    without_wait(if same { made } else { request })
}

fn without_wait(request: &ChunkRequest) -> ChunkRequest {
    let mut request = *request;
    request.wait = None;
    request
}

/// The request of a chunk that lies at `range`.
fn at(range: PageRange) -> ChunkRequest {
    ChunkRequest::new(Bytes(range.bytes())).at(range.start())
}

/// The requester as a trace has it, with the regions that it named. A request to a handle of a
/// region named that.
fn names(asked: &Asked, region: Option<&EventRegion>) -> String {
    let process = asked.process.as_ref().map(|process| &*process.name);
    let device = device_name(asked.device.as_ref(), process);
    let list = asked.regions.split(';').next().unwrap_or_default();
    match region {
        _ if asked.device.is_some() => device,
        _ if is_region_list(list) => format!("{device}{FROM}{list}"),
        Some(region) => with_region(&device, region),
        None => device,
    }
}

fn with_region(device: &str, region: &EventRegion) -> String {
    let name = region.name.as_deref().filter(|name| is_region_list(name));
    name.map_or(device.to_string(), |name| format!("{device}{FROM}{name}"))
}

/// A device and its type as a trace has them.
fn device_name(device: Option<&(Arc<str>, Arc<str>)>, process: Option<&str>) -> String {
    let Some((device, kind)) = device else { return part(process.unwrap_or_default()) };
    let mut name = part(device);
    if **kind != *COMMON {
        let _ = write!(name, "/{}", part(kind));
    }
    name
}

/// A name without what a trace can't have in it.
fn part(name: &str) -> String {
    let name = &name[..name.floor_char_boundary(MAX_PART)];
    let is_foreign = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if name.is_empty() { NO_DEVICE.to_string() } else { name.replace(is_foreign, "_") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_the_header_have_the_same_length_always() {
        let most =
            Figures { operations: u64::MAX, peak_live_bytes: u64::MAX, peak_live_chunks: u64::MAX };
        let lengths = [None, Some(Figures::default()), Some(most)].map(|f| header_line(f).len());
        assert_eq!(lengths[0], lengths[1]);
        assert_eq!(lengths[0], lengths[2]);
    }
}
