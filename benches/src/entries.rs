//! All contestants, as entries of a table.

use crate::contestant::Contestant;
use crate::framework::{self, ByDevice, ByNames};
use crate::ours::Ours;
use crate::peers;
use crate::replay::{self, Outcome};
use crate::workload::Workload;

/// A contestant as a table entry: its name and its functions, without its type.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Whether it can run a workload.
    pub serves: fn(&Workload) -> bool,
    /// Whether it is so slow on a workload that it runs only on request.
    pub is_heavy: fn(&Workload) -> bool,
    /// Replays a workload from the start.
    pub replay: fn(&Workload) -> Outcome,
}

impl Entry {
    /// The entry of `C`.
    pub const fn of<C: Contestant>() -> Self {
        Entry {
            name: C::NAME,
            serves: C::serves,
            is_heavy: C::is_heavy,
            replay: replay::replay::<C>,
        }
    }
}

/// All contestants, ours first.
pub const CONTESTANTS: [Entry; 11] = [
    Entry::of::<Ours<cma_best_fit::BestFit>>(),
    Entry::of::<Ours<cma_tlsf::Tlsf>>(),
    Entry::of::<Ours<cma_buddy::Buddy>>(),
    Entry::of::<Ours<cma_bitmap::Bitmap>>(),
    Entry::of::<ByDevice<framework::BestFit>>(),
    Entry::of::<ByNames<framework::BestFit>>(),
    Entry::of::<ByDevice<framework::Tlsf>>(),
    Entry::of::<peers::Offset>(),
    Entry::of::<peers::Ranges>(),
    Entry::of::<peers::Buddy>(),
    Entry::of::<peers::Bitmap>(),
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
        serves_soundly::<ByDevice<framework::BestFit>>();
        serves_soundly::<ByNames<framework::BestFit>>();
        serves_soundly::<ByDevice<framework::Tlsf>>();
        serves_soundly::<peers::Offset>();
        serves_soundly::<peers::Ranges>();
        serves_soundly::<peers::Buddy>();
        serves_soundly::<peers::Bitmap>();
    }
}
