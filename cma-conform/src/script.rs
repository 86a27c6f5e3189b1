//! Calls that can be made again: on new allocators, some of them left out, or with other sizes.

use crate::checked::{CheckedAllocator, Subject};
use crate::tape::{Answer, Taped};
use crate::violation::{Call, Failure, Violation};
use crate::watch::Watch;
use cma_api::{Alignment, PageRange, Pages, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::thread;

/// A call of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its number, which stays the same when other events are left out.
    pub(crate) id: usize,
    pub(crate) allocator: u64,
    pub(crate) thread: u64,
    pub(crate) op: Op,
}

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    New(PageRange),
    Allocate(Request),
    Fit(Request),
    /// Frees the chunk of the event with this number; nothing if that placed none.
    Free(usize),
    Adopt(PageRange),
    Drop,
}

/// Events in which every allocator is new before it is used, and every free has its chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script(Vec<Event>);

/// How a script is carried out.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The kind of the violation that is looked for, which decides what is done at the end.
    pub(crate) kind: String,
    /// Whether the allocators are verified after each event, instead of at the end alone.
    pub(crate) verify_each: bool,
    /// Whether the allocators are verified at the end by another thread.
    pub(crate) end_elsewhere: bool,
}

/// The stack of further threads, as small as that of the guarantees' threads.
const STACK: usize = 256 << 10;

impl Script {
    /// The events, without those that make no sense alone.
    pub(crate) fn new(events: impl IntoIterator<Item = Event>) -> Script {
        let (mut alive, mut placing) = (BTreeSet::new(), BTreeSet::new());
        let makes_sense = |event: &Event| match event.op {
            Op::New(_) => alive.insert(event.allocator),
            Op::Drop => alive.remove(&event.allocator),
            _ if !alive.contains(&event.allocator) => false,
            Op::Allocate(_) | Op::Adopt(_) => placing.insert(event.id),
            Op::Free(id) => placing.remove(&id),
            Op::Fit(_) => true,
        };
        Script(events.into_iter().filter(makes_sense).collect())
    }

    /// The calls on a tape, with events, allocators and threads counted from 0.
    pub(crate) fn from_tape(tape: &[Taped]) -> Script {
        let (mut allocators, mut threads) = (Vec::new(), Vec::new());
        let mut placed: BTreeMap<(u64, u64), usize> = BTreeMap::new();
        let events = tape.iter().enumerate().filter_map(|(id, taped)| {
            let Taped { allocator, thread, region, call, answer } = *taped;
            let mut place = |range: PageRange| placed.insert((allocator, range.first_page()), id);
            let op = match call {
                Call::New => Op::New(region),
                Call::Allocate(request) => {
                    if let Answer::Range(range) = answer {
                        place(range);
                    }
                    Op::Allocate(request)
                }
                Call::Fit(request) => Op::Fit(request),
                Call::Adopt(range) => {
                    if answer == Answer::Done {
                        place(range);
                    }
                    Op::Adopt(range)
                }
                Call::Free(range) => Op::Free(placed.remove(&(allocator, range.first_page()))?),
                Call::Drop => Op::Drop,
                Call::Holes | Call::LargestRequest | Call::Check => return None,
            };
            let allocator = number(&mut allocators, allocator);
            Some(Event { id, allocator, thread: number(&mut threads, thread), op })
        });
        Script::new(events.collect::<Vec<_>>())
    }

    /// The numbers of the events that place a chunk.
    pub(crate) fn lives(&self) -> Vec<usize> {
        let places = |event: &&Event| matches!(event.op, Op::Allocate(_) | Op::Adopt(_));
        self.0.iter().filter(places).map(|event| event.id).collect()
    }

    pub(crate) fn events(&self) -> &[Event] {
        &self.0
    }

