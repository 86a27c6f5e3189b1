//! Memory of a region that nobody can be given for a while, because of what a process did that had
//! it before: a chunk whose memory is in that state moves to another place, and the part that can't
//! be had is *set aside*.
//!
//! What is set aside stays booked, as nobody's, so that the allocator hands it out to nobody. The
//! region looks at it again when a request would be refused, and when the host calls
//! [`Cma::recover_memory`](crate::Cma::recover_memory), less and less often. The memory port runs
//! without the region's lock.

use super::attach::Attached;
use super::chunks::{Overlaps, Slot};
use super::lock::Left;
use super::{Region, State};
use crate::core::memory::{Memory, Unusable};
use crate::host::clock::Moment;
use crate::host::events::{self, Event};
use cma_api::abi_stable::std_types::RResult;
use cma_api::{Asker, PageRange, Placement, Request, Tag};
use std::time::{Duration, Instant};

/// How soon memory is looked at for the first time. A process that is killed closes its connection
/// some microseconds before its memory is gone.
const SOON: Duration = Duration::from_millis(2);

/// The longest time between two looks at memory that somebody holds.
const SELDOM: Duration = Duration::from_millis(500);

/// The same for memory that is lost: a look may take pages out of a pool.
const RARELY: Duration = Duration::from_secs(10);

/// How many parts one look looks at. The oldest come first, so each has its turn.
const MOST_LOOKED_AT: usize = 32;

/// A part of the region that is set aside. It is booked as a live chunk.
#[derive(Debug)]
pub(super) struct Aside {
    live: Live,
    lost: bool,
    due: Instant,
    wait: Duration,
}

/// What it takes to free a live chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) range: PageRange,
    pub(super) tag: Tag,
    pub(super) slot: Slot,
}

/// Why a region is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is time to.
    Due,
    /// A request would be refused. To look at memory that somebody holds costs little and is always
    /// done.
    Needed,
}

/// What came of a look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looked {
    /// Whether some memory is free again.
    pub(crate) recovered: bool,
    /// When the next look is due; `None` when nothing is set aside.
    pub(crate) next: Option<Instant>,
}

impl Region {
    /// Moves a chunk to another place of this region and sets aside the part of it that is
    /// `unusable`.
    ///
    /// # Errors
    ///
    /// The chunk, when there is no other place. It is where it was.
    pub(super) fn move_away(
        &self,
        chunk: Live,
        request: &Request,
        unusable: &Unusable,
    ) -> Result<Live, Live> {
        // In a stuck region the chunk stays where it is.
        let mut state = self.enter().map_err(|_| chunk)?;
        let moved = state.move_away(self, chunk, request, unusable);
        if let Ok(moved) = moved {
            state.tell(Event::Aside { range: unusable.range, now: Some(moved.range) });
            if events::on() {
                state.tell(Event::Released { range: chunk.range });
            }
        }
        moved
    }

    /// Sets aside the part of a chunk that is `unusable` and frees the rest. All of it is set aside
    /// when the allocator can't have a chunk there.
    pub(super) fn set_aside(&self, chunk: Live, unusable: &Unusable) {
        let Live { range, tag, slot } = chunk;
        let Some((mut state, _)) = self.enter_or_leave(Left::Free { slot, range, tag }) else {
            // All of it is freed when the region goes on; whoever gets it next finds its memory
            // unusable.
            return;
        };
        let aside = state.narrow(self, chunk, unusable.range);
        state.keep_aside(aside, unusable);
        state.tell(Event::Aside { range: aside.range, now: None });
        if events::on() {
            state.tell(Event::Released { range: chunk.range });
        }
    }

    /// Looks again at memory that was set aside and frees what can be had again. Whoever is given
    /// it next has it zeroed.
    pub(crate) fn look_aside(&self, look: Look) -> Looked {
        const NOTHING: Looked = Looked { recovered: false, next: None };
        let Some(memory) = self.memory() else { return NOTHING };
        let chosen = match self.enter() {
            Ok(mut state) => state.choose(look, Instant::now()),
            Err(_) => return NOTHING,
        };
        let mut recovered = false;
        for aside in chosen {
            recovered |= self.look_at(aside, &*memory);
        }
        let next =
            self.enter().ok().and_then(|state| state.aside.iter().map(|aside| aside.due).min());
        Looked { recovered, next }
    }

    fn look_at(&self, mut aside: Aside, memory: &dyn Memory) -> bool {
        let Live { range, tag, slot } = aside.live;
        match Unusable::check(memory, range) {
            Ok(()) => {
                self.now_or_later(Left::Free { slot, range, tag });
                Event::Recovered { range }.tell(self);
                true
            }
            Err(unusable) => {
                aside.lost = unusable.is_none_or(|unusable| unusable.lost);
                aside.wait = (aside.wait * 2).min(if aside.lost { RARELY } else { SELDOM });
                aside.due = Instant::now() + aside.wait;
                self.now_or_later(Left::Aside(aside));
                false
            }
        }
    }
}

