//! Why the region refused a request, from its books, and where its allocator would place the
//! request if chunks left.

mod new_instance;

use super::figures::{NotedChunk, noted_chunks};
use super::{Attached, DeviceAndType, Region};
use crate::core::books::RefusedRequest;
use crate::core::explain::{InUse, LeastObstacles, Obstacle, least_obstacles, ruled_out};
use crate::host::clock;
use crate::vocabulary::errors::{Reason, Stuck};
use crate::vocabulary::{
    AfterLeaving, ChunkRequest, Layout, LeastRoom, Owner, OwnersRoom, RegionExplanation, Room,
    RuledOut, by_owner,
};
use cma_api::{Alignment, Asker, PageRange, Pages, Request};
use new_instance::AtWork;
pub(crate) use new_instance::Patience;
use std::sync::Arc;

/// What an explanation needs beside the books.
pub(crate) struct Knowledge<'a> {
    /// Resolves requesters.
    pub(crate) name: &'a mut dyn FnMut(Asker) -> Option<DeviceAndType>,
    /// Adds what the host knows of a live chunk.
    pub(crate) note: &'a mut dyn FnMut(&mut Owner),
    /// How long allocators are waited for.
    pub(crate) patience: &'a Patience,
}

impl Region {
    /// Why it refused `request` for `reason`.
    ///
    /// The books are copied under the region's lock; what follows is done without it, with an
    /// allocator of its own.
    pub(crate) fn explain(
        &self,
        request: &Request,
        reason: Reason,
        knowledge: &mut Knowledge<'_>,
    ) -> RegionExplanation {
        RegionExplanation {
            region: self.to_string(),
            reason,
            request: ChunkRequest::of(request),
            layout: self.layout(request, knowledge),
        }
    }

    fn layout(&self, request: &Request, knowledge: &mut Knowledge<'_>) -> Option<Layout> {
        let (live, at_work) = {
            let state = self.enter().ok().filter(|state| state.registered)?;
            let at_work = match &state.attached {
                Attached::Allocator(service) => Some(AtWork {
                    name: service.name().to_string(),
                    plugin: service.plugin.clone(),
                    params: service.params(&state.choice).to_string(),
                }),
                Attached::Nothing { .. } | Attached::OutOfService { .. } => None,
            };
            (noted_chunks(&state.books), at_work)
        };
        let now = clock::precise_now();
        let owner = |chunk: NotedChunk| {
            let mut owner = chunk.owner(&mut *knowledge.name, now);
            let (range, set_aside) = (owner.range, owner.set_aside);
            (knowledge.note)(&mut owner);
            Owner { range, set_aside, ..owner }
        };
        let chunks: Vec<Owner> = live.into_iter().map(owner).collect();
        let mut layout = Layout {
            range: self.range(),
            allocator: at_work.as_ref().map(|at_work| at_work.name.clone()),
            chunks,
            ruled_out: RuledOut::default(),
            fits_empty: request.lowest_place(self.range()).is_some(),
            room: None,
        };
        layout.ruled_out = ruled_out(request, layout.holes());
        layout.room = least_room(&layout, request, at_work.as_ref(), knowledge.patience);
        Some(layout)
    }

    /// The last refusals as the books have them, oldest first.
    pub(crate) fn refused(&self) -> Result<Vec<RefusedRequest>, Stuck> {
        Ok(self.enter()?.books.refusals().cloned().collect())
    }
}

fn least_room(
    layout: &Layout,
    request: &Request,
    at_work: Option<&AtWork>,
    patience: &Patience,
) -> Option<LeastRoom> {
    let (shares, owners) = by_owner(&layout.chunks);
    let chunks = layout.chunks.iter().zip(&owners);
    let in_use: Vec<_> = chunks
        .map(|(chunk, owner)| InUse { range: chunk.range, owner: *owner, fixed: chunk.set_aside })
        .collect();
    let mut after = Afterwards { layout, request, at_work, patience, known: Vec::new() };
    let least = least_obstacles(layout.range, request, &in_use)?;

    let mut room = |Obstacle { chunks, pages, place, .. }: Obstacle| {
        let after = after.leaving(|n| chunks.contains(&n));
        Room { chunks, bytes: pages.bytes(), free: place, after }
    };
    let LeastObstacles { by_bytes, by_number, owners_by_bytes, owners_by_number } = least;
    let (by_bytes, by_number) = (room(by_bytes), room(by_number));
    let declined = |room: &Room| room.after == AfterLeaving::Declined;
    let wider = (declined(&by_bytes) && declined(&by_number))
        .then(|| least_obstacles(layout.range, &power_of_two(request)?, &in_use))
        .flatten()
        .map(|least| room(least.by_bytes))
        .filter(|room| matches!(room.after, AfterLeaving::Placed(_)));

    let mut owners_room = |Obstacle { chunks, place, .. }: Obstacle| {
        let mut leaving = owners[chunks].to_vec();
        leaving.sort_unstable();
        leaving.dedup();
        let after = after.leaving(|n| leaving.binary_search(&owners[n]).is_ok());
        let chunks = leaving.iter().map(|owner| shares[*owner].chunks).sum();
        OwnersRoom { owners: leaving, chunks, free: place, after }
    };
    let owners_by_bytes = owners_room(owners_by_bytes);
    let owners_by_number = owners_room(owners_by_number);
    Some(LeastRoom { by_bytes, by_number, owners_by_bytes, owners_by_number, wider })
}

/// Where a request is placed after chunks have left. Each set is asked about once.
struct Afterwards<'a> {
    layout: &'a Layout,
    request: &'a Request,
    at_work: Option<&'a AtWork>,
    patience: &'a Patience,
    known: Vec<(Arc<[PageRange]>, AfterLeaving)>,
}

impl Afterwards<'_> {
    /// After the chunks with these indices have left.
    fn leaving(&mut self, leaves: impl Fn(usize) -> bool) -> AfterLeaving {
        let Some(at_work) = self.at_work else { return AfterLeaving::NoAllocator };
        let chunks = self.layout.chunks.iter().enumerate();
        let staying: Arc<[PageRange]> =
            chunks.filter(|(n, _)| !leaves(*n)).map(|(_, chunk)| chunk.range).collect();
        if let Some((_, after)) = self.known.iter().find(|(known, _)| *known == staying) {
            return after.clone();
        }
        let range = self.layout.range;
        let after = at_work.place(range, self.request, staying.clone(), self.patience);
        self.known.push((staying, after.clone()));
        after
    }
}

/// The request for the next power of two, aligned to that, within the same limits. Allocators that
/// halve regions, or search by classes of sizes, are sure to serve the request in such a place.
fn power_of_two(request: &Request) -> Option<Request> {
    let pages = request.pages().get().checked_next_power_of_two().map(Pages::new)?;
    let alignment = Alignment::new(pages.bytes())?.max(request.alignment());
    let larger = Request::new(pages, alignment, request.asker())?;
    if request.is_limited() {
        larger.limited(request.window(), request.boundary())
    } else {
        Some(larger)
    }
}
