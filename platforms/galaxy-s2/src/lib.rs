//! The phone Galaxy S II (Samsung Exynos 4210): its banks, regions and map.
//!
//! Source: the phone's board file `mach-c1.c` with the configuration `c1_rev02`. Its regions are
//! placed downwards from the end of the first bank, in the order of [`PLATFORM`]. Its map names a
//! region, `mfc`, that this configuration doesn't have; builds with a single codec region have it.
//!
//! ```
//! use cma_framework::{Cma, reserve::Banks};
//! use cma_platform_galaxy_s2::PLATFORM;
//!
//! let cma = Cma::new();
//! cma.set_platform(&PLATFORM)?;
//! cma.early_regions_reserve(&mut Banks::new(PLATFORM.banks, PLATFORM.growth));
//! assert!(cma.initialise().iter().all(|early| early.registered().is_some()));
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```

#![forbid(unsafe_code)]

use cma_framework::config::{Bank, GroupSpec, Growth, PatternSpec, Platform, RegionSpec, RuleSpec};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The board: two banks of 512 MiB, and memory for display, camera, codec, JPEG, audio and 2D
/// graphics.
pub const PLATFORM: Platform = Platform {
    name: "galaxy-s2",
    banks: &[Bank::new(0x4000_0000, 512 * MIB), Bank::new(0x6000_0000, 512 * MIB)],
    growth: Growth::Down,
    regions: &[
        RegionSpec::new("pmem", 4096 * KIB),
        RegionSpec::new("pmem_gpu1", 4096 * KIB),
        RegionSpec::new("pmem_adsp", 3600 * KIB),
        RegionSpec::new("fimd", 3072 * KIB),
        RegionSpec::new("mfc0", 36864 * KIB).aligned(128 * KIB),
        RegionSpec::new("mfc1", 36864 * KIB).aligned(128 * KIB),
        RegionSpec::new("fimc0", 5120 * KIB),
        RegionSpec::new("fimc1", 14336 * KIB),
        RegionSpec::new("fimc2", 24576 * KIB),
        RegionSpec::new("fimc3", 7168 * KIB),
        RegionSpec::new("srp", 1024 * KIB),
        RegionSpec::new("jpeg", 20480 * KIB),
        RegionSpec::new("fimg2d", 8192 * KIB),
    ],
    map: &[
        RuleSpec::new(&[PatternSpec::device("android_pmem.0")], &[GroupSpec::new("pmem")]),
        RuleSpec::new(&[PatternSpec::device("android_pmem.1")], &[GroupSpec::new("pmem_gpu1")]),
        RuleSpec::new(&[PatternSpec::device("android_pmem.2")], &[GroupSpec::new("pmem_adsp")]),
        RuleSpec::new(&[PatternSpec::device("s3cfb.0")], &[GroupSpec::new("fimd")]),
        RuleSpec::new(&[PatternSpec::device("s3c-fimc.0")], &[GroupSpec::new("fimc0")]),
        RuleSpec::new(&[PatternSpec::device("s3c-fimc.1")], &[GroupSpec::new("fimc1")]),
        RuleSpec::new(&[PatternSpec::device("s3c-fimc.2")], &[GroupSpec::new("fimc2")]),
        RuleSpec::new(&[PatternSpec::device("s3c-fimc.3")], &[GroupSpec::new("fimc3")]),
        RuleSpec::new(
            &[PatternSpec::device("s3c-mfc")],
            &[GroupSpec::new("mfc"), GroupSpec::new("mfc0"), GroupSpec::new("mfc1")],
        ),
        RuleSpec::new(&[PatternSpec::device("s5p-rp")], &[GroupSpec::new("srp")]),
        RuleSpec::new(&[PatternSpec::device("s5p-jpeg")], &[GroupSpec::new("jpeg")]),
        RuleSpec::new(&[PatternSpec::device("s5p-fimg2d")], &[GroupSpec::new("fimg2d")]),
    ],
};
