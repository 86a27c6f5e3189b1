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

/// What makes `name` unfit for an allocator, if anything does: it must be a word that `cma=` text
/// and the `alloc` attribute can hold.
pub(crate) const fn allocator_name_fault(name: &str) -> Option<&'static str> {
    const LIMIT: usize = 64;
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Some("is empty");
    } else if bytes.len() > LIMIT {
        return Some("is longer than 64 bytes");
    } else if matches!(bytes, b"-") {
        return Some("stands for an allocator without a name");
    }
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_graphic() {
            return Some("has a character that is white space, not printable or not ASCII");
        } else if matches!(
            bytes[at],
            b'=' | b'@' | b'/' | b':' | b';' | b'(' | b')' | b',' | b'[' | b']' | b'*' | b'?'
        ) {
            return Some("has one of the characters =@/:;(),[]*? in it");
        }
        at += 1;
    }
    None
}
