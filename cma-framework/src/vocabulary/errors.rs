//! The results and errors of the framework's calls. Each error says why, and what to do.

mod alloc;
mod allocator;
mod early;
mod free;
mod info;
mod refusal;
mod region;

pub use alloc::{AllocError, InvalidRequest, TimedOut, Unmatched};
pub use allocator::RegisterAllocatorError;
pub use early::EarlyError;
pub use free::FreeError;
pub use info::{DeviceInfo, InfoError};
pub use refusal::{Limit, Misplacement, Reason, Refusal, Refusals, Stuck};
pub use region::{InvalidRegion, RegisterError, UnregisterError};
