//! Valid names. The grammars and every call that takes a name use these functions, so both accept
//! the same names.

/// Whether a region name may contain `c`.
pub(super) fn is_region_char(c: char) -> bool {
    is_pattern_char(c) && !matches!(c, '@' | ':' | '(' | ')')
}

/// Whether a device or type pattern may contain `c`.
pub(super) fn is_pattern_char(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, ';' | ',' | '=' | '/' | '|')
}

/// Whether `c` is a wildcard of a pattern.
pub(super) fn is_wildcard(c: char) -> bool {
    matches!(c, '*' | '?')
}

/// Whether `name` is a valid region name.
pub(crate) fn is_region_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| is_region_char(c) && !is_wildcard(c))
}

/// Whether `name` is a valid device or type name, so that a map can name it without a wildcard.
pub(crate) fn is_device_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| is_pattern_char(c) && !is_wildcard(c))
}

pub(crate) use cma_api::name_fault as allocator_name_fault;
