//! The allocator of a region, and attaching one that the region waits for.

use super::choice::{AllocatorChoice, AllocatorState, Allocators, ChangeError, Registered};
use super::{Region, RegionState};
use crate::core::books::{BookedChunk, Books, Slot};
use crate::host::loader::Plugin;
use crate::vocabulary::What;
use crate::vocabulary::errors::Reason;
use cma_api::abi_stable::std_types::{RResult, RString};
use cma_api::v1::AllocatorBox;
use cma_api::{PageRange, Tag};
use std::sync::Arc;

/// The allocator of a region, if it has one.
pub(super) enum Attached {
    /// None. `failure` is why attaching one failed, if it was tried.
    Nothing { failure: Option<Reason> },
    /// One at work.
    Allocator(Service),
    /// One that broke its contract or panicked. The region serves nothing until its allocator is
    /// changed. The failed allocator is dropped then, outside the lock.
    OutOfService { allocator: String, reason: String, _ended: Box<Service> },
}

/// An allocator at work on a region.
pub(super) struct Service {
    pub(super) object: AllocatorBox,
    /// The name under which it was registered.
    pub(super) name: Option<Arc<str>>,
    pub(super) plugin: Plugin,
    /// Why it serves in place of the region's choice, if it does.
    pub(super) stands_in: Option<Box<Reason>>,
}

impl Service {
    /// Starts an allocator without the region's lock.
    pub(super) fn start(
        plugin: &Plugin,
        name: Option<Arc<str>>,
        range: PageRange,
        params: &str,
    ) -> Result<Self, Reason> {
        match plugin.initialise(range, params) {
            Ok(object) => Ok(Service { object, name, plugin: plugin.clone(), stands_in: None }),
            Err(reason) => {
                let allocator = name.as_deref().unwrap_or(plugin.name()).to_string();
                Err(Reason::AttachFailed { allocator, reason: one_line(&reason) })
            }
        }
    }

    /// The name under which it was registered, or the plug-in's own.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.plugin.name())
    }

    /// The parameters with which it was started, for the region's `choice`. One that stands in has
    /// none: those of the choice are for another allocator.
    pub(super) fn params<'a>(&self, choice: &'a AllocatorChoice) -> &'a str {
        if self.stands_in.is_some() { "" } else { choice.params() }
    }

    /// Adopts every live chunk. Returns the new tags.
    ///
    /// # Errors
    ///
    /// The chunk that it can't adopt, and its reason.
    pub(super) fn adopt_all(
        &mut self,
        books: &Books,
    ) -> Result<Vec<(Slot, Tag)>, (PageRange, RString)> {
        let adopt = |(slot, chunk): (Slot, BookedChunk)| match self.object.adopt(chunk.range) {
            RResult::ROk(tag) => Ok((slot, tag)),
            RResult::RErr(reason) => Err((chunk.range, reason)),
        };
        books.ascending().into_iter().map(adopt).collect()
    }
}

impl Attached {
    /// The allocator's name; empty for none.
    pub(super) fn name(&self) -> &str {
        match self {
            Attached::Nothing { .. } => "",
            Attached::Allocator(service) => service.name(),
            Attached::OutOfService { allocator, .. } => allocator,
        }
    }

    /// Why no allocator serves.
    #[cold]
    pub(super) fn absence(&self) -> Reason {
        match self {
            Attached::OutOfService { allocator, reason, .. } => {
                Reason::OutOfService { allocator: allocator.clone(), reason: reason.clone() }
            }
            Attached::Nothing { failure: Some(failure) } => failure.clone(),
            Attached::Nothing { failure: None } | Attached::Allocator(_) => {
                Reason::NoAllocator { wanted: None }
            }
        }
    }

    /// Why another allocator than the region's choice serves it, if one does.
    pub(super) fn stands_in(&self) -> Option<&Reason> {
        match self {
            Attached::Allocator(service) => service.stands_in.as_deref(),
            Attached::Nothing { .. } | Attached::OutOfService { .. } => None,
        }
    }

    /// The same as a public value.
    pub(super) fn state(&self, choice: &AllocatorChoice) -> AllocatorState {
        match self {
            Attached::Allocator(service) => {
                AllocatorState::Attached(service.name.as_deref().map(String::from))
            }
            Attached::Nothing { failure } => AllocatorState::Waiting {
                wanted: choice.name().map(String::from),
                failure: failure.as_ref().map(ToString::to_string),
            },
            Attached::OutOfService { allocator, reason, .. } => AllocatorState::OutOfService {
                allocator: allocator.clone(),
                reason: reason.clone(),
            },
        }
    }
}

/// The start of a plug-in's text, without line breaks and escape codes: logs and terminals show it,
/// and refusals keep it.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 400;
    text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Why an allocator doesn't serve a region with live chunks, one of which it can't adopt.
pub(super) fn cannot_adopt(allocator: &str, chunk: PageRange, text: &str) -> Reason {
    let reason = format!("it can't adopt the live chunk {chunk}: {}", one_line(text));
    Reason::AttachFailed { allocator: allocator.to_string(), reason }
}

/// A plug-in and the name under which it is registered.
pub(crate) type FoundAllocator = (Plugin, Option<Arc<str>>);

