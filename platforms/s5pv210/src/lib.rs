//! What the boards Aquila and Goni have in common: the Samsung S5PV210, whose video codec MFC 5
//! needs its firmware and two banks of memory just so.
//!
//! The codec addresses its two banks by offsets from its firmware, so the firmware must lie below
//! both of them, on a 128 KiB boundary; and it reads both banks at once, so they should be in
//! different memory banks. The firmware is described first and without a start wish, so that it
//! gets the lowest place of the first bank; `b2` wishes to be at the start of the second one.
//!
//! Source: the boards' files in the 2010 patch series of the Contiguous Memory Allocator
//! (`mach-aquila.c`, `mach-goni.c`), in the terms of its fourth version: specification section 9.

#![forbid(unsafe_code)]

use cma_framework::config::{PatternSpec, RegionSpec, RuleSpec};

/// One KiB and one MiB, in bytes.
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The codec's firmware and the two banks that it works with.
pub const REGIONS: &[RegionSpec<'static>] = &[
    RegionSpec::new("fw", MIB).aligned(128 * KIB),
    RegionSpec::new("b1", 32 * MIB),
    RegionSpec::new("b2", 16 * MIB).at(0x4000_0000),
];

/// The codec's three types of memory, and the banks for everybody else.
pub const MAP: &[RuleSpec<'static>] = &[
    RuleSpec::new(&[PatternSpec::typed("s3c-mfc5", "f")], &["fw"]),
    RuleSpec::new(&[PatternSpec::typed("s3c-mfc5", "a")], &["b1"]),
    RuleSpec::new(&[PatternSpec::typed("s3c-mfc5", "b")], &["b2"]),
    RuleSpec::new(&[PatternSpec::device("*")], &["b1", "b2"]),
];
