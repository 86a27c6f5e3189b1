//! Attaching an allocator to a region, late, early, or in place of another one.

use super::chunks::{Booked, ChunkTable, Slot};
use super::lock::Inside;
use super::{Region, State};
use crate::host::events::{self, Event};
use crate::host::loader::Plugin;
use crate::vocabulary::errors::{Reason, Stuck};
use cma_api::abi_stable::std_types::{RResult, RString};
use cma_api::v1::AllocatorBox;
use cma_api::{PageRange, Tag};
use std::fmt;
use std::mem;
use std::sync::Arc;

/// An allocator that regions may ask for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registered {
    /// The name it is registered under; `None` for none.
    pub name: Option<Arc<str>>,
    /// The algorithm.
    pub plugin: Plugin,
}

/// Which allocator a region asks for.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum AllocatorChoice {
    /// The default one: the first that is registered.
    #[default]
    Default,
    /// The one registered under this name, whenever that comes.
    Named {
        /// Its name.
        name: String,
        /// For its initialise, unchanged.
        params: String,
    },
    /// This one, registered or not.
    Given {
        /// The algorithm.
        plugin: Plugin,
        /// For its initialise, unchanged.
        params: String,
    },
}

impl AllocatorChoice {
    /// The allocator registered as `name`, without parameters.
    pub fn named(name: impl Into<String>) -> Self {
        AllocatorChoice::Named { name: name.into(), params: String::new() }
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            AllocatorChoice::Default => None,
            AllocatorChoice::Named { name, .. } => Some(name),
            AllocatorChoice::Given { plugin, .. } => Some(plugin.name()),
        }
    }

    /// What is wrong with the name it asks for.
    pub(crate) fn fault(&self) -> Option<(&str, &'static str)> {
        match self {
            AllocatorChoice::Named { name, .. } => {
                crate::vocabulary::allocator_name_fault(name).map(|fault| (name.as_str(), fault))
            }
            AllocatorChoice::Default | AllocatorChoice::Given { .. } => None,
        }
    }

    fn params(&self) -> &str {
        match self {
            AllocatorChoice::Default => "",
            AllocatorChoice::Named { params, .. } | AllocatorChoice::Given { params, .. } => params,
        }
    }
}

impl From<crate::vocabulary::AllocatorSpec<'_>> for AllocatorChoice {
    fn from(spec: crate::vocabulary::AllocatorSpec<'_>) -> Self {
        AllocatorChoice::Named { name: spec.name.to_string(), params: spec.params.to_string() }
    }
}

/// What serves a region, or what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocatorState {
    /// It has this allocator; `None` for one that was registered without a name.
    Attached(Option<String>),
    /// It waits for the allocator of this name, or for the default one. `failure` says why
    /// attaching failed, if it was tried.
    Waiting {
        /// The name it asks for; `None` for the default.
        wanted: Option<String>,
        /// What came of trying.
        failure: Option<String>,
    },
    /// The allocator it had is not trusted any more.
    OutOfService {
        /// The allocator's name.
        allocator: String,
        /// What it did.
        reason: String,
    },
}

impl fmt::Display for AllocatorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllocatorState::Attached(name) => f.write_str(name.as_deref().unwrap_or("-")),
            AllocatorState::Waiting { wanted: Some(name), .. } => write!(f, "waits for {name}"),
            AllocatorState::Waiting { wanted: None, .. } => f.write_str("waits for the default"),
            AllocatorState::OutOfService { allocator, .. } => {
                write!(f, "{allocator} (out of service)")
            }
        }
    }
}

