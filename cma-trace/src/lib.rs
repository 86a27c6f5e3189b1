//! Recorded buffer traces: read and replay.
