//! Containing panics: a panic while an event is served ends no thread.

use crate::log;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`. Returns `None` if it panicked, which the panic hook and the log report.
pub(crate) fn contain<T>(work: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(work));
    if result.is_err() {
        log::emit(|| tracing::error!("a thread of the server panicked; the server continues"));
    }
    result.ok()
}