impl State {
    /// Frees all that is set aside, because the region ends.
    pub(super) fn free_aside(&mut self, region: &Region) {
        for Aside { live: Live { range, tag, slot }, .. } in std::mem::take(&mut self.aside) {
            let freed = self.free_slot(slot, range, tag);
            self.took_back(region, range, freed);
        }
    }

    fn keep_aside(&mut self, live: Live, unusable: &Unusable) {
        let due = Instant::now() + SOON;
        self.aside.push_back(Aside { live, lost: unusable.lost, due, wait: SOON });
    }

    /// Takes out what is to be looked at now. It stays booked.
    fn choose(&mut self, look: Look, now: Instant) -> Vec<Aside> {
        let mut chosen = Vec::new();
        for _ in 0..self.aside.len() {
            let Some(aside) = self.aside.pop_front() else { break };
            let wanted = aside.due <= now || look == Look::Needed && !aside.lost;
            if wanted && chosen.len() < MOST_LOOKED_AT {
                chosen.push(aside);
            } else {
                self.aside.push_back(aside);
            }
        }
        chosen
    }

    fn move_away(
        &mut self,
        region: &Region,
        chunk: Live,
        request: &Request,
        unusable: &Unusable,
    ) -> Result<Live, Live> {
        let asker = request.asker();
        if !matches!(self.attached, Attached::Allocator(_)) {
            return Err(chunk);
        }
        let aside = self.narrow(region, chunk, unusable.range);
        let placed = match &mut self.attached {
            Attached::Allocator(service) => service.object.allocate(request),
            _ => return Err(self.stay(region, aside, chunk.range, asker)),
        };
        let moved = match placed {
            RResult::ROk(Placement { range, tag }) => {
                match region.book(self, request, range, Moment::now()) {
                    Ok(slot) => Ok(Live { range, tag, slot }),
                    Err(fault) => {
                        region.misplaced(self, request, fault);
                        Err(self.stay(region, aside, chunk.range, asker))
                    }
                }
            }
            RResult::RErr(cma_api::v1::CallFailure::Panicked) => {
                self.end_service(region, "it panicked while allocating");
                Err(self.stay(region, aside, chunk.range, asker))
            }
            RResult::RErr(_) => Err(self.stay(region, aside, chunk.range, asker)),
        };
        if moved.is_ok() {
            self.keep_aside(aside, unusable);
        }
        moved
    }

    /// Frees a chunk and books what is `unusable` there as nobody's: as much of that as is free, or
    /// all of the chunk if the allocator can't adopt a part. The answer is what is booked.
    fn narrow(&mut self, region: &Region, chunk: Live, unusable: PageRange) -> Live {
        let Live { range, tag, slot } = chunk;
        let freed = self.free_slot(slot, range, tag);
        self.took_back(region, range, freed);
        let parts = [overlap(unusable, region.range()), overlap(unusable, range), Some(range)];
        let adopted = parts
            .into_iter()
            .flatten()
            .find_map(|part| self.adopt_for(region, part, Asker::NOBODY));
        adopted.unwrap_or_else(|| self.keep_without_allocator(region, range, Asker::NOBODY))
    }

    /// Undoes [`narrow`](Self::narrow): the chunk is `range` again, and `asker`'s.
    fn stay(&mut self, region: &Region, aside: Live, range: PageRange, asker: Asker) -> Live {
        let freed = self.free_slot(aside.slot, aside.range, aside.tag);
        self.took_back(region, aside.range, freed);
        let stayed = self.adopt_for(region, range, asker);
        stayed.unwrap_or_else(|| self.keep_without_allocator(region, range, asker))
    }

    /// Books `range` and has the allocator adopt it. `None` when a part of it is taken, or the
    /// allocator can't.
    fn adopt_for(&mut self, region: &Region, range: PageRange, asker: Asker) -> Option<Live> {
        let slot = self.chunks.book(range, asker, Moment::now()).ok()?;
        match self.adopt(region, range) {
            Some(tag) => {
                self.account.keeps(range.pages());
                Some(Live { range, tag, slot })
            }
            None => {
                self.chunks.unbook(slot, range, Tag(0));
                None
            }
        }
    }

    /// Books `range`, which is free, although its allocator can't adopt it; then that is out of
    /// service.
    fn keep_without_allocator(&mut self, region: &Region, range: PageRange, asker: Asker) -> Live {
        if matches!(self.attached, Attached::Allocator(_)) {
            self.end_service(
                region,
                &format!("it can't adopt {range}, which it had placed itself"),
            );
        }
        let booked = self.chunks.book(range, asker, Moment::now());
        let slot =
            booked.unwrap_or_else(|Overlaps| unreachable!("its pages were free under this lock"));
        self.account.keeps(range.pages());
        // Nobody looks at the tag before another allocator has adopted the chunk.
        Live { range, tag: Tag(0), slot }
    }
}

/// The pages of `one` that `other` has, too.
fn overlap(one: PageRange, other: PageRange) -> Option<PageRange> {
    let first = one.first_page().max(other.first_page());
    let end = one.end_page().min(other.end_page());
    (first < end).then(|| PageRange::from_pages(first, end - first))
}
