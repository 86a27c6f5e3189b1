//! Comparing a region's books with its allocator's report.

use super::{Attached, Region, RegionState};
use crate::core::placement::{AllocatorCall, AllocatorFault};
use crate::vocabulary::errors::Reason;
use cma_api::v1::AllocatorBox;
use cma_api::{PageRange, Pages};

impl Region {
    /// Compares the books with what the allocator reports. May be slow: it is for tests and for
    /// diagnosis.
    ///
    /// # Errors
    ///
    /// The first disagreement, with the evidence.
    pub fn check(&self) -> Result<(), String> {
        let mut state = self.enter().map_err(|stuck| stuck.to_string())?;
        state.books.check()?;
        if matches!(state.attached, Attached::Nothing { .. }) {
            return Ok(());
        }
        let name = state.attached.name().to_string();
        let text = |reason: Reason| reason.to_string();
        let verdict = state.ask(self, AllocatorCall::Check, |object| object.check().into_result());
        if let Err(broken) = verdict.map_err(text)? {
            let text = format!("allocator {name}: {broken}");
            state.drop_later(broken);
            return Err(text);
        }
        let largest = state.largest_request(self).map_err(text)?;
        let holes = state.ask(self, AllocatorCall::Holes, AllocatorBox::holes).map_err(text)?;
        let compared = compare(&name, &holes, largest, &state.books.gaps());
        state.drop_later(holes);
        compared
    }
}

impl RegionState {
    /// The largest page-aligned request that the allocator could serve, as it reports it. A report
    /// that exceeds what is free ends its service.
    ///
    /// # Errors
    ///
    /// Why no allocator serves now.
    pub(super) fn largest_request(&mut self, region: &Region) -> Result<Pages, Reason> {
        let call = AllocatorCall::LargestRequest;
        let (reported, free) =
            (self.ask(region, call, AllocatorBox::largest_request)?, self.books.free());
        if reported > free {
            let fault = AllocatorFault::ExcessiveLargest { reported, free };
            return Err(self.end_service(region, fault));
        }
        Ok(reported)
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
            "allocator {name} reports no hole of {} pages, its largest request",
            largest.get()
        ));
    }
    if *holes != *expected {
        return Err(format!(
            "allocator {name} reports the holes {holes:?}, but the books have {expected:?}"
        ));
    }
    Ok(())
}
