//! An algorithm as a host calls it, whatever it is written in.

use crate::c_v1::CAllocator;
use crate::v1::{AllocatorBox, AllocatorModuleRef, module_of};
use crate::{Allocator, PageRange};
use abi_stable::std_types::RString;
use std::fmt;

/// An algorithm as a host calls it: linked into the program, or loaded from a library.
#[derive(Clone, Copy)]
pub enum Algorithm {
    /// One in Rust, behind the binary interface [`v1`](crate::v1).
    Rust(AllocatorModuleRef),
    /// One in C, behind [`c_v1`](crate::c_v1).
    C(&'static CAllocator),
}

impl Algorithm {
    /// The algorithm `A`, which is linked into the program.
    pub fn of<A: Allocator>() -> Algorithm {
        Algorithm::Rust(module_of::<A>())
    }

    /// The name by which regions select it.
    pub fn name(&self) -> &'static str {
        match self {
            Algorithm::Rust(module) => module.name().as_str(),
            Algorithm::C(plugin) => plugin.name(),
        }
    }

    /// The algorithm's own version.
    pub fn version(&self) -> &'static str {
        match self {
            Algorithm::Rust(module) => module.version().as_str(),
            Algorithm::C(plugin) => plugin.version(),
        }
    }

    /// A description in one line.
    pub fn description(&self) -> &'static str {
        match self {
            Algorithm::Rust(module) => module.description().as_str(),
            Algorithm::C(plugin) => plugin.description(),
        }
    }

    /// A new allocator for the empty region `region`, with the parameters `params`.
    ///
    /// # Errors
    ///
    /// The plug-in's reason to refuse the region or the parameters, or the message of its panic.
    /// The string is the plug-in's own: dropping it runs its code.
    pub fn initialise(&self, region: PageRange, params: &str) -> Result<AllocatorBox, RString> {
        match self {
            Algorithm::Rust(module) => module.initialise()(region, params.into()).into_result(),
            Algorithm::C(plugin) => plugin.initialise(region, params).map_err(RString::from),
        }
    }
}

impl From<AllocatorModuleRef> for Algorithm {
    fn from(module: AllocatorModuleRef) -> Self {
        Algorithm::Rust(module)
    }
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let language = match self {
            Algorithm::Rust(_) => "Rust",
            Algorithm::C(_) => "C",
        };
        f.debug_tuple(language).field(&self.name()).finish()
    }
}