    /// Makes the calls, and looks for a violation.
    ///
    /// # Errors
    ///
    /// The first violation.
    pub(crate) fn run(&self, subject: &Subject, plan: &Plan) -> Result<(), Failure> {
        if plan.kind != "FitChangedSomething" {
            return Run::new(subject, plan).play(&self.0).map(drop);
        }
        let unasked: Vec<Event> =
            self.0.iter().copied().filter(|event| !matches!(event.op, Op::Fit(_))).collect();
        let without = Run::new(subject, plan).play(&unasked)?;
        let with = Run::new(subject, plan).play(&self.0)?;
        let differs = without.iter().zip(&with).enumerate().find(|(_, (a, b))| a != b);
        match differs {
            Some((n, (without, with))) => Err(with.failure_of(&Violation::FitChangedSomething {
                operation: n + 1,
                with: (with.chunk, with.largest),
                without: (without.chunk, without.largest),
            })),
            None => Ok(()),
        }
    }
}

/// The place of `it` in `list`, in which it is from now on.
pub(crate) fn number(list: &mut Vec<u64>, it: u64) -> u64 {
    let at = list.iter().position(|known| *known == it).unwrap_or_else(|| {
        list.push(it);
        list.len() - 1
    });
    at as u64
}

/// The result of an event that can change an allocator.
#[derive(Clone, Debug)]
struct Outcome {
    chunk: Option<PageRange>,
    largest: Pages,
    /// Where a violation would be reported.
    so_far: Failure,
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Outcome) -> bool {
        (self.chunk, self.largest) == (other.chunk, other.largest)
    }
}

impl Outcome {
    fn failure_of(&self, violation: &Violation) -> Failure {
        Failure { violation: Box::new(violation.clone()), ..self.so_far.clone() }
    }
}

/// Allocators to which the events of a script happen.
struct Run<'a> {
    subject: &'a Subject,
    plan: &'a Plan,
    allocators: BTreeMap<u64, CheckedAllocator>,
    /// The chunks of the events that placed one.
    placed: BTreeMap<usize, PageRange>,
    /// The chunks that were placed by `allocate`, with their allocator.
    allocated: Vec<(u64, PageRange)>,
    outcomes: Vec<Outcome>,
}

impl<'a> Run<'a> {
    fn new(subject: &'a Subject, plan: &'a Plan) -> Self {
        let (allocators, placed) = Default::default();
        Run { subject, plan, allocators, placed, allocated: Vec::new(), outcomes: Vec::new() }
    }

