//! Recorded traces as workloads, for contestants that have no devices.

use super::{FIRST_PAGE, Op, Workload};
use cma_api::{Alignment, PageRange, Pages};
use cma_trace::{Action, Trace};

/// A single pass over a trace takes milliseconds, which is too short to measure.
const OPERATIONS: usize = 1_000_000;

/// The trace in `bytes`, repeated, in a region of twice its peak. Chunks that are live at the end
/// of a pass are freed before the next.
pub(super) fn trace(name: &str, bytes: &[u8]) -> Workload {
    let trace = Trace::read(bytes).expect("a trace that cma-trace ships");
    let mut slots = 0;
    let mut empty = Vec::new();
    let mut slot_of_chunk = Vec::new();
    let mut pass = Vec::new();
    for operation in trace.operations() {
        match operation.action {
            Action::Allocate { size, alignment, .. } => {
                let slot = empty.pop().unwrap_or_else(|| {
                    slots += 1;
                    slots - 1
                });
                let pages = u32::try_from(Pages::covering(size).get())
                    .expect("a buffer of less than 16 TiB");
                let alignment = Alignment::new(alignment)
                    .map_or(Alignment::PAGE, |recorded| recorded.max(Alignment::PAGE));
                pass.push(Op::Allocate { slot, pages, alignment });
                slot_of_chunk.push(Some(slot));
            }
            // The peers of the framework are not asked for what was never served.
            Action::Refused { .. } => {}
            Action::Free { chunk } => {
                let slot =
                    slot_of_chunk[chunk as usize].take().expect("a trace frees live chunks only");
                pass.push(Op::Free { slot });
                empty.push(slot);
            }
        }
    }
    let left_over = slot_of_chunk.into_iter().flatten().map(|slot| Op::Free { slot });
    let pass_alone = pass.clone();
    pass.extend(left_over);
    let mut measured = pass.repeat(OPERATIONS / pass.len());
    measured.extend(pass_alone);
    let pages = Pages::covering(trace.usual_region_bytes()).get();
    Workload {
        name: name.into(),
        region: PageRange::from_pages(FIRST_PAGE, pages),
        slots,
        setup: Vec::new(),
        measured,
    }
}
