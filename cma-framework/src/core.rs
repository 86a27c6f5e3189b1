//! Pure decisions: no lock, no input or output, no plug-in.

pub mod lint;
pub mod reserve;
