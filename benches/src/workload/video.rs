//! W2: the buffers of cameras, codecs and displays, in rings of equal buffers.

use super::{FIRST_PAGE, GIB, Op, Workload};
use crate::random::SplitMix64;
use cma_api::{Alignment, PageRange, Pages};
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Buffers of one kind: bytes, alignment in bytes, and the possible numbers of buffers in a ring.
struct Kind(u64, u64, RangeInclusive<u32>);

/// NV12 takes 1.5 bytes per pixel. Decoders write whole macroblocks, so 1080 lines are 1088.
const KINDS: [Kind; 8] = [
    Kind(3_133_440, 64 << 10, 6..=14),
    Kind(3_133_440, 4 << 10, 4..=10),
    Kind(1_382_400, 64 << 10, 6..=14),
    Kind(1_382_400, 4 << 10, 4..=10),
    Kind(12_441_600, 1 << 20, 3..=8),
    Kind(1 << 20, 1 << 20, 4..=8),
    Kind(1 << 20, 4 << 10, 4..=8),
    Kind(128 << 10, 128 << 10, 1..=4),
];

const STEPS: usize = 500_000;
const STEPS_BETWEEN_REBUILDS: usize = 500;

/// The live buffers of one kind, oldest first, in the ring's own slots.
struct Ring {
    pages: u32,
    alignment: Alignment,
    depths: RangeInclusive<u32>,
    live: VecDeque<u32>,
    empty: Vec<u32>,
}

impl Ring {
    fn allocate(&mut self, ops: &mut Vec<Op>) {
        let slot =
            self.empty.pop().expect("a ring has a slot for each buffer of its largest depth");
        self.live.push_back(slot);
        ops.push(Op::Allocate { slot, pages: self.pages, alignment: self.alignment });
    }

    fn free_oldest(&mut self, ops: &mut Vec<Op>) {
        let slot = self.live.pop_front().expect("a ring is never empty between steps");
        self.empty.push(slot);
        ops.push(Op::Free { slot });
    }

    fn rebuild(&mut self, random: &mut SplitMix64, ops: &mut Vec<Op>) {
        while !self.live.is_empty() {
            self.free_oldest(ops);
        }
        let (least, most) = (*self.depths.start(), *self.depths.end());
        for _ in 0..least + random.below(most - least + 1) {
            self.allocate(ops);
        }
    }
}

/// Builds all rings; then a random ring's oldest buffer is freed and a new one allocated, and every
/// 500 steps a random ring is torn down and rebuilt.
pub(super) fn rings() -> Workload {
    let mut random = SplitMix64::new(2);
    let mut slots = 0;
    let mut rings: Vec<Ring> = KINDS
        .into_iter()
        .map(|Kind(bytes, alignment, depths)| {
            let first = slots;
            slots += depths.end();
            Ring {
                pages: u32::try_from(Pages::covering(bytes).get())
                    .expect("a buffer of the table above"),
                alignment: Alignment::new(alignment).expect("a power of two"),
                depths,
                live: VecDeque::new(),
                empty: (first..slots).collect(),
            }
        })
        .collect();

    let mut setup = Vec::new();
    for ring in &mut rings {
        ring.rebuild(&mut random, &mut setup);
    }
    let mut measured = Vec::with_capacity(2 * STEPS);
    for step in 1..=STEPS {
        let which = random.below(8) as usize;
        if step % STEPS_BETWEEN_REBUILDS == 0 {
            rings[which].rebuild(&mut random, &mut measured);
        } else {
            rings[which].free_oldest(&mut measured);
            rings[which].allocate(&mut measured);
        }
    }
    let region = PageRange::from_pages(FIRST_PAGE, GIB / 4);
    Workload { name: "video".into(), region, slots, setup, measured }
}
