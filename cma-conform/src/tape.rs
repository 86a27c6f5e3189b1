//! The tape: the calls of allocators and the verdict, in memory that a child process shares with
//! its parent. So the calls before a crash are known.

use crate::violation::Call;
use cma_api::{Alignment, Asker, Boundary, PageRange, Pages, Request};
use memmap2::{Advice, MmapMut};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A call on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taped {
    /// A number of the allocator.
    pub(crate) allocator: u64,
    /// Its region.
    pub(crate) region: PageRange,
    /// A number of the thread that made the call.
    pub(crate) thread: u64,
    /// The call.
    pub(crate) call: Call,
    /// Its result.
    pub(crate) answer: Answer,
}

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It did not return.
    Nothing,
    /// It returned no value.
    Done,
    /// It returned no range, or refused the range to adopt.
    Refused,
    /// It returned this range.
    Range(PageRange),
}

/// The most calls that a tape keeps. The oldest are overwritten.
const MOST: u64 = 1 << 17;

/// The words of a call.
const WORDS: usize = 14;
const ENTRY: usize = WORDS * 8;

/// The most bytes of a verdict.
const TEXT: usize = 64 << 10;

/// Where the words and the text of the header are.
const COUNT: usize = 0;
const IN_CALL: usize = 8;
const FAILED: usize = 16;
const LENGTH: usize = 24;
const HEADER: usize = 32;
const ENTRIES: usize = HEADER + TEXT;

/// No allocator has this number.
const NOBODY: u64 = 0;

/// The calls in the order in which they were made, and a verdict.
#[derive(Debug)]
pub(crate) struct Tape(Mutex<MmapMut>);

impl Tape {
    /// An empty tape.
    ///
    /// # Errors
    ///
    /// The memory can't be had.
    pub(crate) fn new() -> io::Result<Tape> {
        let file = File::from(memfd_create("cma-conform", MemfdFlags::CLOEXEC)?);
        let entries = usize::try_from(MOST).map_err(io::Error::other)? * ENTRY;
        file.set_len((ENTRIES + entries) as u64)?;
        // SAFETY: the file is this value's alone. A child process writes to it through this value,
        // and the parent reads it after the child has ended.
        Ok(Tape(Mutex::new(unsafe { MmapMut::map_mut(&file) }?)))
    }

    /// Keeps the tape from the processes that this one starts from now on: the copy of a process
    /// that a plug-in makes with `fork` would write calls of its own. It crashes instead.
    pub(crate) fn keep_from_children(&self) {
        // Should the kernel refuse, the copy is killed with the process at the latest.
        let _ = self.memory().advise(Advice::DontFork);
    }

    /// Makes it empty.
    pub(crate) fn clear(&self) {
        self.memory()[..HEADER].fill(0);
    }

    /// Notes that a call begins. One that is not [kept](is_kept) is only there until it returns.
    pub(crate) fn begin(&self, taped: &Taped) {
        let memory = &mut *self.memory();
        let at = word(memory, COUNT);
        write(memory, at, taped);
        set_word(memory, IN_CALL, 1);
    }

    /// Notes that the call returned.
    pub(crate) fn end(&self, call: Call) {
        let memory = &mut *self.memory();
        set_word(memory, IN_CALL, 0);
        if is_kept(call) {
            let at = word(memory, COUNT);
            set_answer(memory, at, Answer::Done);
            set_word(memory, COUNT, at + 1);
        }
    }

    /// Notes the result of the last call that returned.
    pub(crate) fn answer(&self, answer: Answer) {
        let memory = &mut *self.memory();
        if let Some(last) = word(memory, COUNT).checked_sub(1) {
            set_answer(memory, last, answer);
        }
    }

    /// Notes the verdict, and the steps of the allocator that it is about, as calls of an allocator
    /// of its own.
    pub(crate) fn conclude(&self, text: &str, steps: &[Taped]) {
        for step in steps {
            self.begin(step);
            self.end(step.call);
            self.answer(step.answer);
        }
        let memory = &mut *self.memory();
        let failed = steps.first().map_or(NOBODY, |step| step.allocator);
        set_word(memory, FAILED, failed);
        let text = &text.as_bytes()[..text.floor_char_boundary(TEXT)];
        memory[HEADER..][..text.len()].copy_from_slice(text);
        set_word(memory, LENGTH, text.len() as u64);
    }

    /// The verdict; `None` if there is none.
    pub(crate) fn verdict(&self) -> Option<String> {
        let memory = &*self.memory();
        let length = usize::try_from(word(memory, LENGTH)).unwrap_or(TEXT).min(TEXT);
        let text = String::from_utf8_lossy(&memory[HEADER..][..length]);
        (length > 0).then(|| text.into_owned())
    }

    /// The call that has not returned.
    pub(crate) fn in_progress(&self) -> Option<Taped> {
        let memory = &*self.memory();
        (word(memory, IN_CALL) > 0).then(|| read(memory, word(memory, COUNT)))?
    }

