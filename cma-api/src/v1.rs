//! Version 1 of the binary interface between a host and its allocator plug-ins.
//!
//! A plug-in exports one [`AllocatorModule`]. Its `initialise` returns an [`AllocatorBox`], an
//! object of the [`AllocatorAbi`] trait. Plug-in authors see none of this: they implement
//! [`Allocator`] and write [`export_allocator!`](crate::export_allocator). A host that links an
//! algorithm statically gets the same module from [`module_of`], so hosts use linked and loaded
//! algorithms in the same way.
//!
//! This layout is frozen. `ABI.md` states what may still change, and how a later version coexists
//! with this one.

#![allow(non_local_definitions, reason = "abi_stable's own macros write them")]

use crate::units::{PageRange, Pages};
use crate::{Allocator, NoRoom, NotMine, Placement, Request, Tag};
use abi_stable::library::RootModule;
use abi_stable::prefix_type::WithMetadata;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RBox, ROption, RResult, RSlice, RStr, RString, RVec};
use abi_stable::{StableAbi, sabi_trait};
use std::any::Any;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The root module that a plug-in library exports.
#[repr(C)]
#[derive(StableAbi, Debug)]
#[sabi(kind(Prefix(prefix_ref = AllocatorModuleRef, prefix_fields = AllocatorModulePrefix)))]
#[sabi(missing_field(panic))]
pub struct AllocatorModule {
    /// The name by which regions select it.
    pub name: RStr<'static>,
    /// The algorithm's own version.
    pub version: RStr<'static>,
    /// A description in one line.
    pub description: RStr<'static>,
    /// Creates an allocator for an empty region. The error's text is for the user. For a region
    /// without a page it panics, catches the panic and returns its message.
    #[sabi(last_prefix_field)]
    pub initialise:
        extern "C" fn(region: PageRange, params: RStr<'_>) -> RResult<AllocatorBox, RString>,
}

impl RootModule for AllocatorModuleRef {
    abi_stable::declare_root_module_statics! {AllocatorModuleRef}
    const BASE_NAME: &'static str = "cma_allocator";
    const NAME: &'static str = "cma_allocator";
    // Not this crate's version: a host refuses a module with an older minor version than its own.
    const VERSION_STRINGS: VersionStrings = VersionStrings::new("1.0.0");
}

/// An allocator of one region, behind the binary interface.
pub type AllocatorBox = AllocatorAbi_TO<'static, RBox<()>>;

/// The reason why a call of an allocator failed.
#[repr(u8)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// The algorithm refused: no room, not its chunk, or a range that it cannot adopt.
    Refused,

    /// The algorithm panicked, in this call or an earlier one. [`AllocatorAbi::fault`] returns the
    /// message. Every later call fails in the same way.
    Panicked,
}

/// The reason why an [`extension`](AllocatorAbi::extension) failed.
#[repr(u8)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionFailure {
    /// The plug-in doesn't have the operation.
    Unsupported,
    /// The algorithm refused; nothing changed.
    Refused,
    /// The algorithm panicked, as in [`CallFailure::Panicked`].
    Panicked,
}

/// [`Allocator`] at the ABI boundary. No method unwinds. All take `&mut self`, because a panic in
/// any of them ends the allocator.
#[sabi_trait]
pub trait AllocatorAbi: Send {
    /// See [`Allocator::allocate`].
    fn allocate(&mut self, request: &Request) -> RResult<Placement, CallFailure>;
    /// See [`Allocator::fit`].
    fn fit(&mut self, request: &Request) -> RResult<PageRange, CallFailure>;
    /// See [`Allocator::free`].
    fn free(&mut self, chunk: &Placement) -> RResult<(), CallFailure>;
    /// See [`Allocator::adopt`]. The error is the reason, as text for the user; after a panic, the
    /// panic's message.
    fn adopt(&mut self, range: PageRange) -> RResult<Tag, RString>;
    /// See [`Allocator::holes`]. Empty after a panic.
    fn holes(&mut self) -> RVec<PageRange>;
    /// See [`Allocator::largest_request`]. 0 after a panic.
    fn largest_request(&mut self) -> Pages;
    /// See [`Allocator::check`]. After a panic, the panic's message.
    fn check(&mut self) -> RResult<(), RString>;
    /// Executes an operation that a later minor version of this crate adds, with numbers as
    /// arguments and as the answer. `ABI.md` lists the operations; this version has none.
    fn extension(
        &mut self,
        operation: u32,
        arguments: RSlice<'_, u64>,
    ) -> RResult<RVec<u64>, ExtensionFailure>;
    /// The message of the panic that ended this allocator, if one did.
    #[sabi(last_prefix_field)]
    fn fault(&self) -> ROption<RString>;
}

/// The module of algorithm `A`, for a host that links it statically instead of loading a library.
pub fn module_of<A: Allocator>() -> AllocatorModuleRef {
    AllocatorModuleRef(ModuleOf::<A>::MODULE.static_as_prefix())
}

struct ModuleOf<A>(PhantomData<A>);

impl<A: Allocator> ModuleOf<A> {
    const MODULE: &'static WithMetadata<AllocatorModule> = &WithMetadata::new(AllocatorModule {
        name: RStr::from_str(A::INFO.name),
        version: RStr::from_str(A::INFO.version),
        description: RStr::from_str(A::INFO.description),
        initialise: initialise::<A>,
    });
}

