//! Buddy: power-of-two blocks that split and merge.
