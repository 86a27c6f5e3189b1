//! The parts that the boards Aquila and Goni share: both have the Samsung S5PV210, whose video
//! codec MFC 5 constrains the addresses of its memory.
//!
//! The codec addresses two buffers by their offsets from its firmware, so the firmware must lie
//! below both, on a 128 KiB boundary. It reads both buffers at once, so they should be in different
//! memory banks. The firmware is described first and without a fixed start, so it gets the lowest
//! address of the first bank; `b2` has a fixed start, that of the second bank.
//!
//! Source: the boards' files in the 2010 patch series of the Contiguous Memory Allocator
//! (`mach-aquila.c`, `mach-goni.c`), in the terms of its fourth version: specification section 9.

#![forbid(unsafe_code)]

use cma_framework::config::{GroupSpec, PatternSpec, RegionSpec, RuleSpec};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The codec's firmware and its two buffers.
pub const REGIONS: &[RegionSpec<'static>] = &[
    RegionSpec::new("fw", MIB).aligned(128 * KIB),
    RegionSpec::new("b1", 32 * MIB),
    RegionSpec::new("b2", 16 * MIB).at(0x4000_0000),
];

/// The codec's three types of memory, and a catch-all rule for the other devices.
pub const MAP: &[RuleSpec<'static>] = &[
    RuleSpec::new(&[PatternSpec::typed("s3c-mfc5", "f")], &[GroupSpec::new("fw")]),
    RuleSpec::new(&[PatternSpec::typed("s3c-mfc5", "a")], &[GroupSpec::new("b1")]),
    RuleSpec::new(&[PatternSpec::typed("s3c-mfc5", "b")], &[GroupSpec::new("b2")]),
    RuleSpec::new(&[PatternSpec::device("*")], &[GroupSpec::new("b1"), GroupSpec::new("b2")]),
];
