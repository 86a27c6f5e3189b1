//! Recordings with small differences, and what packing needs for them.

use super::choices::Random;
use crate::demand::Demand;
use cma_api::{Allocator, PageRange, Placement, Request};
use cma_packing::{Packing, Profile};

/// The share of the chunks that a copy leaves out, and of those that it requests twice.
const DIFFERENT: f64 = 0.01;

/// A chunk that is a larger part of the peak is not requested twice: it would raise the peak.
const LARGE: u64 = 32;

/// The steps of the sizes that are tried, as parts of the peak: small ones where a large one fails.
const STEPS: [u64; 2] = [128, 1024];

/// A recording, or one that differs from it: some chunks are left out, some are requested twice, so
/// that they get other places.
pub(super) struct Copy {
    steps: Vec<Step>,
    /// The number of chunks.
    chunks: usize,
    /// The first page of the region.
    start: u64,
    peak: u64,
    /// The fewest pages that a region needs.
    least: u64,
    most: u64,
}

#[derive(Clone, Copy)]
enum Step {
    /// Requests the next chunk.
    Allocate(Request),
    /// Frees a chunk, by its number.
    Free(u32),
}

impl Copy {
    /// Copy number `seed` of the recording `demand`; 0 is the recording itself.
    pub(super) fn of(demand: &Demand<'_>, seed: u64) -> Copy {
        let mut random = Random::new(seed);
        let large = demand.peak().pages.get() / LARGE;
        // What happens at an operation, in this order: a chunk is freed, or requested.
        let mut frees: Vec<(u32, u32)> = Vec::new();
        let (mut steps, mut chunks) = (Vec::new(), 0);
        let mut events = Vec::new();
        for chunk in demand.chunks() {
            let luck = if seed == 0 { 0.5 } else { random.unit() };
            if luck < DIFFERENT {
                continue;
            }
            let twice = luck > 1.0 - DIFFERENT && chunk.pages() <= large;
            events.push((chunk.birth, twice, chunk.request));
            frees.push((chunk.death, events.len() as u32 - 1));
        }
        frees.sort_unstable();
        let mut frees = frees.into_iter().peekable();
        let (mut live, mut peak) = (0, 0);
        // The number of each chunk, by the event that requests it.
        let mut numbers = Vec::with_capacity(events.len());
        for (birth, twice, request) in &events {
            while let Some((_, event)) = frees.next_if(|(death, _)| death <= birth) {
                live -= events[event as usize].2.pages().get();
                steps.push(Step::Free(numbers[event as usize]));
            }
            if *twice {
                steps.push(Step::Allocate(*request));
                chunks += 1;
            }
            steps.push(Step::Allocate(*request));
            numbers.push(chunks);
            chunks += 1;
            if *twice {
                steps.push(Step::Free(chunks - 2));
            }
            live += request.pages().get();
            peak = peak.max(live + if *twice { request.pages().get() } else { 0 });
        }
        let (start, most) = (demand.start().page(), demand.most());
        let least = if demand.names_addresses() { demand.least() } else { peak };
        Copy { steps, chunks: chunks as usize, start, peak: peak.max(1), least, most }
    }

    /// How many requests and frees it has.
    #[cfg(test)]
    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The smallest size from which every larger size that was tried serves; the largest that is
    /// tried if that does not.
    pub(super) fn smallest(&self, profile: &Profile) -> u64 {
        let mut from = (2 * self.least).min(self.most);
        while from < self.most && !self.serves(profile, from) {
            from = (2 * from).min(self.most);
        }
        self.descend(profile, from)
    }

    /// What `profile` needs beyond the peak, as a share of it, at most an eighth more than `usual`,
    /// which is where the search begins.
    pub(super) fn beyond(&self, profile: &Profile, usual: u64) -> f64 {
        let from = (usual + self.peak / 8).min(self.most);
        let smallest = match self.serves(profile, from) {
            true => self.descend(profile, from),
            false => from,
        };
        #[allow(clippy::cast_precision_loss, reason = "a ratio")]
        let ratio = smallest as f64 / self.peak as f64;
        ratio - 1.0
    }

    /// Tries smaller sizes than `served`, and returns the last that serves.
    fn descend(&self, profile: &Profile, mut served: u64) -> u64 {
        for parts in STEPS {
            let step = (self.peak / parts).max(1);
            while served >= self.least + step && self.serves(profile, served - step) {
                served -= step;
            }
        }
        served
    }

    /// Whether a region of `pages` pages serves.
    pub(super) fn serves(&self, profile: &Profile, pages: u64) -> bool {
        let region = PageRange::from_pages(self.start, pages);
        let Ok(mut packing) = Packing::with_profile(region, profile.clone()) else { return false };
        let mut chunks: Vec<Placement> = Vec::with_capacity(self.chunks);
        for step in &self.steps {
            match step {
                Step::Allocate(request) => match packing.allocate(request) {
                    Ok(chunk) => chunks.push(chunk),
                    Err(_) => return false,
                },
                Step::Free(chunk) => {
                    if packing.free(chunks[*chunk as usize]).is_err() {
                        unreachable!("packing knows every chunk that it placed");
                    }
                }
            }
        }
        true
    }
}
