//! Shadows of a framework's regions.

use super::Cma;
use super::observe::Observation;
use crate::core::shadow::ShadowReport;
use crate::host::region::{AllocatorChoice, Region, find_allocator};
use crate::host::shadow::Shadow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The time for which setting a shadow waits for its start.
const START: Duration = Duration::from_secs(1);

/// Why a region has no shadow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShadowError {
    /// The region is not registered.
    #[error("the region is not registered any more")]
    Unregistered,
    /// No allocator of that name is registered.
    #[error("no allocator \"{}\" is registered", wanted.escape_debug())]
    NoAllocator {
        /// The name.
        wanted: String,
    },
    /// The allocator can't serve the region, or can't adopt its chunks.
    #[error("\"{allocator}\" can't be its shadow: {reason}")]
    NotStarted {
        /// Its name.
        allocator: String,
        /// Its reason.
        reason: String,
    },
    /// The system has no thread for it.
    #[error("the system has no thread for it: {reason}")]
    NoThread {
        /// The system's reason.
        reason: String,
    },
}

/// The shadows of a framework.
#[derive(Debug, Default)]
pub(super) struct Shadows(Mutex<Vec<Following>>);

#[derive(Debug)]
struct Following {
    region: Region,
    shadow: Arc<Shadow>,
    observation: Observation,
}

impl Shadows {
    fn lock(&self) -> MutexGuard<'_, Vec<Following>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the shadow of `region`. The old one ends without a lock.
    fn replace(&self, region: &Region, next: Option<Following>) {
        let mut all = self.lock();
        let at = all.iter().position(|following| following.region == *region);
        let old = at.map(|at| all.swap_remove(at));
        all.extend(next);
        drop(all);
        drop(old);
    }
}

impl Cma {
    /// Has the allocator of `choice` follow `region` as its shadow from now on, in place of the
    /// present one: it gets the same requests, only its own books differ. It adopts the chunks that
    /// are live. Nothing that it does affects the region: it runs on a thread of its own, it is
    /// ended if it panics or breaks its contract, and one that is slow misses requests.
    ///
    /// A start that takes longer than a second goes on after this returns; see
    /// [`ShadowReport::state`].
    ///
    /// # Errors
    ///
    /// [`ShadowError`]; then the region keeps no shadow.
    pub fn set_shadow(&self, region: &Region, choice: &AllocatorChoice) -> Result<(), ShadowError> {
        self.end_shadow(region);
        if region.framework_id() != self.0.id || !region.is_registered() {
            return Err(ShadowError::Unregistered);
        }
        let Some((plugin, name)) = find_allocator(choice, &*self.0) else {
            let wanted = choice.name().unwrap_or_default().to_string();
            return Err(ShadowError::NoAllocator { wanted });
        };
        let name = name.as_deref().unwrap_or(plugin.name()).to_string();
        let params = choice.params().to_string();
        let shadow = Arc::new(Shadow::new(name.clone(), plugin, params, region.range()));
        let observation = self.observe_region(region, shadow.follower());
        let observation =
            observation.map_err(|error| ShadowError::NoThread { reason: error.to_string() })?;
        if let Some(reason) = shadow.failure_within(START) {
            return Err(ShadowError::NotStarted { allocator: name, reason });
        }
        let following = Following { region: region.clone(), shadow, observation };
        self.0.shadows.replace(region, Some(following));
        // It may have been unregistered meanwhile, before there was a shadow to be ended.
        if !region.is_registered() {
            self.end_shadow(region);
            return Err(ShadowError::Unregistered);
        }
        Ok(())
    }

    /// Ends the shadow of `region`, if it has one.
    pub fn end_shadow(&self, region: &Region) {
        self.0.shadows.replace(region, None);
    }

    /// What the shadow of `region` would have done; `None` if it has none.
    pub fn shadow(&self, region: &Region) -> Option<ShadowReport> {
        let all = self.0.shadows.lock();
        let following = all.iter().find(|following| following.region == *region)?;
        let (shadow, delivery) = (following.shadow.clone(), following.observation.delivery());
        drop(all);
        Some(shadow.report(delivery.missed))
    }
}
