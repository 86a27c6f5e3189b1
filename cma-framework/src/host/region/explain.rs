//! Why the region refused a request, from its books, and where its allocator would place the
//! request if chunks left.

mod new_instance;

use super::figures::noted_chunks;
use super::{Attached, DeviceAndType, Region};
use crate::core::books::RefusedRequest;
use crate::core::explain::{InUse, LeastObstacles, Obstacle, least_obstacles, ruled_out};
use crate::host::clock;
use crate::vocabulary::errors::{Reason, Stuck};
use crate::vocabulary::{
    AfterLeaving, ChunkRequest, Layout, LeastRoom, Owner, RegionExplanation, Room, RuledOut,
};
use cma_api::{Alignment, Asker, Pages, Request};
use new_instance::AtWork;

impl Region {
    /// Why it refused `request` for `reason`. `name` resolves requesters.
    ///
    /// The books are copied under the region's lock; what follows is done without it, with an
    /// allocator of its own.
    pub(crate) fn explain(
        &self,
        request: &Request,
        reason: Reason,
        name: impl FnMut(Asker) -> Option<DeviceAndType>,
    ) -> RegionExplanation {
        RegionExplanation {
            region: self.to_string(),
            reason,
            request: ChunkRequest::of(request),
            layout: self.layout(request, name),
        }
    }

    fn layout(
        &self,
        request: &Request,
        mut name: impl FnMut(Asker) -> Option<DeviceAndType>,
    ) -> Option<Layout> {
        let (live, at_work) = {
            let state = self.enter().ok().filter(|state| state.registered)?;
            let at_work = match &state.attached {
                Attached::Allocator(service) => Some(AtWork {
                    name: service.name().to_string(),
                    plugin: service.plugin.clone(),
                    params: state.choice.params().to_string(),
                }),
                Attached::Nothing { .. } | Attached::OutOfService { .. } => None,
            };
            (noted_chunks(&state.books), at_work)
        };
        let now = clock::precise_now();
        let chunks: Vec<Owner> = live.into_iter().map(|c| c.owner(&mut name, now)).collect();
        let mut layout = Layout {
            range: self.range(),
            allocator: at_work.as_ref().map(|at_work| at_work.name.clone()),
            chunks,
            ruled_out: RuledOut::default(),
            room: None,
        };
        layout.ruled_out = ruled_out(request, layout.holes());
        layout.room = least_room(&layout, request, at_work.as_ref());
        Some(layout)
    }

    /// The last refusals as the books have them, oldest first.
    pub(crate) fn refused(&self) -> Result<Vec<RefusedRequest>, Stuck> {
        Ok(self.enter()?.books.refusals().cloned().collect())
    }
}

fn least_room(layout: &Layout, request: &Request, at_work: Option<&AtWork>) -> Option<LeastRoom> {
    let chunks = layout.chunks.iter();
    let in_use: Vec<_> =
        chunks.map(|chunk| InUse { range: chunk.range, fixed: chunk.set_aside }).collect();
    let room = |Obstacle { chunks, pages, place }: Obstacle| {
        let (below, above) = (&in_use[..chunks.start], &in_use[chunks.end..]);
        let staying = below.iter().chain(above).map(|chunk| chunk.range).collect();
        let after = match at_work {
            None => AfterLeaving::NoAllocator,
            Some(at_work) => at_work.place(layout.range, request, staying),
        };
        Room { chunks, bytes: pages.bytes(), free: place, after }
    };
    let LeastObstacles { by_bytes, by_number } = least_obstacles(layout.range, request, &in_use)?;
    let same = by_bytes.chunks == by_number.chunks;
    let by_bytes = room(by_bytes);
    let by_number = if same { by_bytes.clone() } else { room(by_number) };
    let declined = |room: &Room| room.after == AfterLeaving::Declined;
    let wider = (declined(&by_bytes) && declined(&by_number))
        .then(|| least_obstacles(layout.range, &power_of_two(request)?, &in_use))
        .flatten()
        .map(|least| room(least.by_bytes))
        .filter(|room| matches!(room.after, AfterLeaving::Placed(_)));
    Some(LeastRoom { by_bytes, by_number, wider })
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