/// The allocator that `choice` selects among the registered ones.
pub(crate) fn find(
    choice: &AllocatorChoice,
    registered: &impl Allocators,
) -> Option<FoundAllocator> {
    registered.read(|registered| match choice {
        AllocatorChoice::Given { plugin, .. } => Some((plugin.clone(), Some(plugin.name().into()))),
        AllocatorChoice::Default => registered.first().map(|r| (r.plugin.clone(), r.name.clone())),
        AllocatorChoice::Named { name, .. } => registered
            .iter()
            .find(|r| r.name.as_deref() == Some(name))
            .map(|r| (r.plugin.clone(), r.name.clone())),
    })
}

impl Region {
    /// Attaches a newly registered allocator if the region waits for it, or if another one stands
    /// in for it. `first` means that it is the first one ever registered.
    pub(crate) fn offer(
        &self,
        registered: &Registered,
        first: bool,
        all: &impl Allocators,
    ) -> Option<Result<(), Reason>> {
        if self.stand_in().is_some() {
            let allocator = registered.plugin.name();
            let failed = |error: ChangeError| Reason::AttachFailed {
                allocator: registered.name.as_deref().unwrap_or(allocator).to_string(),
                reason: error.to_string(),
            };
            let taken = self.take_over(&registered.name, all)?;
            return Some(taken.map(drop).map_err(failed));
        }
        if !matches!(self.allocator(), AllocatorState::Waiting { .. }) {
            return None;
        }
        let mut state = match self.enter() {
            Ok(state) => state,
            Err(stuck) => return Some(Err(stuck.into())),
        };
        let waits = state.registered && state.waits_for(registered, first);
        // Attaches what has the name by now, which may be a later build than the one offered.
        waits.then(|| state.attach(self, all).map(drop).map_err(|why| *why))
    }
}

impl RegionState {
    /// Whether a newly registered allocator is to be attached at once: the region has none, and
    /// either chose this one by name, or chose none by name, was never tried, and this is the first
    /// one ever (specification section 4).
    fn waits_for(&self, registered: &Registered, first: bool) -> bool {
        match (&self.attached, &self.choice) {
            (Attached::Nothing { .. }, AllocatorChoice::Named { name, .. }) => {
                registered.name.as_deref() == Some(name)
            }
            (Attached::Nothing { failure: None }, AllocatorChoice::Default) => first,
            _ => false,
        }
    }

    /// Attaches the chosen allocator, if it is registered. An allocator that refused the region is
    /// not tried again: the result would be the same.
    #[cold]
    pub(super) fn attach(
        &mut self,
        region: &Region,
        registered: &impl Allocators,
    ) -> Result<&mut Service, Box<Reason>> {
        if !self.registered {
            return Err(Box::new(Reason::Unregistered));
        }
        if let Attached::Nothing { failure } = &self.attached
            && !matches!(failure, Some(Reason::AttachFailed { .. }))
        {
            let known = failure.clone();
            if let Err(reason) = self.start_chosen(region, registered) {
                if known.as_ref() != Some(&reason) {
                    self.report(region, What::NotAttached { reason: reason.clone() });
                }
                let failed = matches!(reason, Reason::AttachFailed { .. });
                self.remain_without(region, reason);
                if failed {
                    self.find_stand_in(region, registered);
                }
            }
        }
        match &mut self.attached {
            Attached::Allocator(service) => Ok(service),
            absent => Err(Box::new(absent.absence())),
        }
    }

    /// Attaches the chosen allocator, if it is registered.
    pub(super) fn start_chosen(
        &mut self,
        region: &Region,
        registered: &impl Allocators,
    ) -> Result<(), Reason> {
        let wanted = || self.choice.name().map(String::from);
        let found = find(&self.choice, registered)
            .ok_or_else(|| Reason::NoAllocator { wanted: wanted() })?;
        let params = self.choice.params().to_string();
        self.start(region, found, &params, None)
    }

    /// Notes that no allocator serves for `reason`.
    pub(super) fn remain_without(&mut self, region: &Region, reason: Reason) {
        self.attached = Attached::Nothing { failure: Some(reason) };
        self.show(region, self.attached.name());
    }

    /// Starts an allocator under the lock and has it adopt the live chunks: requests wait for it as
    /// for any other call of the allocator. `stands_in` is why it serves in place of the choice.
    pub(super) fn start(
        &mut self,
        region: &Region,
        (plugin, name): FoundAllocator,
        params: &str,
        stands_in: Option<Box<Reason>>,
    ) -> Result<(), Reason> {
        self.show(region, name.as_deref().unwrap_or(plugin.name()));
        let object = match plugin.start(region.range(), params) {
            Ok(object) => object,
            Err(text) => {
                let allocator = name.as_deref().unwrap_or(plugin.name()).to_string();
                let reason = Reason::AttachFailed { allocator, reason: one_line(&text) };
                self.drop_later(text);
                return Err(reason);
            }
        };
        let mut service = Service { object, name, plugin, stands_in };
        match service.adopt_all(&self.books) {
            Ok(tags) => self.books.retag(tags),
            Err((chunk, text)) => {
                let reason = cannot_adopt(service.name(), chunk, &text);
                self.drop_later((service, text));
                return Err(reason);
            }
        }
        self.replace_attached(region, Attached::Allocator(service));
        Ok(())
    }

    /// Attaches the allocator that was given with the region.
    pub(super) fn start_given(&mut self, region: &Region) -> Result<(), Reason> {
        let AllocatorChoice::Given { plugin, params } = &self.choice else { return Ok(()) };
        let (plugin, params) = (plugin.clone(), params.clone());
        let name = Some(plugin.name().into());
        self.start(region, (plugin, name), &params, None)
    }
}