/// Why a region's allocator was not changed. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The region was unregistered.
    #[error("the region is not registered any more")]
    Unregistered,
    /// A name that no allocator can have.
    #[error("\"{}\" can't be the name of an allocator: it {fault}", name.escape_debug())]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Chunks are live and no allocator of that name is there to adopt them.
    #[error("{live} live chunks need an allocator to adopt them, and {} is registered", 
        wanted.as_ref().map_or("none".to_string(), |name| format!("no \"{name}\"")))]
    NobodyAdopts {
        /// The number of live chunks.
        live: u32,
        /// The name asked for.
        wanted: Option<String>,
    },
    /// The old allocator doesn't return from a call.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// The new allocator refuses the region.
    #[error("{reason}")]
    Initialise {
        /// The number of live chunks.
        live: u32,
        /// What came of it: [`Reason::AttachFailed`].
        reason: Reason,
    },
    /// The new allocator can't take over a live chunk where it is.
    #[error("allocator \"{allocator}\" can't adopt the live chunk {chunk}: {reason}")]
    Adopt {
        /// Its name.
        allocator: String,
        /// The chunk.
        chunk: PageRange,
        /// What it says.
        reason: String,
    },
}

/// The registered allocators, looked at when a region needs one: under its lock, so that what is
/// registered meanwhile is seen.
pub(crate) trait Allocators {
    fn look<T>(&self, f: impl FnOnce(&[Registered]) -> T) -> T;
}

impl Allocators for &[Registered] {
    fn look<T>(&self, f: impl FnOnce(&[Registered]) -> T) -> T {
        f(self)
    }
}

/// What a region has for an allocator.
pub(super) enum Attached {
    /// None. `failure` is what came of trying to attach one.
    Nothing { failure: Option<Reason> },
    /// One at work.
    Allocator(Service),
    /// One that lied or panicked. The region serves nothing until its allocator is changed. What it
    /// was goes then, too, and not under the region's lock.
    OutOfService { allocator: String, reason: String, _ended: Box<Service> },
}

/// An allocator at work on a region.
pub(super) struct Service {
    pub(super) object: AllocatorBox,
    /// As it was registered.
    name: Option<Arc<str>>,
    /// As the plug-in calls itself.
    plugin: Plugin,
}

impl Service {
    fn start(
        plugin: &Plugin,
        name: Option<Arc<str>>,
        range: PageRange,
        params: &str,
    ) -> Result<Self, Reason> {
        match plugin.initialise(range, params) {
            Ok(object) => Ok(Service { object, name, plugin: plugin.clone() }),
            Err(reason) => {
                let allocator = name.as_deref().unwrap_or(plugin.name()).to_string();
                Err(Reason::AttachFailed { allocator, reason: one_line(&reason) })
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.plugin.name())
    }

    /// Takes over every live chunk of `chunks`; the answer is their new tags. The error is the
    /// chunk that it can't adopt, with its own words.
    fn adopt_all(&mut self, chunks: &ChunkTable) -> Result<Vec<(Slot, Tag)>, (PageRange, RString)> {
        let adopt = |(slot, booked): (Slot, Booked)| match self.object.adopt(booked.range) {
            RResult::ROk(tag) => Ok((slot, tag)),
            RResult::RErr(reason) => Err((booked.range, reason)),
        };
        chunks.ascending().into_iter().map(adopt).collect()
    }
}

impl Attached {
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

/// The start of a plug-in's text without line breaks and escape codes: it reaches logs and
/// terminals, and is kept with what was refused.
pub(super) fn one_line(text: &str) -> String {
    const LONGEST: usize = 400;
    text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A plug-in and the name it is registered under.
type Found = (Plugin, Option<Arc<str>>);

/// What `choice` means among those that are registered.
fn find(choice: &AllocatorChoice, registered: &impl Allocators) -> Option<Found> {
    registered.look(|registered| match choice {
        AllocatorChoice::Given { plugin, .. } => Some((plugin.clone(), Some(plugin.name().into()))),
        AllocatorChoice::Default => registered.first().map(|r| (r.plugin.clone(), r.name.clone())),
        AllocatorChoice::Named { name, .. } => registered
            .iter()
            .find(|r| r.name.as_deref() == Some(name))
            .map(|r| (r.plugin.clone(), r.name.clone())),
    })
}

impl State {
    /// Whether a newly registered allocator is to be attached at once: the region has none, and it
    /// asked for this one by name, or for none by name, was never tried, and this is the first ever
    /// (specification section 4).
    pub(super) fn waits_for(&self, registered: &Registered, first: bool) -> bool {
        match (&self.attached, &self.choice) {
            (Attached::Nothing { .. }, AllocatorChoice::Named { name, .. }) => {
                registered.name.as_deref() == Some(name)
            }
            (Attached::Nothing { failure: None }, AllocatorChoice::Default) => first,
            _ => false,
        }
    }

    /// Attaches what the region wants, if that is registered. An allocator that refused the region
    /// is not asked again: its answer would be the same.
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
            let reason = match find(&self.choice, registered) {
                None => Some(Reason::NoAllocator { wanted: self.choice.name().map(String::from) }),
                Some(found) => self.start(region, found).err(),
            };
            if let Some(reason) = reason {
                if known.as_ref() != Some(&reason) {
                    self.tell(Event::NotAttached { reason: reason.clone() });
                }
                self.attached = Attached::Nothing { failure: Some(reason) };
                self.show(region, self.attached.name());
            }
        }
        match &mut self.attached {
            Attached::Allocator(service) => Ok(service),
            absent => Err(Box::new(absent.absence())),
        }
    }

