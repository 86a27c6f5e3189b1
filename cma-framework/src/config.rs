//! Configuration: the text of `cma=` and `cma.map=`, and the typed constants of boards.
//!
//! Text becomes types here, once, with the place of every mistake. Nothing behind this module looks at text
//! again. Specification sections 5 and 7.

mod error;
pub mod lint;
mod map;
mod platform;
mod regions;
mod size;

pub use error::{ConfigError, Mistake, Span};
pub use map::{COMMON, Map, PatternSpec, RuleSpec};
pub use platform::{Bank, Growth, Platform};
pub use regions::{AllocatorSpec, ParsedRegion, RegionSpans, RegionSpec, parse_allocator, parse_regions};
pub use size::{Bytes, parse_size};

/// The characters that the two grammars give a meaning; none of them may stand in a name.
const RESERVED: &[char] = &[';', ',', '=', '/', '@', ':', '(', ')'];

/// Whether `c` may stand in the name of a region, an allocator, a device or a type.
fn is_name_char(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !RESERVED.contains(&c)
}

/// Whether `name` can be written in both grammars, so that what has it can be reached.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| is_name_char(c) && c != '*' && c != '?')
}
