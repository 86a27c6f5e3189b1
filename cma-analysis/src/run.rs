//! A trace on one allocator in one region, operation by operation.

use crate::allocator::Allocator;
use cma_framework::config::Map;
use cma_framework::errors::RegisterError;
use cma_framework::{AllocError, AllocatorChoice, Chunk, Cma, Device, PageRange, Region};
use cma_trace::{Action, REGION, Trace};

/// A trace that is executed on one allocator in one region, a step for each operation.
///
/// The region is one of the framework, which checks each placement against its bounds, the request
/// and every live chunk. An allocator that breaks its contract is taken out of service: all later
/// requests are refused, with that reason. The allocator gets a number for each pair of device and
/// type with its requests.
///
/// A request that may wait is refused at once if there is no room for it: nothing in a run waits.
///
/// ```
/// use cma_analysis::{Allocator, Outcome, Run};
/// use cma_framework::{PageRange, Plugin};
/// use cma_trace::Recording;
///
/// let mut recording = Recording::new("two frames, of which one fits");
/// recording.allocate(0, 8192, 1, "camera/frame")?;
/// recording.allocate(40, 8192, 1, "camera/frame")?;
/// let trace = recording.finish();
///
/// let allocator = Allocator::new(Plugin::built_in::<cma_best_fit::BestFit>());
/// let mut run = Run::new(&trace, &allocator, PageRange::from_pages(1 << 20, 3))?;
/// assert!(matches!(run.step().unwrap().outcome, Outcome::Placed(place) if place.bytes() == 8192));
/// assert!(matches!(run.step().unwrap().outcome, Outcome::Refused(_)));
/// assert!(run.step().is_none());
/// assert_eq!(run.live().count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Run<'t> {
    trace: &'t Trace,
    region: Region,
    /// By the index of the requester.
    devices: Vec<Device>,
    /// The live chunks. A slot is reused as soon as its chunk is freed.
    slots: Vec<Option<Held>>,
    /// The slots of freed chunks, the one freed last on top.
    vacant: Vec<u32>,
    /// The slot of each chunk, by the chunk's number; [`REFUSED`] for one without memory.
    slot_of: Vec<u32>,
    next: usize,
    /// The owner of the region. Declared last, so it is dropped last.
    _cma: Cma,
}

/// In place of the slot of a chunk whose request was refused.
const REFUSED: u32 = u32::MAX;

/// A live chunk.
#[derive(Debug)]
struct Held {
    chunk: Chunk,
    number: u32,
    operation: usize,
}

/// What one operation did.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// The index of the operation in [`Trace::operations`].
    pub operation: usize,
    /// Its outcome.
    pub outcome: Outcome,
}

/// The outcome of an operation.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A request was served, with these pages. One that the recorded system refused
    /// ([`Action::Refused`]) has given them back already.
    Placed(PageRange),
    /// A request was refused, for this reason.
    Refused(AllocError),
    /// A chunk was freed. These were its pages.
    Freed(PageRange),
    /// A chunk was to be freed whose request had been refused.
    NothingToFree,
}

/// A live chunk of a [`Run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveChunk {
    /// Its number, counted from 0 in the order of allocation.
    pub number: u32,
    /// Its pages.
    pub range: PageRange,
    /// Its requester: an index into [`Trace::requesters`].
    pub requester: u16,
    /// The operation that allocated it: an index into [`Trace::operations`].
    pub operation: usize,
    /// The recorded time of that operation in microseconds.
    pub since_us: u64,
}