    /// Starts `found` under the lock: requests wait for it as for any other call of the allocator.
    fn start(&mut self, region: &Region, (plugin, name): Found) -> Result<(), Reason> {
        self.show(region, name.as_deref().unwrap_or(plugin.name()));
        match plugin.start(region.range(), self.choice.params()) {
            Ok(object) => {
                let service = Service { object, name, plugin };
                self.replace_attached(region, Attached::Allocator(service));
                Ok(())
            }
            Err(text) => {
                let allocator = name.as_deref().unwrap_or(plugin.name()).to_string();
                let reason = Reason::AttachFailed { allocator, reason: one_line(&text) };
                self.end_later(text);
                Err(reason)
            }
        }
    }

    /// Attaches the allocator that was given with the region, which nobody knows yet.
    pub(super) fn start_given(&mut self, region: &Region) -> Result<(), Reason> {
        let AllocatorChoice::Given { plugin, .. } = &self.choice else { return Ok(()) };
        let found = (plugin.clone(), Some(plugin.name().into()));
        self.start(region, found)?;
        // It is told when the region is registered.
        self.after.clear();
        Ok(())
    }
}

impl Region {
    /// Detaches the allocator and asks for `choice` instead; live chunks stay where they are if it
    /// can adopt them.
    pub(crate) fn change_allocator(
        &self,
        choice: AllocatorChoice,
        registered: &impl Allocators,
    ) -> Result<AllocatorState, ChangeError> {
        let changed = self.try_change(choice, registered);
        if let Err(error) = &changed {
            events::quietly(|| tracing::warn!(region = %self, %error, "allocator not changed"));
        }
        changed
    }

    fn try_change(
        &self,
        choice: AllocatorChoice,
        registered: &impl Allocators,
    ) -> Result<AllocatorState, ChangeError> {
        if let Some((name, fault)) = choice.fault() {
            return Err(ChangeError::BadName { name: name.to_string(), fault });
        } else if !self.is_registered() {
            return Err(ChangeError::Unregistered);
        }
        loop {
            // The new one starts, and whichever is not needed ends, without the lock: requests wait
            // for the adoption alone.
            let found = find(&choice, registered);
            let mut started = found.as_ref().map(|(plugin, name)| {
                Service::start(plugin, name.clone(), self.range(), choice.params())
            });
            let mut state = self.enter()?;
            if find(&choice, registered) != found {
                // What is registered has changed meanwhile.
                continue;
            }
            let next = state.successor(&mut started, &choice)?;
            let old = mem::replace(&mut state.choice, choice);
            state.end_later(old);
            return Ok(self.succeed(state, next));
        }
    }

