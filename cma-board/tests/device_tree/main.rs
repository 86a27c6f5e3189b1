//! Boards as device trees.

mod reading;
mod trees;
mod writing;
