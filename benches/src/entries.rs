//! All contestants, as entries of a table.

use crate::c;
use crate::contestant::Contestant;
use crate::framework::{self, ByDevice, ByNames, Keeping};
use crate::ours::Ours;
use crate::peers;
use crate::replay::{self, ReplayResult};
use crate::workload::Workload;

/// A contestant as a table entry: its name and its functions, without its type.
#[derive(Clone, Copy, Debug)]
pub struct ContestantEntry {
    /// Its name.
    pub name: &'static str,
    /// Whether it can run a workload.
    pub serves: fn(&Workload) -> bool,
    /// Whether it is so slow on a workload that it runs only on request.
    pub is_heavy: fn(&Workload) -> bool,
    /// Replays a workload from the start.
    pub replay: fn(&Workload) -> ReplayResult,
}

impl ContestantEntry {
    /// The entry of `C`.
    pub const fn of<C: Contestant>() -> Self {
        ContestantEntry {
            name: C::NAME,
            serves: C::serves,
            is_heavy: C::is_heavy,
            replay: replay::replay::<C>,
        }
    }
}

/// All contestants, ours first.
pub const CONTESTANTS: [ContestantEntry; 13] = [
    ContestantEntry::of::<Ours<cma_best_fit::BestFit>>(),
    ContestantEntry::of::<Ours<cma_tlsf::Tlsf>>(),
    ContestantEntry::of::<Ours<cma_buddy::Buddy>>(),
    ContestantEntry::of::<Ours<cma_bitmap::Bitmap>>(),
    ContestantEntry::of::<Ours<cma_packing::Packing>>(),
    ContestantEntry::of::<ByDevice<framework::BestFitPlugin>>(),
    ContestantEntry::of::<ByNames<framework::BestFitPlugin>>(),
    ContestantEntry::of::<Keeping<framework::BestFitPlugin>>(),
    ContestantEntry::of::<ByDevice<framework::TlsfPlugin>>(),
    ContestantEntry::of::<peers::OffsetAllocator>(),
    ContestantEntry::of::<peers::RangeAlloc>(),
    ContestantEntry::of::<peers::BuddySystemAllocator>(),
    ContestantEntry::of::<peers::BitmapAllocator>(),
];

/// The framework by the calls of `libcma`, for comparing it with the calls in Rust.
pub const FROM_C: [ContestantEntry; 2] = [
    ContestantEntry::of::<c::ByDevice<framework::BestFitPlugin>>(),
    ContestantEntry::of::<c::ByNames<framework::BestFitPlugin>>(),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Replay;

    fn serves_soundly<C: Contestant>() {
        for mut workload in [
            Workload::mixed(),
            Workload::mixed_pow2(),
            Workload::video(),
            Workload::pages(),
            Workload::huge_pages(),
        ] {
            if !C::serves(&workload) {
                continue;
            }
            workload.setup.truncate(20_000);
            workload.measured.truncate(if C::is_heavy(&workload) { 200 } else { 10_000 });
            let mut replay = Replay::<C>::set_up(&workload);
            replay.run_measured();
            let live = replay.live();
            let requested = workload.setup.len().min(workload.slots as usize);
            assert!(live.len() > requested / 3, "{} hardly serves {}", C::NAME, workload.name);
            assert!(live.iter().all(|chunk| chunk.within(workload.region)));
            assert!(live.windows(2).all(|pair| !pair[0].overlaps(pair[1])), "{} overlaps", C::NAME);
        }
    }

    #[test]
    fn no_contestant_places_overlapping_chunks() {
        serves_soundly::<Ours<cma_best_fit::BestFit>>();
        serves_soundly::<Ours<cma_tlsf::Tlsf>>();
        serves_soundly::<Ours<cma_buddy::Buddy>>();
        serves_soundly::<Ours<cma_bitmap::Bitmap>>();
        serves_soundly::<Ours<cma_packing::Packing>>();
        serves_soundly::<ByDevice<framework::BestFitPlugin>>();
        serves_soundly::<ByNames<framework::BestFitPlugin>>();
        serves_soundly::<Keeping<framework::BestFitPlugin>>();
        serves_soundly::<ByDevice<framework::TlsfPlugin>>();
        serves_soundly::<c::ByDevice<framework::BestFitPlugin>>();
        serves_soundly::<c::ByNames<framework::BestFitPlugin>>();
        serves_soundly::<peers::OffsetAllocator>();
        serves_soundly::<peers::RangeAlloc>();
        serves_soundly::<peers::BuddySystemAllocator>();
        serves_soundly::<peers::BitmapAllocator>();
    }
}