    /// Gives the region the build that is registered as `name` now, if it has another one, or had
    /// one that refused it or was taken out of service. The choice stays, and so does every chunk.
    pub(crate) fn take_over(
        &self,
        name: &Option<Arc<str>>,
        registered: &impl Allocators,
    ) -> Option<Result<AllocatorState, ChangeError>> {
        loop {
            let (choice, found) = {
                let state = match self.enter() {
                    Ok(state) => state,
                    Err(stuck) => return self.may_be_outdated(name).then(|| Err(stuck.into())),
                };
                let found = find(&state.choice, registered)?;
                state.is_outdated(name, &found.0).then(|| (state.choice.clone(), found))?
            };
            let (plugin, as_name) = found.clone();
            let mut started = Some(Service::start(&plugin, as_name, self.range(), choice.params()));
            let mut state = match self.enter() {
                Ok(state) => state,
                Err(stuck) => return Some(Err(stuck.into())),
            };
            if !state.is_outdated(name, &plugin) {
                return None;
            } else if state.choice.params() != choice.params()
                || find(&state.choice, registered) != Some(found)
            {
                // What it asks for, or what that is, has changed meanwhile.
                continue;
            }
            let error = match state.successor(&mut started, &choice) {
                Ok(next) => return Some(Ok(self.succeed(state, next))),
                Err(error) => error,
            };
            drop(state);
            events::quietly(|| {
                tracing::warn!(region = %self, %error, "allocator not replaced by its other build");
            });
            return Some(Err(error));
        }
    }

    /// Puts `next` in the place of what the region has.
    fn succeed(&self, mut state: Inside<'_>, next: Attached) -> AllocatorState {
        state.replace_attached(self, next);
        state.attached.state(&state.choice)
    }

    /// Whether a stuck region, whose books can't be looked at, may have another build of the
    /// allocator registered as `name`.
    fn may_be_outdated(&self, name: &Option<Arc<str>>) -> bool {
        match self.allocator() {
            AllocatorState::Attached(attached) => attached.as_deref() == name.as_deref(),
            AllocatorState::Waiting { wanted, .. } => wanted.as_deref() == name.as_deref(),
            AllocatorState::OutOfService { allocator, .. } => {
                Some(allocator.as_str()) == name.as_deref()
            }
        }
    }
}

impl State {
    /// What is to serve the region next: what has `started`, which adopts every live chunk, or
    /// nothing. What can't stays where it is.
    fn successor(
        &mut self,
        started: &mut Option<Result<Service, Reason>>,
        choice: &AllocatorChoice,
    ) -> Result<Attached, ChangeError> {
        let live = self.chunks.live();
        if !self.registered {
            return Err(ChangeError::Unregistered);
        } else if let Some(Ok(service)) = started {
            match service.adopt_all(&self.chunks) {
                Ok(tags) => self.chunks.retag(tags),
                Err((chunk, text)) => {
                    let (allocator, reason) = (service.name().to_string(), one_line(&text));
                    self.end_later(text);
                    return Err(ChangeError::Adopt { allocator, chunk, reason });
                }
            }
        }
        match started.take() {
            Some(Ok(service)) => Ok(Attached::Allocator(service)),
            Some(Err(reason)) => Err(ChangeError::Initialise { live, reason }),
            None if live > 0 => {
                Err(ChangeError::NobodyAdopts { live, wanted: choice.name().map(String::from) })
            }
            None => Ok(Attached::Nothing { failure: None }),
        }
    }

    /// Whether the region has, or had until it was taken out of service or refused, another build
    /// than `plugin` of the allocator registered as `name`.
    fn is_outdated(&self, name: &Option<Arc<str>>, plugin: &Plugin) -> bool {
        // One that was given with the region is not the registered one, whatever it is called.
        !matches!(self.choice, AllocatorChoice::Given { .. })
            && match &self.attached {
                Attached::Allocator(service) => service.name == *name && service.plugin != *plugin,
                Attached::OutOfService { allocator, .. }
                | Attached::Nothing { failure: Some(Reason::AttachFailed { allocator, .. }) } => {
                    Some(allocator.as_str()) == name.as_deref()
                }
                Attached::Nothing { .. } => false,
            }
    }
}
