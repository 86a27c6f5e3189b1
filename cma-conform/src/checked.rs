//! One allocator of one region with its shadow model: every call of the allocator goes through
//! here, and its result is checked.

use crate::model::Model;
use crate::operations::Operation;
use crate::placing::Placing;
use crate::requests::request;
use crate::violation::{Call, Failure, Step, Violation};
use crate::watch::{CallLog, during, take_panic};
use cma_api::abi_stable::std_types::{ROption, RResult};
use cma_api::v1::{AllocatorBox, CallFailure};
use cma_api::{Algorithm, Alignment, PageRange, Pages, Placement, Request};
use std::fmt;
use std::sync::Arc;

/// The algorithm under test, linked or loaded, with the parameters and the rule that its author
/// declares.
#[derive(Clone, Copy)]
pub struct Subject {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The parameters it is initialised with, as in `name(params)`.
    pub params: &'static str,
    /// The rule by which it places chunks.
    pub placing: Placing,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}): {:?}", self.algorithm.name(), self.params, self.placing)
    }
}

impl Subject {
    /// Runs `body` on a new allocator of `region`, and verifies the allocator before and after.
    ///
    /// # Errors
    ///
    /// The first violation, with the steps that led to it.
    pub fn on<T>(
        &self,
        region: PageRange,
        body: impl FnOnce(&mut CheckedAllocator) -> Result<T, Violation>,
    ) -> Result<T, Failure> {
        let mut allocator = CheckedAllocator::begin(self, region)?;
        let outcome = allocator.verify().and_then(|()| body(&mut allocator)).and_then(|answer| {
            allocator.verify()?;
            Ok(answer)
        });
        match outcome {
            Ok(answer) => allocator.finish().map(|()| answer),
            Err(violation) => {
                let failure = allocator.failure(violation);
                // Only the first failure is reported.
                let _ = allocator.finish();
                Err(failure)
            }
        }
    }

    /// Initialises an allocator of `region` with `params`. A refusal is returned as a violation.
    pub(crate) fn start(
        &self,
        log: &Arc<CallLog>,
        region: PageRange,
        params: &str,
    ) -> Result<AllocatorBox, Violation> {
        during(log, Call::New, || self.algorithm.initialise(region, params))
            .map_err(|reason| initialise_failure(reason.into()))
    }

    pub(crate) fn log(&self, region: PageRange) -> Arc<CallLog> {
        CallLog::new(self.algorithm.name(), region)
    }
}

/// An allocator and its shadow model.
pub struct CheckedAllocator {
    subject: Subject,
    allocator: AllocatorBox,
    model: Model,
    largest_when_new: Pages,
    /// The last answer of `fit`, as long as nothing has changed since.
    promise: Option<(Request, Option<PageRange>)>,
    log: Arc<CallLog>,
}

