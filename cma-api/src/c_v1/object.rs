//! An allocator in C at work: calls of its functions as those of the binary interface, and what
//! becomes of their results.

use super::{BROKEN, CAllocator, CRequest, OK, REASON, REFUSED, UNWRITTEN};
use crate::v1::{AllocatorAbi, CallFailure, ExtensionFailure};
use crate::{PageRange, Pages, Placement, Request, Tag};
use abi_stable::std_types::{ROption, RResult, RSlice, RString, RVec};
use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::ptr::NonNull;

/// The buffer for a reason.
pub(super) struct Reason([u8; REASON]);

impl Reason {
    pub(super) fn new() -> Self {
        Reason([0; REASON])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr().cast()
    }

    /// The text, with bytes that are not UTF-8 replaced.
    fn text(&self) -> String {
        let text = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// The text; `default` if there is none.
    pub(super) fn or(&self, default: &str) -> String {
        Some(self.text()).filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_string())
    }
}

/// The fault of a function that returned `result`.
pub(super) fn no_result(function: &str, result: c_int) -> String {
    match result {
        OK => format!("`{function}` returned 0 without a result"),
        BROKEN => format!("`{function}` reports that the allocator's data are broken"),
        other => format!("`{function}` returned {other}, which is none of its results"),
    }
}

/// An allocator in C of one region.
pub(super) struct Object {
    pub(super) plugin: &'static CAllocator,
    /// What `initialise` made. Not used any more if there is a fault.
    pub(super) state: NonNull<c_void>,
    pub(super) region: PageRange,
    /// How it broke the contract.
    pub(super) fault: Option<String>,
}

// SAFETY: the header says that the functions of an allocator may be called from any thread, one at
// a time, and every call here needs `&mut self`.
unsafe impl Send for Object {}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl Object {
    /// The allocator, unless it is broken.
    #[inline]
    fn state(&self) -> Option<*mut c_void> {
        self.fault.is_none().then_some(self.state.as_ptr())
    }

    /// The failure of `function`, which returned `result`.
    #[cold]
    fn fail(&mut self, function: &str, result: c_int) -> CallFailure {
        if result == REFUSED {
            return CallFailure::Refused;
        }
        self.fault = Some(no_result(function, result));
        CallFailure::Panicked
    }

    /// The fault as the reason of a call that returns text.
    fn fault_text(&self) -> RString {
        self.fault.as_deref().unwrap_or_default().into()
    }

    /// The holes; `None` if the allocator is broken.
    fn visit_holes(&mut self) -> Option<Vec<PageRange>> {
        let state = self.state()?;
        // Holes don't touch, so at least every second page is in use.
        let most = usize::try_from(self.region.pages().get() / 2 + 1).unwrap_or(usize::MAX);
        let mut visited = Visited { holes: Vec::new(), most, excess: false };
        // SAFETY: the function is that of the header and the state is what `initialise` made;
        // `visit` is called with the context while it lives.
        unsafe { (self.plugin.holes)(state, visit, (&raw mut visited).cast()) };
        if visited.excess {
            self.fault = Some(format!(
                "`holes` visits more than {most} holes, which no region has of its size"
            ));
            return None;
        }
        Some(visited.holes)
    }
}

/// The holes that a plug-in has visited, `most` at most.
struct Visited {
    holes: Vec<PageRange>,
    most: usize,
    excess: bool,
}

/// What a plug-in calls for each hole.
unsafe extern "C" fn visit(context: *mut c_void, hole: PageRange) {
    // SAFETY: the header obliges the plug-in to pass the context that it got, while it got it, and
    // only `visit_holes` calls with this function.
    let visited = unsafe { &mut *context.cast::<Visited>() };
    if visited.holes.len() < visited.most {
        visited.holes.push(hole);
    } else {
        visited.excess = true;
    }
}

