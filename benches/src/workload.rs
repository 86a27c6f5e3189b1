//! The workloads W1 to W6 and recorded traces, as lists of operations on slots.
//!
//! | workload | region | operations |
//! | --- | --- | --- |
//! | W1 `mixed` | 1 GiB | filled to 70 % with sizes log-uniform from 4 KiB to 1 MiB, then a random chunk is freed and one of another size allocated, repeatedly |
//! | `mixed-pow2` | 1 GiB | the same with sizes that are powers of two, for buddies |
//! | W2 `video` | 256 MiB | rings of video buffers with alignments, torn down and rebuilt with another depth |
//! | W3 `pages` | 1 GiB | single pages, half full in random places, a random one toggled |
//! | W4 `live-<n>` | as needed | n chunks log-uniform from 4 KiB to 256 KiB, 93 % full, one freed and another allocated |
//! | W5 `threads` | 1 GiB | W1's stream for one of two threads, each filling 35 % |
//! | W5 `toggles` | 1 GiB | single pages for one of two threads, a random one of half as many slots as pages toggled |
//! | W6 `huge-pages` | 16 GiB | chunks of 2 MiB aligned 2 MiB, half full, a random one toggled |
//! | `ffmpeg`, `gstreamer` | twice the peak | two of the recorded traces of `cma-trace`, repeated |
//!
//! A slot holds one chunk at a time. Every contestant gets the same operations, independently of
//! those that it refused; freeing a slot whose allocation failed does nothing.

mod recorded;
mod video;

use crate::random::SplitMix64;
use cma_api::{Alignment, PageRange};

/// An operation of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Allocate a chunk and store it in an empty slot.
    Allocate {
        /// The slot.
        slot: u32,
        /// The chunk's size.
        pages: u32,
        /// The alignment of its address.
        alignment: Alignment,
    },
    /// Free the chunk in a slot, which becomes empty.
    Free {
        /// The slot.
        slot: u32,
    },
}

/// A list of operations for a region, generated from a fixed seed.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The name.
    pub name: String,
    /// The region in which chunks are placed.
    pub region: PageRange,
    /// The number of slots, so the most chunks that are live at a time.
    pub slots: u32,
    /// Operations before the measurement.
    pub setup: Vec<Op>,
    /// Measured operations.
    pub measured: Vec<Op>,
}

/// The start of every region, 1 TiB, so that alignments are the same for peers that count from 0.
const FIRST_PAGE: u64 = 1 << 28;

/// The pages of a GiB.
const GIB: u64 = 1 << 18;

impl Workload {
    /// W1: a region under a mixed load.
    pub fn mixed() -> Self {
        Self::replacing("mixed", 1, 7, 1_000_000, |random| random.log_uniform_pages(256))
    }

    /// W1 with sizes that are powers of two, so that a buddy allocator wastes nothing.
    pub fn mixed_pow2() -> Self {
        Self::replacing("mixed-pow2", 2, 7, 1_000_000, |random| 1 << random.below(9))
    }

    /// W2: the buffers of video devices.
    pub fn video() -> Self {
        video::rings()
    }

    /// W3: single pages.
    pub fn pages() -> Self {
        Self::toggling("pages", 3, GIB, 1, Alignment::PAGE)
    }

    /// W4: `live` chunks in a region of which they fill 93 % on average. A million chunks are slow.
    pub fn live(live: u32) -> Self {
        let name = match live {
            1_000_000 => String::from("live-1m"),
            _ => format!("live-{}k", live / 1000),
        };
        let mut random = SplitMix64::new(4);
        let mut size = |random: &mut SplitMix64| random.log_uniform_pages(64);
        // The average of ceil(64^u) for u from 0 to 1 is 64 less the sum of log64(k) for k from 1
        // to 63.
        let average = 64.0 - (1..64).map(|k| f64::from(k).log(64.0)).sum::<f64>();
        let region = (f64::from(live) * average / 0.93) as u64;
        let setup: Vec<Op> = (0..live).map(|slot| page_aligned(slot, size(&mut random))).collect();
        let measured = replacements(&mut random, live, 500_000, &mut size);
        Workload {
            name,
            region: PageRange::from_pages(FIRST_PAGE, region),
            slots: live,
            setup,
            measured,
        }
    }

