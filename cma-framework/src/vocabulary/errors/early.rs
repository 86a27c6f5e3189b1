//! The errors of describing early regions and of setting a board's defaults.

use crate::vocabulary::{Bytes, ConfigError, Window};
use cma_api::{Alignment, DmaAddr};

/// Why an early region, or a board's defaults, were not accepted. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EarlyError {
    /// Size 0.
    #[error("a region of size 0")]
    NoSize,
    /// A name that can't be written in the map.
    #[error("\"{}\" can't be the name of a region: a word without white space, control characters, wildcards or any of ; , = / | @ : ( )", name.escape_debug())]
    BadName {
        /// The name.
        name: String,
    },
    /// It names an allocator by a name that none can have.
    #[error("\"{}\" can't be the name of an allocator: it {fault}", name.escape_debug())]
    BadAllocatorName {
        /// The name.
        name: String,
        /// The fault of the name.
        fault: &'static str,
    },
    /// The alignment is not a power of two.
    #[error("an alignment of {bytes} is no power of two")]
    Alignment {
        /// The alignment.
        bytes: u64,
    },
    /// It passes the top of the address space.
    #[error("a region of {size} bytes{} passes the top of the address space", start.map_or(String::new(), |s| format!(" at {s}")))]
    PastTheTop {
        /// The requested start.
        start: Option<DmaAddr>,
        /// Its size.
        size: u64,
    },
    /// Its window has no aligned place of its size.
    #[error("the window {window} has no room for {size} bytes{}", match *alignment {
        Alignment::PAGE => String::new(),
        alignment => format!(" at a multiple of {}", Bytes(alignment.bytes())),
    })]
    Window {
        /// The window.
        window: Window,
        /// The region's size in bytes.
        size: u64,
        /// The region's alignment.
        alignment: Alignment,
    },
    /// The platform's map is invalid.
    #[error("the platform's map: {0}")]
    Map(ConfigError),
    /// Defaults are set already.
    #[error("a platform's defaults are set already")]
    DefaultsSet,
}
