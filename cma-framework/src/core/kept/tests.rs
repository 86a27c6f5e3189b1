use super::*;
use cma_api::{Alignment, PageRange, Tag};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn chunk(slot: u32, pages: u64) -> (Shape, LiveChunk) {
    let range = PageRange::from_pages(u64::from(slot) * 1000, pages);
    let shape = Shape::new(range.pages(), Alignment::PAGE);
    (shape, LiveChunk { range, tag: Tag(u64::from(slot)), slot: Slot::NONE })
}

proptest! {
    /// Of whatever is put in, everything comes out once: taken, returned to make room, or given up.
    #[test]
    fn nothing_is_lost_and_nothing_comes_out_twice(
        most in 0..400_u64,
        steps in prop::collection::vec((0..3_u8, 1..40_u64), 1..600),
    ) {
        let mut kept = KeptChunks::new(Pages::new(most));
        // By slot, the pages of each chunk that should be kept.
        let mut inside: BTreeMap<u64, u64> = BTreeMap::new();
        let mut taken = 0;
        for ((step, pages), slot) in steps.into_iter().zip(0..) {
            let (shape, new) = chunk(slot, pages);
            if step == 0 {
                if kept.notes_are_full() {
                    taken -= kept.take_notes().since.len();
                }
                if let Some(chunk) = kept.take(shape, Moment::UNKNOWN) {
                    prop_assert_eq!(inside.remove(&chunk.tag.0), Some(pages));
                    taken += 1;
                }
                continue;
            }
            inside.insert(new.tag.0, pages);
            if !kept.keep(shape, new) {
                let returned = kept.make_room(shape, new);
                taken -= returned.taken.since.len();
                for chunk in returned.chunks {
                    prop_assert_eq!(inside.remove(&chunk.tag.0), Some(chunk.range.pages().get()));
                }
            }
            prop_assert_eq!(inside.values().sum::<u64>(), kept.pages);
            prop_assert!(kept.pages <= most);
        }
        let returned = kept.empty();
        prop_assert_eq!(returned.taken.since.len(), taken);
        for chunk in returned.chunks {
            prop_assert_eq!(inside.remove(&chunk.tag.0), Some(chunk.range.pages().get()));
        }
        prop_assert!(inside.is_empty());
    }
}

#[test]
fn a_stack_goes_to_the_shape_that_recurs() {
    let (first, held) = chunk(1, 1);
    let same_stack = |pages: &u64| stack_of(chunk(2, *pages).0) == stack_of(first);
    let pages = (2..10_000).find(same_stack).unwrap();
    let (rival, new) = chunk(2, pages);
    let mut kept = KeptChunks::new(Pages::new(1 << 20));
    let returned =
        |returned: Returned| returned.chunks.iter().map(|chunk| chunk.tag.0).collect::<Vec<_>>();
    assert_eq!(returned(kept.make_room(first, held)), [0; 0]);
    for _ in 1..RIVALS {
        assert!(!kept.keep(rival, new));
        assert_eq!(returned(kept.make_room(rival, new)), [2]);
    }
    // A request for the first one would let it stay longer.
    let mut asked = KeptChunks::new(Pages::new(1 << 20));
    assert_eq!(returned(asked.make_room(first, held)), [0; 0]);
    for _ in 0..2 * RIVALS {
        assert_eq!(returned(asked.make_room(rival, new)), [2]);
        assert!(asked.take(first, Moment::UNKNOWN).is_some());
        assert!(asked.keep(first, held));
    }
    assert_eq!(returned(kept.make_room(rival, new)), [1]);
    assert_eq!(kept.take(rival, Moment::UNKNOWN).map(|chunk| chunk.tag.0), Some(2));
}
