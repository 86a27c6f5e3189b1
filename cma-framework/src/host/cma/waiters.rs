//! The requests of a framework that wait.

use super::Cma;
use crate::core::books::Process;
use crate::host::region::{DeviceAndType, Region, Waiter};
use crate::vocabulary::ChunkRequest;
use crate::vocabulary::errors::Stuck;
use cma_api::Request;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Every request that waits, by its number. Regions know those that wait for them; this is for a
/// change of the configuration, after which each may have other regions.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<u64, Arc<Waiter>>>);

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `waiter` called after each change of the configuration from now on.
    pub(super) fn add(&self, waiter: &Arc<Waiter>) {
        self.lock().insert(waiter.id, waiter.clone());
    }

    pub(super) fn remove(&self, waiter: &Waiter) {
        let removed = self.lock().remove(&waiter.id);
        drop(removed);
    }

    /// Calls each, in the order in which they began to wait. Called without a lock.
    pub(super) fn call_all(&self) {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_unstable_by_key(|waiter| waiter.id);
        all.iter().for_each(|waiter| waiter.call());
    }
}

/// A request that waits for a region. One that waits for several regions is reported for each.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaitingRequest {
    /// The region.
    pub region: Region,
    /// The number of requests that the region serves before this one.
    pub ahead: usize,
    /// The request.
    pub request: ChunkRequest,
    /// Device and type of the request; `None` as in [`Owner::device`](crate::Owner::device).
    pub device: Option<DeviceAndType>,
    /// The process for which it waits, if a front end [noted one](Cma::to_share).
    pub process: Option<Process>,
    /// The time for which it has waited.
    pub waited: Duration,
}

impl Cma {
    /// The requests that wait, by region in ascending order of address, and for each region in the
    /// order in which it serves them. Those of a stuck region are left out.
    pub fn waiters(&self) -> Vec<WaitingRequest> {
        let of_region = |region| self.waiters_for(region).unwrap_or_default();
        self.regions().iter().flat_map(of_region).collect()
    }

    /// The requests that wait for `region`, in the order in which it serves them.
    ///
    /// # Errors
    ///
    /// [`Stuck`].
    pub fn waiters_for(&self, region: &Region) -> Result<Vec<WaitingRequest>, Stuck> {
        let mut name = self.0.askers.names();
        let waiting = |(ahead, (waiter, request)): (usize, (Arc<Waiter>, Request))| {
            let noted = waiter.holder.as_ref().and_then(|holder| holder.device.clone());
            WaitingRequest {
                region: region.clone(),
                ahead,
                request: waiter.wanted,
                device: noted.or_else(|| name(request.asker())),
                process: waiter.holder.as_ref().map(|holder| holder.process.clone()),
                waited: waiter.since.elapsed(),
            }
        };
        Ok(region.waiters()?.into_iter().enumerate().map(waiting).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cma::Source;
    use crate::host::region::AllocatorChoice;
    use crate::vocabulary::Bytes;
    use cma_api::DmaAddr;
    use std::pin::Pin;
    use std::task::{Context, Waker};

    #[test]
    fn a_request_that_no_longer_waits_is_forgotten() {
        let cma = Cma::new();
        let (start, choice) = (DmaAddr::new(1 << 30), AllocatorChoice::Default);
        let region = cma.region_register(None, start, 1 << 20, choice).unwrap();
        let request = ChunkRequest::new(Bytes::kib(4));
        let waiting = || {
            let mut pending = cma.allocate_async(Source::Region(&region), &request).unwrap();
            let mut context = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut pending).poll(&mut context).is_pending());
            pending
        };
        let (dropped, timed_out, mut refused) = (waiting(), waiting(), waiting());
        assert_eq!(cma.0.waiters.lock().len(), 3);
        drop(dropped);
        assert!(timed_out.time_out().is_err());
        assert_eq!(cma.0.waiters.lock().len(), 1);
        cma.region_unregister(&region).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut refused).poll(&mut context).is_ready());
        assert!(cma.0.waiters.lock().is_empty());
    }
}
