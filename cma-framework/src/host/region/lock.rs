//! Waiting for a region: its one lock, and what is left for later when an allocator doesn't return.
//!
//! Nothing but the allocator runs under the lock. What else a change of the state brings about, log
//! lines and the ends of objects that belong to a plug-in, is collected in [`State::after`] and
//! happens when the lock is free again.
//!
//! Who waits in vain for [`PATIENCE`] finds the region *stuck*. A request is refused then. A free
//! can't be refused: it is noted in [`Late`], outside the lock, and carried out by whoever gets the
//! lock next and looks at the books or places a chunk.

use super::account::Refusals;
use super::aside::Aside;
use super::chunks::{ChunkTable, Slot};
use super::holder::Holder;
use super::{Region, State};
use crate::host::events::Event;
use crate::vocabulary::errors::Stuck;
use cma_api::{PageRange, Placement, Tag};
use spin::mutex::SpinMutexGuard;
use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{mem, thread};

/// How long who waits for a region sleeps before looking again, at first.
const SHORTEST_NAP: Duration = Duration::from_micros(50);

/// The same, in the end.
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// For how long a region is waited for until it is taken for stuck. Only the naps are counted, so a
/// machine that stood still for a while makes no region stuck.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same for a region that was found stuck before.
const PATIENCE_WHEN_STUCK: Duration = Duration::from_millis(20);

/// What happens when the lock is free again.
pub(super) enum After {
    Tell(Event),
    /// Something whose end may run a plug-in's or a host's code.
    End(Box<dyn Any + Send>),
}

/// What is left to do for whoever gets the lock next.
#[derive(Default)]
pub(super) struct Late {
    /// Since when the region is known to be stuck.
    since: Option<Instant>,
    left: Vec<Left>,
    refusals: Refusals,
}

/// Something that waits for the lock.
pub(super) enum Left {
    /// Free the chunk of a guard.
    Free { slot: Slot, range: PageRange, tag: Tag },
    /// Make a chunk known by its address.
    Index { slot: Slot, tag: Tag },
    /// Note who has a chunk.
    Hold { slot: Slot, holder: Arc<Holder> },
    /// Free the chunk that starts at this page and is known by its address.
    FreeAt { first: u64 },
    /// Set a part aside again that was looked at.
    Aside(Aside),
}

/// The state of a region, for this thread alone. When it goes, what the state has collected
/// happens.
pub(super) struct Inside<'a> {
    region: &'a Region,
    /// `None` only while it goes.
    state: Option<SpinMutexGuard<'a, State>>,
}

impl<'a> Inside<'a> {
    pub(super) fn new(region: &'a Region, state: SpinMutexGuard<'a, State>) -> Self {
        Inside { region, state: Some(state) }
    }
}

impl Deref for Inside<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state.as_ref().unwrap_or_else(|| unreachable!("the state is there until the end"))
    }
}

impl DerefMut for Inside<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.state.as_mut().unwrap_or_else(|| unreachable!("the state is there until the end"))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        let after = mem::take(&mut state.after);
        drop(state);
        for after in after {
            match after {
                After::Tell(event) => event.tell(self.region),
                After::End(object) => drop(object),
            }
        }
    }
}

impl State {
    /// Has `event` told when the lock is free again.
    pub(super) fn tell(&mut self, event: Event) {
        self.after.push(After::Tell(event));
    }

    /// Drops `object` when the lock is free again.
    pub(super) fn end_later(&mut self, object: impl Any + Send) {
        self.after.push(After::End(Box::new(object)));
    }
}

