//! The allocator that a region requests, and the one that it has: public types.

use crate::host::loader::Plugin;
use crate::vocabulary::errors::{Reason, Stuck};
use crate::vocabulary::{AllocatorSpec, allocator_name_fault};
use cma_api::PageRange;
use std::fmt;
use std::sync::Arc;

/// A registered allocator.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registered {
    /// The name it is registered under; `None` for none.
    pub name: Option<Arc<str>>,
    /// The algorithm.
    pub plugin: Plugin,
}

/// The allocator that a region requests.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum AllocatorChoice {
    /// The default one: the first that was registered.
    #[default]
    Default,
    /// The one registered under this name, now or later.
    Named {
        /// Its name.
        name: String,
        /// Its parameters, passed on unchanged.
        params: String,
    },
    /// This one, registered or not.
    Given {
        /// The algorithm.
        plugin: Plugin,
        /// Its parameters, passed on unchanged.
        params: String,
    },
}

impl AllocatorChoice {
    /// The allocator registered as `name`, without parameters.
    pub fn named(name: impl Into<String>) -> Self {
        AllocatorChoice::Named { name: name.into(), params: String::new() }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            AllocatorChoice::Default => None,
            AllocatorChoice::Named { name, .. } => Some(name),
            AllocatorChoice::Given { plugin, .. } => Some(plugin.name()),
        }
    }

    /// The fault of the chosen name.
    pub(crate) fn fault(&self) -> Option<(&str, &'static str)> {
        match self {
            AllocatorChoice::Named { name, .. } => {
                allocator_name_fault(name).map(|fault| (name.as_str(), fault))
            }
            AllocatorChoice::Default | AllocatorChoice::Given { .. } => None,
        }
    }

    pub(crate) fn params(&self) -> &str {
        match self {
            AllocatorChoice::Default => "",
            AllocatorChoice::Named { params, .. } | AllocatorChoice::Given { params, .. } => params,
        }
    }
}

impl From<AllocatorSpec<'_>> for AllocatorChoice {
    fn from(spec: AllocatorSpec<'_>) -> Self {
        AllocatorChoice::Named { name: spec.name.to_string(), params: spec.params.to_string() }
    }
}

/// The allocator of a region, or what the region waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocatorState {
    /// This allocator serves it; `None` for one that was registered without a name.
    Attached(Option<String>),
    /// It waits for the allocator of this name, or for the default one.
    Waiting {
        /// The name; `None` for the default.
        wanted: Option<String>,
        /// Why attaching failed, if it was tried.
        failure: Option<String>,
    },
    /// Its allocator broke its contract or panicked, and is not called any more.
    OutOfService {
        /// The allocator's name.
        allocator: String,
        /// The fault of the allocator.
        reason: String,
    },
}

impl fmt::Display for AllocatorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllocatorState::Attached(name) => f.write_str(name.as_deref().unwrap_or("-")),
            AllocatorState::Waiting { wanted: Some(name), .. } => write!(f, "waits for {name}"),
            AllocatorState::Waiting { wanted: None, .. } => f.write_str("waits for the default"),
            AllocatorState::OutOfService { allocator, .. } => {
                write!(f, "{allocator} (out of service)")
            }
        }
    }
}

/// Why a region's allocator was not changed. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The region was unregistered.
    #[error("the region is not registered any more")]
    Unregistered,
    /// A name that no allocator can have.
    #[error("\"{}\" can't be the name of an allocator: it {fault}", name.escape_debug())]
    BadName {
        /// The name.
        name: String,
        /// The fault of the name.
        fault: &'static str,
    },
    /// Chunks are live, and no allocator of that name is registered to adopt them.
    #[error(
        "{}, and {} is registered",
        match live {
            1 => "1 live chunk needs an allocator to adopt it".to_string(),
            live => format!("{live} live chunks need an allocator to adopt them"),
        },
        wanted.as_ref().map_or("none".to_string(), |name| format!("no \"{name}\""))
    )]
    NobodyAdopts {
        /// The number of live chunks.
        live: u32,
        /// The requested name.
        wanted: Option<String>,
    },
    /// The old allocator doesn't return from a call.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// The new allocator refuses the region.
    #[error("{reason}")]
    Initialise {
        /// The number of live chunks.
        live: u32,
        /// Why: [`Reason::AttachFailed`].
        reason: Reason,
    },
    /// The new allocator can't adopt a live chunk at its place.
    #[error("allocator \"{allocator}\" can't adopt the live chunk {chunk}: {reason}")]
    Adopt {
        /// Its name.
        allocator: String,
        /// The chunk.
        chunk: PageRange,
        /// The reason that it reports.
        reason: String,
    },
}

/// The registered allocators. A region reads them under its lock when it needs an allocator, so it
/// sees those that were registered meanwhile.
pub(crate) trait Allocators {
    fn read<T>(&self, f: impl FnOnce(&[Registered]) -> T) -> T;
}

impl Allocators for &[Registered] {
    fn read<T>(&self, f: impl FnOnce(&[Registered]) -> T) -> T {
        f(self)
    }
}
