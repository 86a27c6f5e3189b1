//! Explanations of refused requests.

use super::Cma;
use crate::core::books::RefusedRequest;
use crate::host::clock;
use crate::host::region::{Knowledge, Patience, Region};
use crate::vocabulary::errors::{AllocError, Reason, Refusal, Refusals};
use crate::vocabulary::{ChunkRequest, Explanation, Owner, RegionExplanation};
use cma_api::Request;
use std::time::Duration;

/// The most requests of which the refusals are explained.
const MOST_EXPLAINED: usize = 16;

impl AllocError {
    /// Why the request was refused, with what each region of `cma` has in its way, and the least
    /// chunks whose leaving would make room for it.
    ///
    /// The error itself has the request and the reasons at the refusal. The chunks are those that
    /// are live at the time of this call: call it at once, before others free or request something.
    /// For each set that could leave, a new instance of the region's allocator adopts the other
    /// chunks and is asked for a place, without a lock. It is waited for 3 s at most, and all of
    /// them for 10 s. With n chunks this takes the time to sort them and to have them adopted up to
    /// five times.
    ///
    /// ```
    /// use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin};
    /// # use cma_best_fit::BestFit;
    ///
    /// let cma = Cma::new();
    /// let plugin = Plugin::built_in::<BestFit>();
    /// let allocator = AllocatorChoice::Given { plugin, params: String::new() };
    /// cma.region_register(Some("b1"), DmaAddr::new(1 << 30), 16 << 20, allocator)?;
    /// let frames = cma.alloc_from("b1", 12 << 20, 0)?;
    /// let logo = cma.alloc_from("b1", 1 << 20, 0)?;
    ///
    /// let refused = cma.alloc_from("b1", 4 << 20, 0).unwrap_err();
    /// let explanation = refused.explain(&cma);
    /// let layout = explanation.regions[0].layout.as_ref().unwrap();
    /// let room = &layout.room.as_ref().unwrap().by_bytes;
    /// assert_eq!(layout.leaving(room)[0].range, logo.range());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain(&self, cma: &Cma) -> Explanation {
        self.explain_with(cma, |_| ())
    }

    /// The same for a host that knows more of the live chunks than the framework, such as a replay,
    /// which has the devices and the time of a recording: `note` may change the device, the process
    /// and the age of each. A changed place has no effect.
    pub fn explain_with(&self, cma: &Cma, mut note: impl FnMut(&mut Owner)) -> Explanation {
        match self {
            AllocError::NoRegion(refusals) => cma.explain_all(refusals, &mut note),
            AllocError::TimedOut(timed_out) => cma.explain_all(&timed_out.refusals, &mut note),
            AllocError::Invalid(_)
            | AllocError::NoRule(_)
            | AllocError::Unregistered
            | AllocError::Answered => Explanation::without_regions(self.to_string()),
        }
    }
}

impl Cma {
    /// Explains the last refused requests, the newest first: of each region's last refusals
    /// ([`failures`](Self::failures)) those of the same request together, and of a repeated request
    /// the last. At most 16 are explained. The reasons are those at the refusal, the chunks those
    /// of now; see [`AllocError::explain`].
    ///
    /// A request that one region refused may have been served by another. The refusals of a stuck
    /// region can't be read; it has an entry of its own, without a request.
    pub fn explain_refusals(&self) -> Vec<Explanation> {
        self.refusals_explained().collect()
    }

    /// The same, one after the other: each has all chunks of its regions.
    pub(crate) fn refusals_explained(&self) -> impl Iterator<Item = Explanation> {
        let now = clock::precise_now();
        let (mut unreadable, mut refused) = (Vec::new(), Vec::new());
        for region in self.regions() {
            match region.refused() {
                Ok(refusals) => refused.extend(refusals.into_iter().rev().map(|refusal| {
                    let age = refusal.when.age(now).unwrap_or_default();
                    (age, region.clone(), refusal)
                })),
                Err(stuck) => {
                    let cause = format!("{region}: {stuck}; its refusals can't be read");
                    unreadable.push(Explanation::without_regions(cause));
                }
            }
        }
        refused.sort_by_key(|(age, ..)| *age);
        let mut repeated: Vec<Repeated> = Vec::new();
        for (age, region, RefusedRequest { request, reason, .. }) in refused {
            match repeated.iter().position(|known| known.request == request) {
                None if repeated.len() == MOST_EXPLAINED => {}
                None => repeated.push(Repeated { request, age, by: vec![(region, reason)] }),
                Some(known) => {
                    let by = &mut repeated[known].by;
                    if by.iter().all(|(other, _)| *other != region) {
                        by.push((region, reason));
                    }
                }
            }
        }
        let patience = Patience::new();
        let explain = move |repeated| self.explain_repeated(repeated, &patience);
        repeated.into_iter().map(explain).chain(unreadable)
    }

    fn explain_repeated(
        &self,
        Repeated { request, age, by }: Repeated,
        patience: &Patience,
    ) -> Explanation {
        let mut names = self.0.askers.names();
        let device = names(request.asker());
        let mut knowledge = Knowledge { name: &mut names, note: &mut |_| (), patience };
        Explanation {
            request: Some(ChunkRequest::of(&request)),
            device,
            age: Some(age),
            cause: None,
            regions: by
                .into_iter()
                .map(|(region, reason)| region.explain(&request, reason, &mut knowledge))
                .collect(),
        }
    }

    fn explain_all(&self, refusals: &Refusals, note: &mut dyn FnMut(&mut Owner)) -> Explanation {
        let mut names = self.0.askers.names();
        let regions = self.regions();
        let request = refusals.iter().next().map(|refusal| refusal.request);
        let device = request.and_then(|request| names(request.asker()));
        let patience = Patience::new();
        let mut knowledge = Knowledge { name: &mut names, note, patience: &patience };
        let explained = |refusal: &Refusal| {
            let Refusal { region: name, reason, request } = refusal;
            let region = self.region(name).or_else(|| {
                // A private one goes by its range.
                regions.iter().find(|region| region.to_string() == *name).cloned()
            });
            match region {
                Some(region) => region.explain(request, reason.clone(), &mut knowledge),
                None => RegionExplanation {
                    region: name.clone(),
                    reason: reason.clone(),
                    request: ChunkRequest::of(request),
                    layout: None,
                },
            }
        };
        let regions = refusals.iter().map(explained).collect();
        Explanation {
            request: request.as_ref().map(ChunkRequest::of),
            device,
            age: None,
            cause: None,
            regions,
        }
    }
}

/// A request and the regions that refused it, each with its last reason.
struct Repeated {
    request: Request,
    /// The age of the last refusal.
    age: Duration,
    by: Vec<(Region, Reason)>,
}

impl Explanation {
    fn without_regions(cause: String) -> Self {
        let (request, device, age, regions) = (None, None, None, Vec::new());
        Explanation { request, device, age, cause: Some(cause), regions }
    }
}
