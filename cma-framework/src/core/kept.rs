//! Chunks that a device has freed and keeps for its next requests.
//!
//! They are magazines as of Bonwick and Adams, "Magazines and Vmem" (USENIX 2001): stacks of chunks
//! of one size, of which the one that was freed last is taken first, because it is the most likely
//! to be cached by the processor. Nothing is requested ahead: a stack is filled by frees alone, so
//! the first chunks of a device lie where they would without it.
//!
//! A kept chunk stays booked, for the device that freed it. What the books don't know of the chunks
//! that are taken again, how many they are and since when each is in use, is noted here, and
//! carried to the books before anything is read there.

use crate::core::books::{LiveChunk, Slot};
use crate::core::moment::Moment;
use crate::core::shape::Shape;
use cma_api::Pages;
use std::mem;

/// The most chunks of one size and alignment that are kept.
const DEPTH: usize = 64;

/// The stacks. The shape of a chunk selects the one that may hold it.
const STACKS: usize = 256;

/// The most chunks that are taken before the books must be told.
const MOST_TAKEN: usize = 256;

/// A stack that holds chunks of one shape is given to another shape when so many of those were
/// freed in a row while none of its own was requested.
const RIVALS: u32 = 8;

/// The chunks that one device keeps in one region.
#[derive(Debug)]
pub(crate) struct KeptChunks {
    stacks: Box<[Stack; STACKS]>,
    /// The stack of which some chunks go next when the limit is reached.
    next: usize,
    /// The pages of all kept chunks, and the most.
    pages: u64,
    most_pages: u64,
    taken: Taken,
}

/// Kept chunks of one shape, those freed last at the end.
#[derive(Debug, Default)]
struct Stack {
    shape: Shape,
    chunks: Vec<LiveChunk>,
    /// The chunks of another shape that were freed since one of this shape was requested.
    rivals: u32,
}

/// The chunks that were taken since the books were told.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The slot of each, and when it was taken. A chunk that was taken twice is there twice.
    pub(crate) since: Vec<(Slot, Moment)>,
    /// Their pages in total.
    pub(crate) pages: u64,
}

/// What has to go back to the region.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    /// What the books must be told first.
    pub(crate) taken: Taken,
    /// The chunks to be freed.
    pub(crate) chunks: Vec<LiveChunk>,
}

impl KeptChunks {
    /// Keeps up to `most` pages, of chunks of up to a quarter of that each.
    pub(crate) fn new(most: Pages) -> Self {
        KeptChunks {
            stacks: Box::new(std::array::from_fn(|_| Stack::default())),
            next: 0,
            pages: 0,
            most_pages: most.get(),
            taken: Taken { since: Vec::with_capacity(MOST_TAKEN), pages: 0 },
        }
    }

    /// A kept chunk of `shape`, in use from `now` on.
    #[inline]
    pub(crate) fn take(&mut self, shape: Shape, now: Moment) -> Option<LiveChunk> {
        let stack = &mut self.stacks[stack_of(shape)];
        if stack.shape != shape {
            return None;
        }
        let chunk = stack.chunks.pop()?;
        stack.rivals = 0;
        let pages = chunk.range.pages().get();
        self.pages -= pages;
        self.taken.since.push((chunk.slot, now));
        self.taken.pages += pages;
        Some(chunk)
    }

    /// Keeps a chunk of `shape`, if there is room for it without another one going. Returns whether
    /// there was.
    #[inline]
    #[must_use]
    pub(crate) fn keep(&mut self, shape: Shape, chunk: LiveChunk) -> bool {
        let stack = &mut self.stacks[stack_of(shape)];
        let pages = self.pages + chunk.range.pages().get();
        let has_room =
            stack.shape == shape && stack.chunks.len() < DEPTH && pages <= self.most_pages;
        if has_room {
            stack.chunks.push(chunk);
            self.pages = pages;
        }
        has_room
    }

    /// Whether the books must be told before another chunk is taken.
    #[inline]
    pub(crate) fn notes_are_full(&self) -> bool {
        self.taken.since.len() == MOST_TAKEN
    }

    /// Keeps a chunk for which there was no room, or returns it; and what goes to make room.
    #[cold]
    pub(crate) fn make_room(&mut self, shape: Shape, chunk: LiveChunk) -> Returned {
        let mut chunks = Vec::new();
        if self.admits(shape, chunk) {
            let pages = chunk.range.pages().get();
            if self.pages + pages > self.most_pages {
                self.shrink(self.most_pages - self.most_pages / 8 - pages, &mut chunks);
            }
            let at = stack_of(shape);
            let stack = &self.stacks[at];
            if stack.shape != shape {
                self.give_up(at, stack.chunks.len(), &mut chunks);
                (self.stacks[at].shape, self.stacks[at].rivals) = (shape, 0);
            } else if stack.chunks.len() == DEPTH {
                self.give_up(at, DEPTH / 2, &mut chunks);
            }
            self.stacks[at].chunks.push(chunk);
            self.pages += pages;
        } else {
            chunks.push(chunk);
        }
        Returned { taken: self.take_notes(), chunks }
    }

    /// Whether a chunk is kept, though another one may have to go for it. A stack of another shape
    /// is left to that until it has had so many rivals.
    fn admits(&mut self, shape: Shape, chunk: LiveChunk) -> bool {
        if chunk.range.pages().get() > self.most_pages / 4 || shape.pages() == Shape::HUGE {
            return false;
        }
        let stack = &mut self.stacks[stack_of(shape)];
        if stack.shape == shape || stack.chunks.is_empty() {
            return true;
        }
        stack.rivals += 1;
        stack.rivals >= RIVALS
    }

    /// Gives up chunks until `most` pages are kept. The stacks have their turn one after the other,
    /// each with the half that was freed first, so those that are not used any more become empty.
    fn shrink(&mut self, most: u64, gone: &mut Vec<LiveChunk>) {
        while self.pages > most {
            self.give_up(self.next, self.stacks[self.next].chunks.len().div_ceil(2), gone);
            self.next = (self.next + 1) % STACKS;
        }
    }

    /// Gives up the `count` chunks of the stack `at` that were freed first.
    fn give_up(&mut self, at: usize, count: usize, gone: &mut Vec<LiveChunk>) {
        for chunk in self.stacks[at].chunks.drain(..count) {
            self.pages -= chunk.range.pages().get();
            gone.push(chunk);
        }
    }

    /// Whether nothing is kept, and the books know all.
    pub(crate) fn is_unused(&self) -> bool {
        self.pages == 0 && self.taken.since.is_empty()
    }

    /// Gives up all kept chunks.
    pub(crate) fn empty(&mut self) -> Returned {
        let mut chunks = Vec::new();
        if self.pages > 0 {
            self.stacks.iter_mut().for_each(|stack| chunks.append(&mut stack.chunks));
            self.pages = 0;
        }
        Returned { taken: self.take_notes(), chunks }
    }

    /// What the books must be told.
    pub(crate) fn take_notes(&mut self) -> Taken {
        if self.taken.since.is_empty() {
            return Taken::default();
        }
        let fresh = Taken { since: Vec::with_capacity(MOST_TAKEN), pages: 0 };
        mem::replace(&mut self.taken, fresh)
    }
}

#[inline]
fn stack_of(shape: Shape) -> usize {
    (shape.hash() >> (u32::BITS - STACKS.ilog2())) as usize
}

#[cfg(test)]
mod tests;
