//! What outlives the server: `interfaces/device/server/RECOVERY.md` has the design.
//!
//! [`Lasting`] is what a server before this one left. [`plan`] decides what becomes of it, and
//! [`restoring`] carries that out, with the journal that [`continued`] has. [`Records`] is the
//! keeper and the journal while the server runs, and [`RecordedChunk`] what it records of a chunk.
//! A server without a keeper has none of these.

mod chunk;
mod continued;
mod error;
mod found;
mod keeper;
mod names;
mod plan;
mod records;
mod restoring;

pub(crate) use chunk::{KeptFiles, RecordedChunk, record_of};
pub use error::RecoverError;
pub use found::{Discard, Lasting, RecordedRegion};
pub(crate) use names::Stored;
pub(crate) use plan::EarlierConnection;
pub use records::JournalWords;
pub(crate) use records::{Records, monotonic_now};
pub(crate) use restoring::{EarlierChunk, ListenerHolder, Restored, restore};
