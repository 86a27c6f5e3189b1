//! Observing a framework, and what its requests report.

use super::{Cma, Framework};
use crate::host::asking::{self, Outcome};
use crate::host::region::Region;
use crate::host::watches::{Delivery, Observer, Watch, guarded};
use crate::vocabulary::errors::AllocError;
use crate::vocabulary::{Asked, What};
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{fmt, io, thread};

/// An observation, as long as it lives. Dropping it ends the delivery: a call of the observer that
/// is in progress ends by itself, and no other begins. What waits then is not delivered; see
/// [`catch_up`](Self::catch_up).
#[must_use = "dropping it ends the observation"]
pub struct Observation {
    observed: Observed,
    watch: Arc<Watch>,
}

/// What is observed. That doesn't keep the framework.
#[derive(Clone)]
struct Observed {
    framework: Weak<Framework>,
    /// The region; `None` for all.
    only: Option<Region>,
}

impl Observed {
    fn cma(&self) -> Option<Cma> {
        self.framework.upgrade().map(Cma)
    }

    fn regions(&self) -> Vec<Region> {
        match &self.only {
            Some(region) => vec![region.clone()],
            None => self.cma().map(|cma| cma.regions()).unwrap_or_default(),
        }
    }

    /// Begins with each region that `watch` doesn't follow. One that is registered later finds the
    /// watch by itself.
    fn begin(&self, watch: &Arc<Watch>) {
        self.regions().iter().for_each(|region| region.begin_watch(watch));
    }
}

impl Cma {
    /// Has `observer` receive the events of every region, and those of requests that no region
    /// served. It begins with [`What::Began`] for each region, also for one that is registered
    /// later, or that is stuck now, when it resumes.
    ///
    /// The events of a region come in the order of its changes. At most 65,536 wait; when the
    /// observer is slower than that, further ones are dropped and counted ([`What::Missed`]). Then
    /// each region of which one was dropped begins anew, so what an observer knows of a region is
    /// never wrong for long.
    ///
    /// An observed framework is slower: a request takes locks that it wouldn't need, and its events
    /// are made.
    ///
    /// # Errors
    ///
    /// The system has no thread for it.
    pub fn observe(&self, observer: Arc<dyn Observer>) -> io::Result<Observation> {
        self.begin_observation(None, observer)
    }

    /// The same for the events of `region` alone. None comes if it is not registered.
    ///
    /// # Errors
    ///
    /// The system has no thread for it.
    pub fn observe_region(
        &self,
        region: &Region,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Observation> {
        self.begin_observation(Some(region), observer)
    }

    fn begin_observation(
        &self,
        only: Option<&Region>,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Observation> {
        let watch = Arc::new(Watch::new(only.is_none()));
        let observed = Observed { framework: Arc::downgrade(&self.0), only: only.cloned() };
        let observation = Observation { observed: observed.clone(), watch: watch.clone() };
        let delivering = watch.clone();
        thread::Builder::new().name("cma-observer".into()).spawn({
            let observed = observed.clone();
            move || {
                delivering.deliver(&*observer, || observed.begin(&delivering));
                // It may be the last handle, and the drop is foreign code.
                guarded(|| drop(observer));
            }
        })?;
        self.framework().watches.add(&watch);
        self.follow_observers();
        observed.begin(&watch);
        Ok(observation)
    }

    /// Has requests take the path that reports while somebody observes the framework, and the fast
    /// one otherwise.
    fn follow_observers(&self) {
        let mut setup = self.setup();
        let observed = !self.framework().watches.is_empty();
        if self.framework().snapshot().observed != observed {
            setup.change(|snapshot| snapshot.with_observers(observed));
        }
    }

    /// Begins the observation of a new region for those who observe all.
    pub(super) fn begin_watches(&self, region: &Region) {
        let followers = self.framework().watches.all();
        let watches = followers.iter().map(|follower| &follower.watch);
        watches.filter(|watch| watch.is_general()).for_each(|watch| region.begin_watch(watch));
    }
}

impl Observation {
    /// Waits, `longest` at most, until the observer has received every event of now and has
    /// [settled](Observer::settle) them. Returns whether it has; events that were dropped don't
    /// count.
    ///
    /// A host that must not answer a request before its observer has noted it calls this in
    /// between.
    pub fn catch_up(&self, longest: Duration) -> bool {
        self.watch.catch_up(longest)
    }

    /// How far the delivery has come.
    pub fn delivery(&self) -> Delivery {
        self.watch.delivery()
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.watch.close();
        if let Some(cma) = self.observed.cma() {
            cma.framework().watches.remove(&self.watch);
            cma.follow_observers();
        }
        self.observed.regions().iter().for_each(|region| region.end_watch(&self.watch));
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observation").field(&self.delivery()).finish()
    }
}

impl Framework {
    /// Serves a request by `call`, in an observed framework with its events.
    pub(crate) fn reporting<C>(
        &self,
        asked: impl FnOnce() -> Asked,
        call: impl FnOnce() -> Result<C, AllocError>,
    ) -> Result<C, AllocError> {
        if self.watches.is_empty() {
            return call();
        }
        let asked = Arc::new(asked());
        let (answer, outcome) = asking::with(&asked, call);
        if let Err(error) = &answer {
            self.report_failure(&asked, error, outcome);
        }
        answer
    }

    /// Reports that a request has failed, unless its last refusal has reported that.
    pub(crate) fn report_failure(&self, asked: &Arc<Asked>, error: &AllocError, outcome: Outcome) {
        if outcome == Outcome::NotReported {
            let (error, asked) = (error.clone(), asked.clone());
            self.watches.push_request(What::Failed { error, asked });
        }
    }

    /// Reports that a request that waited was given up.
    pub(crate) fn report_given_up(&self, asked: &Arc<Asked>) {
        self.watches.push_request(What::GivenUp { asked: asked.clone() });
    }
}