impl fmt::Debug for CheckedAllocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedAllocator")
            .field("subject", &self.subject)
            .field("model", &self.model)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl CheckedAllocator {
    /// Initialises an allocator of `region`.
    ///
    /// # Errors
    ///
    /// The allocator refused the region, or panicked.
    pub fn begin(subject: &Subject, region: PageRange) -> Result<Self, Failure> {
        let log = subject.log(region);
        let mut allocator = subject
            .start(&log, region, subject.params)
            .map_err(|violation| log.failure(violation))?;
        let largest_when_new = during(&log, Call::LargestRequest, || allocator.largest_request());
        Ok(CheckedAllocator {
            subject: *subject,
            allocator,
            model: Model::new(region),
            largest_when_new,
            promise: None,
            log,
        })
    }

    /// Drops the allocator.
    ///
    /// # Errors
    ///
    /// It panicked. (Panics of a *library's* allocator can't be detected here.)
    pub fn finish(self) -> Result<(), Failure> {
        let CheckedAllocator { allocator, log, .. } = self;
        // Discards a panic that was caught earlier.
        take_panic();
        during(&log, Call::Drop, || drop(allocator));
        match take_panic() {
            Some(message) => Err(log.failure(Violation::PanickedInDrop { message })),
            None => Ok(()),
        }
    }

    /// The shadow model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// `violation` with the steps that led to it.
    pub fn failure(&self, violation: Violation) -> Failure {
        self.log.failure(violation)
    }

    /// Requests a chunk and checks its place; `None` when the allocator may refuse the request and
    /// did.
    ///
    /// # Errors
    ///
    /// The place is invalid or not the declared one, or the request had to be served.
    pub fn allocate(&mut self, request: &Request) -> Result<Option<PageRange>, Violation> {
        let answer =
            during(&self.log, Call::Allocate(*request), || self.allocator.allocate(request));
        let place = match &answer {
            RResult::ROk(chunk) => Some(chunk.range),
            RResult::RErr(_) => None,
        };
        let step = Step::Allocate(*request, place);
        match answer {
            RResult::RErr(CallFailure::Panicked) => self.log.push_panicked(step),
            _ => self.log.push(step),
        }
        let promise = self.promise.take();
        let rule = self.rule(request);
        match answer {
            RResult::ROk(chunk) => self.model.allocate(request, chunk)?,
            RResult::RErr(CallFailure::Panicked) => return Err(self.panic()),
            RResult::RErr(CallFailure::Refused) => {
                if let Some(place) = rule {
                    return Err(Violation::NoRoomThoughFree { place });
                }
            }
        }
        match (self.subject.placing, place, rule) {
            (placing @ (Placing::BestFit | Placing::FirstFit), Some(range), Some(expected))
                if expected != range =>
            {
                return Err(Violation::Misplaced { placing, range, expected });
            }
            _ => {}
        }
        match promise {
            Some((asked, fit)) if asked == *request && !keeps(fit, place) => {
                Err(Violation::FitNotKept { fit, place })
            }
            _ => Ok(place),
        }
    }

    /// A place that the declared rule has for the request; if the rule says which, that one.
    fn rule(&self, request: &Request) -> Option<PageRange> {
        match self.subject.placing {
            Placing::Any => None,
            Placing::Exact | Placing::FirstFit => self.model.first_fit(request),
            Placing::BestFit => self.model.best_fit(request),
        }
    }

    /// Asks in which hole the request would be placed, and checks the answer now and, if the same
    /// request comes next, against its result.
    ///
    /// # Errors
    ///
    /// The answer is not a hole with a place for the request, or there is none although the request
    /// had to be served.
    pub fn fit(&mut self, request: &Request) -> Result<Option<PageRange>, Violation> {
        let answer = during(&self.log, Call::Fit(*request), || self.allocator.fit(request));
        let hole = match answer {
            RResult::ROk(hole) => Some(hole),
            RResult::RErr(CallFailure::Refused) => None,
            RResult::RErr(CallFailure::Panicked) => return Err(self.panic()),
        };
        self.log.push(Step::Fit(*request, hole));
        match (hole, self.rule(request)) {
            (Some(fit), _) if self.model.holes().all(|hole| hole != fit) => {
                Err(Violation::FitIsNoHole { fit })
            }
            (Some(fit), _) if request.lowest_place(fit).is_none() => {
                Err(Violation::FitWithoutAPlace { fit })
            }
            (None, Some(place)) => Err(Violation::NoRoomThoughFree { place }),
            _ => {
                self.promise = Some((*request, hole));
                Ok(hole)
            }
        }
    }

    /// Requests `pages` pages with page alignment.
    ///
    /// # Errors
    ///
    /// As [`allocate`](Self::allocate).
    ///
    /// # Panics
    ///
    /// `pages` is 0, or not less than the pages of the address space.
    pub fn allocate_pages(&mut self, pages: u64) -> Result<Option<PageRange>, Violation> {
        self.allocate(&request(pages, Alignment::PAGE))
    }

    /// Frees the live chunk that starts at `first_page`.
    ///
    /// # Errors
    ///
    /// The allocator refuses to free it.
    ///
    /// # Panics
    ///
    /// There is no such chunk: the test is wrong.
    pub fn free(&mut self, first_page: u64) -> Result<(), Violation> {
        let chunk = self.model.free(first_page).expect("a test frees live chunks only");
        self.promise = None;
        self.log.push(Step::Free(chunk.range));
        match during(&self.log, Call::Free(chunk.range), || self.allocator.free(&chunk)) {
            RResult::ROk(()) => Ok(()),
            RResult::RErr(CallFailure::Refused) => {
                Err(Violation::FreeRefused { range: chunk.range })
            }
            RResult::RErr(CallFailure::Panicked) => Err(self.panic()),
        }
    }

    /// Asks the allocator to adopt `range`, and returns whether it did.
    ///
    /// # Errors
    ///
    /// It adopted an invalid range, refused one that it must adopt, or gave no reason.
    pub fn adopt(&mut self, range: PageRange) -> Result<bool, Violation> {
        let answer = during(&self.log, Call::Adopt(range), || self.allocator.adopt(range));
        self.log.push(Step::Adopt(range, answer.is_ok()));
        self.promise = None;
        match answer {
            RResult::ROk(tag) => self.model.adopt(range, tag).map(|()| true),
            RResult::RErr(_) if self.allocator.fault().is_some() => Err(self.panic()),
            RResult::RErr(reason) if reason.trim().is_empty() => Err(Violation::NoReason),
            RResult::RErr(reason)
                if self.subject.placing.is_exact() && self.model.judge(range).is_ok() =>
            {
                Err(Violation::AdoptRefused { range, reason: reason.into() })
            }
            RResult::RErr(_) => Ok(false),
        }
    }

    /// The pages of the largest page-aligned request, as the allocator reports them.
    pub fn largest_request(&mut self) -> Pages {
        during(&self.log, Call::LargestRequest, || self.allocator.largest_request())
    }

    /// The [`largest_request`](Self::largest_request) before the first operation.
    pub fn largest_request_when_new(&self) -> Pages {
        self.largest_when_new
    }

    /// Compares everything that the allocator reports with the model, and runs its own check.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn verify(&mut self) -> Result<(), Violation> {
        let checked = during(&self.log, Call::Check, || self.allocator.check());
        let holes = during(&self.log, Call::Holes, || self.allocator.holes());
        let reported = self.largest_request();
        if self.allocator.fault().is_some() {
            return Err(self.panic());
        }
        if let RResult::RErr(broken) = checked {
            return Err(Violation::Check { broken: broken.into() });
        }
        self.model.compare_holes(&holes)?;
        let hole = self.model.largest_hole();
        if reported > hole || (self.subject.placing.is_exact() && reported != hole) {
            return Err(Violation::LargestRequest { reported, hole });
        }
        Ok(())
    }

    /// Carries out `operation`, and returns the chunk that it placed, adopted or freed, if it did.
    ///
    /// # Errors
    ///
    /// As the corresponding method.
    pub fn apply(&mut self, operation: &Operation) -> Result<Option<PageRange>, Violation> {
        match *operation {
            Operation::Allocate(request) => self.allocate(&request),
            Operation::Adopt(range) => self.adopt(range).map(|adopted| adopted.then_some(range)),
            Operation::Free(n) => match self.model.nth(n) {
                Some(chunk) => self.free(chunk.range.first_page()).map(|()| Some(chunk.range)),
                None => Ok(None),
            },
        }
    }

    /// Frees every live chunk, in the order into which `arrange` brings them from ascending
    /// addresses.
    ///
    /// # Errors
    ///
    /// The allocator refuses to free one.
    pub fn free_all(&mut self, arrange: impl FnOnce(&mut Vec<Placement>)) -> Result<(), Violation> {
        let mut chunks: Vec<Placement> = self.model.live().collect();
        arrange(&mut chunks);
        chunks.iter().try_for_each(|chunk| self.free(chunk.range.first_page()))
    }

    fn panic(&self) -> Violation {
        // For a linked allocator the hook also knows where it panicked.
        let message = match (take_panic(), self.allocator.fault()) {
            (Some(message), _) => message,
            (None, ROption::RSome(message)) => match self.subject.algorithm {
                Algorithm::Rust(_) => message.into(),
                Algorithm::C(_) => return Violation::Failed { message: message.into() },
            },
            (None, ROption::RNone) => "it reports a panic without a message".to_string(),
        };
        Violation::Panicked { message }
    }
}

/// Whether `place` is what `fit` promised.
fn keeps(fit: Option<PageRange>, place: Option<PageRange>) -> bool {
    match (fit, place) {
        (Some(hole), Some(place)) => place.within(hole),
        (fit, place) => fit == place,
    }
}

/// The violation for a failed `initialise`. A panic crosses the ABI boundary as a reason as well.
fn initialise_failure(reason: String) -> Violation {
    match reason.strip_prefix("it panicked: ") {
        Some(message) => Violation::Panicked { message: message.to_string() },
        None => Violation::RegionRefused { reason },
    }
}
