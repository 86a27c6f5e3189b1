//! Comparing a region's books with what its allocator says of itself.

use super::Region;
use super::attach::Attached;
use crate::vocabulary::errors::Reason;
use cma_api::v1::AllocatorBox;
use cma_api::{PageRange, Pages};

impl Region {
    /// Compares the books with what the allocator says of itself. May be slow: it is for tests and
    /// for diagnosis.
    ///
    /// # Errors
    ///
    /// The first disagreement, with the evidence.
    pub fn check(&self) -> Result<(), String> {
        let mut state = self.enter().map_err(|stuck| stuck.to_string())?;
        let live = state.chunks.ascending();
        let used: u64 = live.iter().map(|(_, booked)| booked.range.pages().get()).sum();
        let free = self.0.range.pages().get() - used;
        if free != state.account.free.get() {
            return Err(format!(
                "{} pages are booked as free, but the chunks leave {free}",
                state.account.free.get()
            ));
        }
        let mut expected = Vec::new();
        let mut from = self.0.range.first_page();
        let ends = live.iter().map(|(_, b)| (b.range.first_page(), b.range.end_page()));
        for (first, end) in ends.chain([(self.0.range.end_page(), 0)]) {
            if from < first {
                expected.push(PageRange::from_pages(from, first - from));
            }
            from = end;
        }
        let name = state.attached.name().to_string();
        if matches!(state.attached, Attached::Nothing { .. }) {
            return Ok(());
        }
        let said = |reason: Reason| reason.to_string();
        let verdict = state
            .ask(self, "it panicked while checking itself", |object| object.check().into_result())
            .map_err(said)?;
        if let Err(broken) = verdict {
            let text = format!("allocator {name}: {broken}");
            state.end_later(broken);
            return Err(text);
        }
        let asking = "it panicked while looking for its largest hole";
        let largest = state.ask(self, asking, AllocatorBox::largest_request).map_err(said)?;
        if largest > state.account.free {
            let (said, free) = (largest.get(), state.account.free.get());
            let what = format!("it says that {said} pages are free in one piece, of {free}");
            return Err(state.end_service(self, &what).to_string());
        }
        let holes = state
            .ask(self, "it panicked while showing its holes", AllocatorBox::holes)
            .map_err(said)?;
        let compared = compare(&name, &holes, largest, &expected);
        state.end_later(holes);
        compared
    }
}

fn compare(
    name: &str,
    holes: &[PageRange],
    largest: Pages,
    expected: &[PageRange],
) -> Result<(), String> {
    if holes.iter().all(|hole| hole.pages() < largest) && largest > Pages::ZERO {
        return Err(format!(
            "allocator {name} has no hole of {} pages, its largest",
            largest.get()
        ));
    }
    if *holes != *expected {
        return Err(format!(
            "allocator {name} has the holes {holes:?}, the books leave {expected:?}"
        ));
    }
    Ok(())
}