impl<'t> Run<'t> {
    /// A run of `trace` in the region `range`, which is empty, with a new instance of `allocator`.
    ///
    /// # Errors
    ///
    /// [`RegisterError`] when the region is no region, or the allocator refuses it or its
    /// parameters.
    pub fn new(
        trace: &'t Trace,
        allocator: &Allocator,
        range: PageRange,
    ) -> Result<Run<'t>, RegisterError> {
        let cma = Cma::new();
        let Allocator { plugin, params } = allocator.clone();
        let choice = AllocatorChoice::Given { plugin, params };
        let region = cma.region_register(Some(REGION), range.start(), range.bytes(), choice)?;
        cma.set_map(Map::parse(&format!("*={REGION}")).unwrap_or_else(|e| unreachable!("{e}")));
        let device = |requester: &cma_trace::Requester| {
            cma.device(&requester.device, requester.kind.as_deref())
                .unwrap_or_else(|e| unreachable!("every device of a trace has a name: {e}"))
        };
        let devices = trace.requesters().iter().map(device).collect();
        Ok(Run {
            trace,
            region,
            devices,
            slots: Vec::new(),
            vacant: Vec::new(),
            slot_of: Vec::new(),
            next: 0,
            _cma: cma,
        })
    }

    /// Executes the next operation; `None` at the end of the trace.
    pub fn step(&mut self) -> Option<Step> {
        let operation = self.next;
        let action = self.trace.operations().get(operation)?.action;
        self.next += 1;
        let outcome = match action {
            Action::Allocate { size, alignment, requester, limits } => {
                match self.request(size, alignment, requester, limits) {
                    Ok(chunk) => Outcome::Placed(self.keep(chunk, operation)),
                    Err(error) => {
                        self.slot_of.push(REFUSED);
                        Outcome::Refused(error)
                    }
                }
            }
            Action::Refused { size, alignment, requester, limits } => {
                match self.request(size, alignment, requester, limits) {
                    Ok(chunk) => Outcome::Placed(chunk.range()),
                    Err(error) => Outcome::Refused(error),
                }
            }
            Action::Free { chunk } => match self.slot_of[chunk as usize] {
                REFUSED => Outcome::NothingToFree,
                slot => self.free(slot),
            },
        };
        Some(Step { operation, outcome })
    }

    /// Executes operations up to the first that is refused, and returns that; `None` if all others
    /// were executed.
    pub fn next_refusal(&mut self) -> Option<(usize, AllocError)> {
        loop {
            if let Step { operation, outcome: Outcome::Refused(error) } = self.step()? {
                return Some((operation, error));
            }
        }
    }

    /// The trace.
    pub fn trace(&self) -> &'t Trace {
        self.trace
    }

    /// The region, with its figures.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The index of the operation that the next [`step`](Self::step) executes.
    pub fn next_operation(&self) -> usize {
        self.next
    }

    /// The live chunks, in no order.
    pub fn live(&self) -> impl Iterator<Item = LiveChunk> + use<'_, 't> {
        self.slots.iter().flatten().filter_map(|held| {
            let operation = self.trace.operations()[held.operation];
            let Action::Allocate { requester, .. } = operation.action else { return None };
            Some(LiveChunk {
                number: held.number,
                range: held.chunk.range(),
                requester,
                operation: held.operation,
                since_us: operation.time_us,
            })
        })
    }

    fn request(
        &self,
        size: u64,
        alignment: u64,
        requester: u16,
        limits: u16,
    ) -> Result<Chunk, AllocError> {
        let device = &self.devices[usize::from(requester)];
        if limits == 0 {
            return device.alloc(size, alignment);
        }
        let mut request = self.trace.limits()[usize::from(limits)].request(size, alignment);
        request.wait = None;
        device.allocate(&request)
    }

    /// Keeps the chunk that operation number `operation` allocated.
    fn keep(&mut self, chunk: Chunk, operation: usize) -> PageRange {
        let range = chunk.range();
        #[allow(clippy::cast_possible_truncation, reason = "a trace numbers chunks by u32")]
        let number = self.slot_of.len() as u32;
        let held = Some(Held { chunk, number, operation });
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.slots[slot as usize] = held;
                slot
            }
            None => {
                self.slots.push(held);
                #[allow(clippy::cast_possible_truncation, reason = "not more than chunks")]
                let slot = (self.slots.len() - 1) as u32;
                slot
            }
        };
        self.slot_of.push(slot);
        range
    }

    fn free(&mut self, slot: u32) -> Outcome {
        match self.slots[slot as usize].take() {
            Some(Held { chunk, .. }) => {
                self.vacant.push(slot);
                Outcome::Freed(chunk.range())
            }
            None => unreachable!("a trace frees a chunk once"),
        }
    }
}
