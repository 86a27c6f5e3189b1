//! Replacing a region's allocator under live chunks, by adoption.
//!
//! The new allocator starts before the region is locked, and the old one is dropped after that, so
//! requests wait for the adoption alone.

use super::attach::{FoundAllocator, find, one_line};
use super::choice::{AllocatorChoice, AllocatorState, Allocators, ChangeError};
use super::lock::LockedState;
use super::{Attached, Region, RegionState, Service};
use crate::host::loader::Plugin;
use crate::vocabulary::What;
use crate::vocabulary::errors::Reason;
use std::mem;
use std::sync::Arc;

impl Region {
    /// Detaches the allocator and attaches the one of `choice`. Live chunks stay where they are, if
    /// the new allocator can adopt them.
    pub(crate) fn change_allocator(
        &self,
        choice: AllocatorChoice,
        registered: &impl Allocators,
    ) -> Result<AllocatorState, ChangeError> {
        let changed = self.try_change(choice, registered);
        if let Err(error) = &changed {
            self.report(What::NotChanged { error: error.to_string() });
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
            let found = find(&choice, registered);
            let mut started = found.as_ref().map(|found| self.start(found, choice.params()));
            let mut state = self.enter()?;
            if find(&choice, registered) != found {
                // The registered allocators have changed meanwhile.
                continue;
            }
            let next = state.successor(&mut started, &choice)?;
            let old = mem::replace(&mut state.choice, choice);
            state.drop_later(old);
            return Ok(self.succeed(state, next));
        }
    }

    /// Replaces the allocator by the build that is registered as `name` now. Does so if the region
    /// has another build, or one that refused it or was taken out of service. The choice stays, and
    /// so does every chunk. `None` when the region needs no replacement.
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
            let mut started = Some(self.start(&found, choice.params()));
            let mut state = match self.enter() {
                Ok(state) => state,
                Err(stuck) => return Some(Err(stuck.into())),
            };
            if !state.is_outdated(name, &found.0) {
                return None;
            } else if state.choice.params() != choice.params()
                || find(&state.choice, registered) != Some(found)
            {
                // The choice, or the registered allocators, have changed meanwhile.
                continue;
            }
            return Some(match state.successor(&mut started, &choice) {
                Ok(next) => Ok(self.succeed(state, next)),
                Err(error) => {
                    state.report(self, What::NotReplaced { error: error.to_string() });
                    Err(error)
                }
            });
        }
    }

    fn start(&self, (plugin, name): &FoundAllocator, params: &str) -> Result<Service, Reason> {
        Service::start(plugin, name.clone(), self.range(), params)
    }

    /// Puts the successor in place.
    fn succeed(&self, mut state: LockedState<'_>, next: Attached) -> AllocatorState {
        state.replace_attached(self, next);
        state.attached.state(&state.choice)
    }

    /// Whether a stuck region, whose books can't be read, may have another build of the allocator
    /// registered as `name`.
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

impl RegionState {
    /// The next [`Attached`]: the allocator in `started`, after it has adopted every live chunk, or
    /// none. On an error, `started` keeps an allocator that has adopted only some: it is dropped
    /// after the lock is released.
    fn successor(
        &mut self,
        started: &mut Option<Result<Service, Reason>>,
        choice: &AllocatorChoice,
    ) -> Result<Attached, ChangeError> {
        let live = self.books.live();
        if !self.registered {
            return Err(ChangeError::Unregistered);
        } else if let Some(Ok(service)) = started {
            match service.adopt_all(&self.books) {
                Ok(tags) => self.books.retag(tags),
                Err((chunk, text)) => {
                    let (allocator, reason) = (service.name().to_string(), one_line(&text));
                    self.drop_later(text);
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

    /// Whether the region has another build than `plugin` of the allocator registered as `name`, or
    /// had one that was taken out of service or refused the region, or has a stand-in for it.
    fn is_outdated(&self, name: &Option<Arc<str>>, plugin: &Plugin) -> bool {
        // An allocator given with the region is not the registered one, whatever its name.
        !matches!(self.choice, AllocatorChoice::Given { .. })
            && match &self.attached {
                // It keeps its build; the choice takes over from it.
                Attached::Allocator(service) if service.stands_in.is_some() => {
                    self.choice.name() == name.as_deref()
                }
                Attached::Allocator(service) => service.name == *name && service.plugin != *plugin,
                Attached::OutOfService { allocator, .. }
                | Attached::Nothing { failure: Some(Reason::AttachFailed { allocator, .. }) } => {
                    Some(allocator.as_str()) == name.as_deref()
                }
                Attached::Nothing { .. } => false,
            }
    }
}
