//! Benches of the framework and its allocators beside their peers.