impl AllocatorAbi for Object {
    fn allocate(&mut self, request: &Request) -> RResult<Placement, CallFailure> {
        let Some(state) = self.state() else { return RResult::RErr(CallFailure::Panicked) };
        let mut place = Placement { range: UNWRITTEN, tag: Tag(0) };
        // SAFETY: as in `visit_holes`; request and place are of the header's layout.
        let result =
            unsafe { (self.plugin.allocate)(state, &CRequest::from(request), &raw mut place) };
        if result == OK && place.range != UNWRITTEN {
            RResult::ROk(place)
        } else {
            RResult::RErr(self.fail("allocate", result))
        }
    }

    fn fit(&mut self, request: &Request) -> RResult<PageRange, CallFailure> {
        let Some(state) = self.state() else { return RResult::RErr(CallFailure::Panicked) };
        let mut hole = UNWRITTEN;
        // SAFETY: as in `allocate`.
        let result = unsafe { (self.plugin.fit)(state, &CRequest::from(request), &raw mut hole) };
        if result == OK && hole != UNWRITTEN {
            RResult::ROk(hole)
        } else {
            RResult::RErr(self.fail("fit", result))
        }
    }

    fn free(&mut self, chunk: &Placement) -> RResult<(), CallFailure> {
        let Some(state) = self.state() else { return RResult::RErr(CallFailure::Panicked) };
        // SAFETY: as in `allocate`.
        match unsafe { (self.plugin.free)(state, chunk) } {
            OK => RResult::ROk(()),
            other => RResult::RErr(self.fail("free", other)),
        }
    }

    fn adopt(&mut self, range: PageRange) -> RResult<Tag, RString> {
        let Some(state) = self.state() else { return RResult::RErr(self.fault_text()) };
        let Some(adopt) = self.plugin.adopt else {
            return RResult::RErr("the plug-in has no function `adopt`".into());
        };
        let (mut tag, mut reason) = (0, Reason::new());
        // SAFETY: as in `allocate`; the reason has the size of the header.
        match unsafe { adopt(state, range, &raw mut tag, reason.as_mut_ptr()) } {
            OK => RResult::ROk(Tag(tag)),
            REFUSED => RResult::RErr(reason.text().into()),
            other => {
                self.fail("adopt", other);
                RResult::RErr(self.fault_text())
            }
        }
    }

    fn holes(&mut self) -> RVec<PageRange> {
        self.visit_holes().unwrap_or_default().into()
    }

    fn largest_request(&mut self) -> Pages {
        let (state, largest) = (self.state(), self.plugin.largest_request);
        match (state, largest) {
            (None, _) => Pages::ZERO,
            // SAFETY: as in `allocate`.
            (Some(state), Some(largest)) => Pages::new(unsafe { largest(state) }),
            (Some(_), None) => {
                let holes = self.visit_holes().unwrap_or_default();
                holes.iter().map(|hole| hole.pages()).max().unwrap_or(Pages::ZERO)
            }
        }
    }

    fn check(&mut self) -> RResult<(), RString> {
        let Some(state) = self.state() else { return RResult::RErr(self.fault_text()) };
        let Some(check) = self.plugin.check else { return RResult::ROk(()) };
        let mut reason = Reason::new();
        // SAFETY: as in `adopt`.
        match unsafe { check(state, reason.as_mut_ptr()) } {
            OK => RResult::ROk(()),
            BROKEN => RResult::RErr(reason.or("it gives no reason").into()),
            other => {
                // A check can't refuse.
                self.fault =
                    Some(format!("`check` returned {other}, which is none of its results"));
                RResult::RErr(self.fault_text())
            }
        }
    }

    fn extension(&mut self, _: u32, _: RSlice<'_, u64>) -> RResult<RVec<u64>, ExtensionFailure> {
        RResult::RErr(ExtensionFailure::Unsupported)
    }

    fn fault(&self) -> ROption<RString> {
        self.fault.as_deref().map(RString::from).into()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some(state) = self.state() {
            // SAFETY: as in `allocate`; nothing calls the allocator after this.
            unsafe { (self.plugin.cleanup)(state) };
        }
    }
}
