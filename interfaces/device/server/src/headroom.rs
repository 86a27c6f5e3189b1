//! Memory that the server needs to serve a request, besides that of chunks. Where there is none, a
//! request is refused; an allocation that failed in the middle of serving it would end the process.

use parking_lot::Mutex;
use std::hint::black_box;

/// More than serving one request takes: the messages, the books, and tables of the framework that
/// grow. It is in blocks, because memory that many clients gave back is in parts.
const BLOCKS: usize = 8;

/// The size of a block in bytes.
const BLOCK: usize = 32 << 10;

type Blocks = [Vec<u8>; BLOCKS];

/// As much is kept, and given up when nothing is left, so that clients can be told so and chunks
/// can be freed.
#[derive(Debug)]
pub(crate) struct Headroom(Mutex<Option<Blocks>>);

impl Headroom {
    pub(crate) fn new() -> Self {
        Headroom(Mutex::new(blocks(BLOCK)))
    }

    /// Whether there is memory for one more request. It is a look and no promise: other threads
    /// take from the same.
    pub(crate) fn is_there(&self) -> bool {
        let kept = &mut *self.0.lock();
        if kept.is_none() {
            *kept = blocks(BLOCK);
        }
        // What was had and given back stays with the allocator of the process, for the request.
        let is_there = kept.is_some() && blocks(BLOCK).is_some();
        if !is_there {
            *kept = None;
        }
        is_there
    }
}

/// Blocks of that size, if there is memory for them.
fn blocks(bytes: usize) -> Option<Blocks> {
    let mut blocks = Blocks::default();
    let are_there = blocks.iter_mut().all(|block| block.try_reserve_exact(bytes).is_ok());
    // Memory that nobody uses might be none.
    are_there.then(|| black_box(blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_had_is_seen_without_harm() {
        assert!(blocks(isize::MAX as usize).is_none());
        let headroom = Headroom::new();
        assert!(headroom.is_there() && headroom.0.lock().is_some());
    }
}