impl Region {
    /// The region's state.
    ///
    /// # Errors
    ///
    /// [`Stuck`] when its allocator doesn't return.
    pub(super) fn enter(&self) -> Result<Inside<'_>, Stuck> {
        let state = match self.0.state.try_lock() {
            Some(state) => state,
            None => self.wait(PATIENCE_WHEN_STUCK)?,
        };
        Ok(self.settled(state))
    }

    /// The state, with everything done that was left for later.
    pub(super) fn settled<'a>(&'a self, state: SpinMutexGuard<'a, State>) -> Inside<'a> {
        let mut inside = Inside::new(self, state);
        if self.0.most.load(Ordering::Relaxed) == 0 {
            self.settle(&mut inside);
        }
        inside
    }

    /// Waits for a region that another thread is in; if it is known to be stuck, for no longer than
    /// `when_stuck`.
    ///
    /// A request is over in a tenth of a microsecond, less than it takes to bring the region's
    /// books from one core to another. So whoever finds the region taken leaves it alone for the
    /// time of some ten requests, which the other thread does with the books in its own cache, and
    /// then it is this one's turn. An allocator that takes long is waited for in naps: nobody is
    /// woken, so that giving a region back is one plain store, without a look at who waits.
    #[cold]
    fn wait(&self, when_stuck: Duration) -> Result<SpinMutexGuard<'_, State>, Stuck> {
        for round in 0..64 {
            // Not all the same time, or two threads could miss each other's gaps again and again.
            for _ in 0..32 + round % 4 * 16 {
                std::hint::spin_loop();
            }
            if let Some(state) = self.0.state.try_lock() {
                return Ok(state);
            }
        }
        let began = Instant::now();
        let patience = if self.late().since.is_some() { when_stuck } else { PATIENCE };
        let (mut napped, mut nap) = (Duration::ZERO, SHORTEST_NAP);
        while napped < patience {
            thread::sleep(nap);
            if let Some(state) = self.0.state.try_lock() {
                return Ok(state);
            }
            napped += nap;
            nap = LONGEST_NAP.min(nap * 2);
        }
        Err(self.found_stuck(began))
    }

    /// Notes that the region is stuck, since `began` or longer.
    fn found_stuck(&self, began: Instant) -> Stuck {
        let mut late = self.late();
        let is_news = late.since.is_none();
        let since = *late.since.get_or_insert(began);
        self.0.most.store(0, Ordering::Relaxed);
        drop(late);
        let stuck =
            Stuck { allocator: self.0.shown.load().worker.clone(), at_least: since.elapsed() };
        if is_news {
            Event::Stuck(stuck.clone()).tell(self);
        }
        stuck
    }

    fn late(&self) -> MutexGuard<'_, Late> {
        self.0.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, or `left` is noted for whoever gets the lock next.
    #[cold]
    pub(super) fn enter_or_leave(&self, left: Left) -> Option<(Inside<'_>, Left)> {
        let state = match self.0.state.try_lock() {
            Some(state) => state,
            None => match self.wait(Duration::ZERO) {
                Ok(state) => state,
                Err(_) => {
                    self.leave(|late| late.left.push(left));
                    return None;
                }
            },
        };
        Some((self.settled(state), left))
    }

    /// Does `left` now, or leaves it for whoever gets the lock next.
    #[cold]
    pub(super) fn now_or_later(&self, left: Left) {
        if let Some((mut inside, left)) = self.enter_or_leave(left) {
            self.carry_out(&mut inside, left);
        }
    }

    /// Whether the chunk at page `first` is to be freed already.
    pub(super) fn is_left_to_free(&self, page: u64) -> bool {
        self.late().left.iter().any(|left| matches!(left, Left::FreeAt { first } if *first == page))
    }

    /// Notes a refusal in the books, now or when they can be had.
    pub(super) fn note_refusal(&self, request: &cma_api::Request, reason: &crate::Reason) {
        self.leave(|late| late.refusals.note(request, reason));
    }

    fn leave(&self, note: impl FnOnce(&mut Late)) {
        let mut late = self.late();
        note(&mut late);
        self.0.most.store(0, Ordering::Relaxed);
        drop(late);
        // The lock may have been given back just before.
        if let Some(state) = self.0.state.try_lock() {
            self.settled(state);
        }
    }

    /// Does what was left for whoever gets the lock next.
    #[cold]
    fn settle(&self, inside: &mut Inside<'_>) {
        let mut late = self.late();
        let Late { since, left, refusals } = mem::take(&mut *late);
        self.0.most.store(ChunkTable::MOST, Ordering::Relaxed);
        drop(late);
        inside.account.refusals.append(refusals);
        if since.is_some() {
            inside.tell(Event::Resumed { left: left.len() });
        }
        for left in left {
            self.carry_out(inside, left);
        }
    }

    fn carry_out(&self, state: &mut State, left: Left) {
        match left {
            Left::Free { slot, range, tag } => state.free(self, slot, range, tag),
            Left::Index { slot, tag } => state.chunks.index(slot, tag),
            Left::Hold { slot, holder } => state.chunks.hold(slot, holder),
            Left::FreeAt { first } => match state.chunks.unindex(first) {
                Some((slot, Placement { range, tag })) => state.free(self, slot, range, tag),
                None => {
                    state
                        .tell(Event::NotFreed { address: PageRange::from_pages(first, 1).start() });
                }
            },
            Left::Aside(aside) => state.aside.push_back(aside),
        }
    }
}
