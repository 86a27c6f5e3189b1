//! The results and errors of the framework's calls. Each error says why, and what to do.

mod registration;
mod request;

pub use registration::*;
pub use request::*;