    /// W5: W1 for thread number `thread` of two. One region of 1 GiB holds both streams.
    pub fn threads(thread: u64) -> Self {
        let mut random_sizes = |random: &mut SplitMix64| random.log_uniform_pages(256);
        let half = Self::filling("threads", 0x50 + thread, 35, 100, 1_000_000, &mut random_sizes);
        Workload { region: PageRange::from_pages(FIRST_PAGE, GIB), ..half }
    }

    /// Toggles for thread number `thread` of at most two in one pool of 1 GiB: a random slot of the
    /// thread's own is freed if it holds a page, and filled otherwise.
    pub fn toggles(thread: u64) -> Self {
        let half = Self::toggling("toggles", 0x70 + thread, GIB / 2, 1, Alignment::PAGE);
        Workload { region: PageRange::from_pages(FIRST_PAGE, GIB), ..half }
    }

    /// A recorded trace: ffmpeg decodes, scales and encodes a 1080p film.
    pub fn ffmpeg() -> Self {
        recorded::trace("ffmpeg", cma_trace::DEMO)
    }

    /// A recorded trace: GStreamer starts and stops the pipelines of a phone's cameras and films at
    /// random.
    pub fn gstreamer() -> Self {
        const TRACE: &[u8] = include_bytes!("../../cma-trace/traces/gstreamer-phone.trace.gz");
        recorded::trace("gstreamer", TRACE)
    }

    /// W6: huge pages.
    pub fn huge_pages() -> Self {
        const ALIGNMENT: Alignment = Alignment::new(2 << 20).unwrap();
        Self::toggling("huge-pages", 6, 16 * GIB, 512, ALIGNMENT)
    }

    fn replacing(
        name: &str,
        seed: u64,
        tenths: u64,
        pairs: usize,
        mut size: impl FnMut(&mut SplitMix64) -> u32,
    ) -> Self {
        Self::filling(name, seed, tenths, 10, pairs, &mut size)
    }

    /// Fills `numerator / denominator` of a GiB, then frees a random chunk and allocates another,
    /// `pairs` times.
    fn filling(
        name: &str,
        seed: u64,
        numerator: u64,
        denominator: u64,
        pairs: usize,
        size: &mut impl FnMut(&mut SplitMix64) -> u32,
    ) -> Self {
        let mut random = SplitMix64::new(seed);
        let mut setup = Vec::new();
        let (mut filled, mut slots) = (0, 0);
        while filled * denominator < GIB * numerator {
            let pages = size(&mut random);
            setup.push(page_aligned(slots, pages));
            filled += u64::from(pages);
            slots += 1;
        }
        let measured = replacements(&mut random, slots, pairs, size);
        Workload {
            name: name.into(),
            region: PageRange::from_pages(FIRST_PAGE, GIB),
            slots,
            setup,
            measured,
        }
    }

    /// Fills the region with equal chunks, frees a random half of them, then toggles random slots
    /// two million times.
    fn toggling(name: &str, seed: u64, region: u64, pages: u32, alignment: Alignment) -> Self {
        let mut random = SplitMix64::new(seed);
        let slots = u32::try_from(region / u64::from(pages)).expect("a region of the table above");
        let mut live = vec![true; slots as usize];
        let mut toggle = |slot: u32| {
            let is_live = &mut live[slot as usize];
            *is_live = !*is_live;
            if *is_live { Op::Allocate { slot, pages, alignment } } else { Op::Free { slot } }
        };
        let mut setup: Vec<Op> =
            (0..slots).map(|slot| Op::Allocate { slot, pages, alignment }).collect();
        setup.extend((0..slots).filter(|_| random.below(2) == 0).map(&mut toggle));
        let measured = (0..2_000_000).map(|_| toggle(random.below(slots))).collect();
        let region = PageRange::from_pages(FIRST_PAGE, region);
        Workload { name: name.into(), region, slots, setup, measured }
    }
}

/// `pairs` times: frees the chunk of a random slot and allocates one of a new size in its place.
fn replacements(
    random: &mut SplitMix64,
    slots: u32,
    pairs: usize,
    size: &mut impl FnMut(&mut SplitMix64) -> u32,
) -> Vec<Op> {
    let mut ops = Vec::with_capacity(2 * pairs);
    for _ in 0..pairs {
        let slot = random.below(slots);
        ops.push(Op::Free { slot });
        ops.push(page_aligned(slot, size(random)));
    }
    ops
}

fn page_aligned(slot: u32, pages: u32) -> Op {
    Op::Allocate { slot, pages, alignment: Alignment::PAGE }
}

#[cfg(test)]
mod tests;