extern "C" fn initialise<A: Allocator>(
    region: PageRange,
    params: RStr<'_>,
) -> RResult<AllocatorBox, RString> {
    let new = || {
        // A trial passes such a region, to find out whether the plug-in catches a panic.
        assert!(region.pages() > Pages::ZERO, "the region has no page");
        A::new(region, params.as_str())
    };
    match catch_unwind(new) {
        Ok(Ok(allocator)) => {
            RResult::ROk(AllocatorAbi_TO::from_value(Guarded(State::Sound(allocator)), TD_Opaque))
        }
        Ok(Err(reason)) => RResult::RErr(reason.to_string().into()),
        Err(payload) => RResult::RErr(format!("it panicked: {}", message_of(payload)).into()),
    }
}

/// Keeps a panic on the algorithm's side of the ABI boundary: a panic that leaves an `extern "C"`
/// function ends the process. An algorithm that panicked is forgotten, not dropped, because its
/// state may be broken.
struct Guarded<A>(State<A>);

enum State<A> {
    Sound(A),
    Faulty(String),
}

impl<A: Allocator> Guarded<A> {
    /// Runs `call` on the allocator; `None` when that panics, or did before.
    #[inline]
    fn run<T>(&mut self, call: impl FnOnce(&mut A) -> T) -> Option<T> {
        // After a panic the allocator is never used again, so a broken invariant can't be observed.
        let State::Sound(allocator) = &mut self.0 else { return None };
        match catch_unwind(AssertUnwindSafe(|| call(allocator))) {
            Ok(answer) => Some(answer),
            Err(payload) => {
                self.end(payload);
                None
            }
        }
    }

    /// Forgets the allocator, which panicked, and keeps the panic's message.
    #[cold]
    fn end(&mut self, payload: Box<dyn Any + Send>) {
        mem::forget(mem::replace(&mut self.0, State::Faulty(message_of(payload))));
    }

    /// The error text after a panic.
    #[cold]
    fn panic_text(&self) -> RString {
        match &self.0 {
            State::Faulty(message) => format!("it panicked: {message}").into(),
            State::Sound(_) => RString::new(),
        }
    }
}

impl<A: Allocator> AllocatorAbi for Guarded<A> {
    // Part of the function that the table of the ABI has, as `free` is.
    #[inline(always)]
    fn allocate(&mut self, request: &Request) -> RResult<Placement, CallFailure> {
        match self.run(|a| a.allocate(request)) {
            Some(Ok(placement)) => RResult::ROk(placement),
            Some(Err(NoRoom)) => RResult::RErr(CallFailure::Refused),
            None => RResult::RErr(CallFailure::Panicked),
        }
    }

    fn fit(&mut self, request: &Request) -> RResult<PageRange, CallFailure> {
        match self.run(|a| a.fit(request)) {
            Some(Some(hole)) => RResult::ROk(hole),
            Some(None) => RResult::RErr(CallFailure::Refused),
            None => RResult::RErr(CallFailure::Panicked),
        }
    }

    #[inline(always)]
    fn free(&mut self, chunk: &Placement) -> RResult<(), CallFailure> {
        match self.run(|a| a.free(*chunk)) {
            Some(Ok(())) => RResult::ROk(()),
            Some(Err(NotMine)) => RResult::RErr(CallFailure::Refused),
            None => RResult::RErr(CallFailure::Panicked),
        }
    }

    fn adopt(&mut self, range: PageRange) -> RResult<Tag, RString> {
        match self.run(|a| a.adopt(range).map_err(|reason| reason.to_string())) {
            Some(Ok(tag)) => RResult::ROk(tag),
            Some(Err(reason)) => RResult::RErr(reason.into()),
            None => RResult::RErr(self.panic_text()),
        }
    }

    fn holes(&mut self) -> RVec<PageRange> {
        let all = self.run(|a| {
            let mut holes = Vec::new();
            a.holes(&mut |hole| holes.push(hole));
            holes
        });
        all.unwrap_or_default().into()
    }

    fn largest_request(&mut self) -> Pages {
        self.run(|a| a.largest_request()).unwrap_or(Pages::ZERO)
    }

    fn check(&mut self) -> RResult<(), RString> {
        match self.run(|a| a.check()) {
            Some(Ok(())) => RResult::ROk(()),
            Some(Err(broken)) => RResult::RErr(broken.into()),
            None => RResult::RErr(self.panic_text()),
        }
    }

    fn extension(&mut self, _: u32, _: RSlice<'_, u64>) -> RResult<RVec<u64>, ExtensionFailure> {
        RResult::RErr(ExtensionFailure::Unsupported)
    }

    fn fault(&self) -> ROption<RString> {
        match &self.0 {
            State::Sound(_) => ROption::RNone,
            State::Faulty(message) => ROption::RSome(message.as_str().into()),
        }
    }
}

impl<A> Drop for Guarded<A> {
    fn drop(&mut self) {
        let state = mem::replace(&mut self.0, State::Faulty(String::new()));
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(state))) {
            message_of(payload);
        }
    }
}

/// The text of a panic. A payload that is not a plain message is forgotten: dropping it could panic
/// again.
fn message_of(payload: Box<dyn Any + Send>) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_string()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        mem::forget(payload);
        "no message".to_string()
    }
}

#[cfg(test)]
mod frozen;
#[cfg(test)]
mod tests;