    /// The calls of the allocator that the verdict is about, or of which a call has not returned.
    pub(crate) fn of_the_failed(&self) -> Vec<Taped> {
        let failed = match self.in_progress() {
            Some(call) => call.allocator,
            None => word(&self.memory(), FAILED),
        };
        self.calls().into_iter().filter(|taped| taped.allocator == failed).collect()
    }

    /// The calls of all allocators, with the one that has not returned.
    pub(crate) fn all(&self) -> Vec<Taped> {
        let copy = match self.in_progress() {
            Some(_) => NOBODY,
            None => word(&self.memory(), FAILED),
        };
        self.calls().into_iter().filter(|taped| taped.allocator != copy).collect()
    }

    /// The number of calls that were made.
    pub(crate) fn count(&self) -> u64 {
        word(&self.memory(), COUNT)
    }

    fn calls(&self) -> Vec<Taped> {
        let memory = &*self.memory();
        let count = word(memory, COUNT);
        // The slot of a call in progress is that of the oldest call.
        let first = (count + 1).saturating_sub(MOST);
        let mut calls: Vec<Taped> = (first..count).filter_map(|at| read(memory, at)).collect();
        if word(memory, IN_CALL) > 0 {
            calls.extend(read(memory, count).filter(|taped| is_kept(taped.call)));
        }
        calls
    }

    fn memory(&self) -> MutexGuard<'_, MmapMut> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a call can change an allocator, or is a question about a request.
pub(crate) fn is_kept(call: Call) -> bool {
    !matches!(call, Call::Holes | Call::LargestRequest | Call::Check)
}

fn word(memory: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&memory[at..at + 8]);
    u64::from_ne_bytes(bytes)
}

fn set_word(memory: &mut [u8], at: usize, value: u64) {
    memory[at..at + 8].copy_from_slice(&value.to_ne_bytes());
}

/// Where call number `at` is.
fn place(at: u64) -> usize {
    ENTRIES + usize::try_from(at % MOST).unwrap_or_default() * ENTRY
}

fn set_answer(memory: &mut [u8], at: u64, answer: Answer) {
    let (code, range) = match answer {
        Answer::Nothing => (0, NO_RANGE),
        Answer::Done => (1, NO_RANGE),
        Answer::Refused => (2, NO_RANGE),
        Answer::Range(range) => (3, range),
    };
    let place = place(at);
    for (n, value) in [code, range.first_page(), range.pages().get()].into_iter().enumerate() {
        set_word(memory, place + (WORDS - 3 + n) * 8, value);
    }
}

const NO_RANGE: PageRange = PageRange::from_pages(0, 0);

fn write(memory: &mut [u8], at: u64, taped: &Taped) {
    let of_request = |code, request: &Request| {
        let window = request.window();
        [
            code,
            request.pages().get(),
            request.alignment().bytes(),
            window.first_page(),
            window.pages().get(),
            request.boundary().bytes().unwrap_or(0),
            u64::from(request.asker().0),
        ]
    };
    let of_range =
        |code, range: PageRange| [code, range.first_page(), range.pages().get(), 0, 0, 0, 0];
    let call = match &taped.call {
        Call::New => [0; 7],
        Call::Allocate(request) => of_request(1, request),
        Call::Fit(request) => of_request(2, request),
        Call::Free(range) => of_range(3, *range),
        Call::Adopt(range) => of_range(4, *range),
        Call::Holes => of_range(5, NO_RANGE),
        Call::LargestRequest => of_range(6, NO_RANGE),
        Call::Check => of_range(7, NO_RANGE),
        Call::Drop => of_range(8, NO_RANGE),
    };
    let Taped { allocator, region, thread, .. } = *taped;
    let head = [allocator, region.first_page(), region.pages().get(), thread];
    let place = place(at);
    for (n, value) in head.into_iter().chain(call).enumerate() {
        set_word(memory, place + n * 8, value);
    }
    set_answer(memory, at, Answer::Nothing);
}

/// Call number `at`; `None` if a plug-in has written over it.
fn read(memory: &[u8], at: u64) -> Option<Taped> {
    let place = place(at);
    let words: [u64; WORDS] = std::array::from_fn(|n| word(memory, place + n * 8));
    let range = |at: usize| PageRange::from_pages(words[at], words[at + 1]);
    let request = || {
        let (alignment, asker) = (Alignment::new(words[6])?, u32::try_from(words[10]).ok()?);
        let request = Request::new(Pages::new(words[5]), alignment, Asker(asker))?;
        let boundary = match words[9] {
            0 => Boundary::NONE,
            bytes => Boundary::new(bytes)?,
        };
        request.limited(PageRange::from_pages(words[7], words[8]), boundary)
    };
    let call = match words[4] {
        0 => Call::New,
        1 => Call::Allocate(request()?),
        2 => Call::Fit(request()?),
        3 => Call::Free(range(5)),
        4 => Call::Adopt(range(5)),
        5 => Call::Holes,
        6 => Call::LargestRequest,
        7 => Call::Check,
        _ => Call::Drop,
    };
    let answer = match words[11] {
        0 => Answer::Nothing,
        1 => Answer::Done,
        2 => Answer::Refused,
        _ => Answer::Range(range(12)),
    };
    Some(Taped { allocator: words[0], region: range(1), thread: words[3], call, answer })
}
