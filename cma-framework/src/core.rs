//! Pure decisions: no lock, no input or output, no plug-in.

pub mod lint;
pub(crate) mod memory;
pub mod reserve;
pub(crate) mod routes;
