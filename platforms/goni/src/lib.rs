//! The board Goni (Samsung S5PV210): its banks, regions and map.
//!
//! Source: `mach-goni.c` in the 2010 patch series of the Contiguous Memory Allocator; specification
//! section 9. Regions and map are those of [`cma_platform_s5pv210`].
//!
//! ```
//! use cma_framework::{Cma, reserve::Banks};
//! use cma_platform_goni::PLATFORM;
//!
//! let cma = Cma::new();
//! cma.set_platform(&PLATFORM)?;
//! cma.early_regions_reserve(&mut Banks::new(PLATFORM.banks, PLATFORM.growth));
//! assert!(cma.initialise().iter().all(|early| early.registered().is_some()));
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```

#![forbid(unsafe_code)]

use cma_framework::config::{Bank, Growth, Platform};
use cma_platform_s5pv210::{MAP, REGIONS};

/// The board: 80 MiB, 256 MiB and 128 MiB of memory, the codec's regions and map.
pub const PLATFORM: Platform = Platform {
    name: "goni",
    banks: &[
        Bank::new(0x3000_0000, 0x0500_0000),
        Bank::new(0x4000_0000, 0x1000_0000),
        Bank::new(0x5000_0000, 0x0800_0000),
    ],
    growth: Growth::Up,
    regions: REGIONS,
    map: MAP,
};
