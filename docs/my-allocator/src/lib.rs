//! Stands for the reader's own crate in README.md.

/// The reader's own allocator.
pub use cma_bitmap::Bitmap as Mine;