    /// The events of one thread, and then the others on a new thread.
    fn play(mut self, events: &[Event]) -> Result<Vec<Outcome>, Failure> {
        let here = events.first().map_or(0, |event| event.thread);
        let split = events.iter().position(|event| event.thread != here).unwrap_or(events.len());
        let (now, later) = events.split_at(split);
        now.iter().try_for_each(|event| self.carry_out(event))?;
        if later.is_empty() && !self.plan.end_elsewhere {
            return self.end();
        }
        let watch = Watch::current();
        let later = || {
            watch.make_current();
            if later.is_empty() { self.end() } else { self.play(later) }
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, later);
            let thread = thread.expect("the suite needs a thread");
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn carry_out(&mut self, event: &Event) -> Result<(), Failure> {
        match event.op {
            Op::New(region) => {
                let allocator = CheckedAllocator::begin(self.subject, region)?;
                self.allocators.insert(event.allocator, allocator);
            }
            Op::Drop => {
                if let Some(allocator) = self.allocators.remove(&event.allocator) {
                    allocator.finish()?;
                }
            }
            _ => {}
        }
        let own = self.is_own(event);
        let Some(allocator) = self.allocators.get_mut(&event.allocator) else { return Ok(()) };
        // It can take long, so it is called for what depends on it alone.
        let is_about_it = self.plan.kind.starts_with("LargestRequest");
        let reported = if is_about_it { allocator.largest_request() } else { Pages::ZERO };
        let happened = happen(allocator, event, own, &mut self.placed)
            .and_then(|chunk| served_as_reported(event, reported, chunk, &self.plan.kind));
        let checked = happened.and_then(|chunk| {
            if self.plan.verify_each {
                allocator.verify()?;
            }
            Ok(chunk)
        });
        let chunk = checked.map_err(|violation| allocator.failure(violation))?;
        if let (Op::Allocate(_), Some(chunk)) = (event.op, chunk) {
            self.allocated.push((event.allocator, chunk));
        }
        if self.plan.kind == "FitChangedSomething" && !matches!(event.op, Op::Fit(_) | Op::New(_)) {
            let largest = allocator.largest_request();
            let so_far = allocator.failure(Violation::NoReason);
            self.outcomes.push(Outcome { chunk, largest, so_far });
        }
        Ok(())
    }

    /// Whether `event` adopts a chunk that another allocator of the same region placed, above all
    /// that it has.
    fn is_own(&self, event: &Event) -> bool {
        let (Op::Adopt(range), Some(allocator)) = (event.op, self.allocators.get(&event.allocator))
        else {
            return false;
        };
        let placed_elsewhere = |chunk: PageRange| {
            self.allocated.iter().any(|(by, placed)| *by != event.allocator && *placed == chunk)
        };
        range.within(allocator.model().region())
            && placed_elsewhere(range)
            && allocator.model().live().all(|chunk| {
                chunk.range.end_page() <= range.first_page() && placed_elsewhere(chunk.range)
            })
    }

    /// What a guarantee of the plan's kind checks at the end.
    fn end(mut self) -> Result<Vec<Outcome>, Failure> {
        for allocator in self.allocators.values_mut() {
            let ended = allocator.verify().and_then(|()| ending(allocator, &self.plan.kind));
            ended.map_err(|violation| allocator.failure(violation))?;
        }
        self.allocators.into_values().try_for_each(CheckedAllocator::finish)?;
        Ok(self.outcomes)
    }
}

/// Makes the call of `event`, and returns the chunk that it placed or freed.
fn happen(
    allocator: &mut CheckedAllocator,
    event: &Event,
    own: bool,
    placed: &mut BTreeMap<usize, PageRange>,
) -> Result<Option<PageRange>, Violation> {
    let chunk = match event.op {
        Op::New(_) | Op::Drop => return Ok(None),
        Op::Allocate(request) => allocator.allocate(&request)?,
        Op::Fit(request) => return allocator.fit(&request),
        Op::Free(id) => {
            let chunk = placed.remove(&id);
            if let Some(chunk) = chunk {
                allocator.free(chunk.first_page())?;
            }
            return Ok(chunk);
        }
        Op::Adopt(range) => {
            if !allocator.adopt(range)? && own {
                let reason = "it placed that chunk itself".to_string();
                return Err(Violation::AdoptRefused { range, reason });
            }
            allocator.model().live().map(|chunk| chunk.range).find(|chunk| *chunk == range)
        }
    };
    if let Some(chunk) = chunk {
        placed.insert(event.id, chunk);
    }
    Ok(chunk)
}

/// Looks for a violation of this kind, which no single call shows.
fn ending(allocator: &mut CheckedAllocator, kind: &str) -> Result<(), Violation> {
    let is_empty = allocator.model().users() == 0;
    match kind {
        "NotAsNew" if is_empty => {
            let (new, now) = (allocator.largest_request_when_new(), allocator.largest_request());
            if now == new { Ok(()) } else { Err(Violation::NotAsNew { new, now }) }
        }
        "ServesNothing" if is_empty => {
            let has_none = allocator.largest_request() == Pages::ZERO;
            if has_none || allocator.allocate_pages(1)?.is_none() {
                return Err(Violation::ServesNothing);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Looks for a violation of this kind: a request for `reported` pages, the largest request, is
/// served, and no larger one.
fn served_as_reported(
    event: &Event,
    reported: Pages,
    chunk: Option<PageRange>,
    kind: &str,
) -> Result<Option<PageRange>, Violation> {
    let Op::Allocate(request) = event.op else { return Ok(chunk) };
    let is_plain = request.alignment() == Alignment::PAGE && !request.is_limited();
    match chunk {
        Some(chunk) if kind == "LargestRequestExceeded" && chunk.pages() > reported => {
            Err(Violation::LargestRequestExceeded { reported, served: chunk.pages() })
        }
        None if kind == "LargestRequestNotServed" && is_plain && request.pages() == reported => {
            Err(Violation::LargestRequestNotServed { reported })
        }
        _ => Ok(chunk),
    }
}
