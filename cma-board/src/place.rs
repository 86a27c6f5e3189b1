//! Where a region may lie.

pub use cma_framework::config::{Place, Window};
