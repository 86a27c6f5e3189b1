//! Which names there can be. The grammars and every call that takes a name ask here, so what one
//! accepts the other does too.

/// Whether `c` may stand in the name of a region.
pub(super) fn is_region_char(c: char) -> bool {
    is_pattern_char(c) && !matches!(c, '@' | ':' | '(' | ')')
}

/// Whether `c` may stand in a pattern for devices or types.
pub(super) fn is_pattern_char(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, ';' | ',' | '=' | '/' | '|')
}

/// Whether `c` is a wildcard of a pattern.
pub(super) fn is_wildcard(c: char) -> bool {
    matches!(c, '*' | '?')
}

/// Whether a region can have `name`.
pub(crate) fn is_region_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| is_region_char(c) && !is_wildcard(c))
}

/// Whether a map can name the device or type `name` without a wildcard.
pub(crate) fn is_device_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| is_pattern_char(c) && !is_wildcard(c))
}

pub(crate) use cma_api::name_fault as allocator_name_fault;
