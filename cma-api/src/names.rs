//! Valid names, versions and descriptions of allocators.

/// The fault of `name` as an allocator's name, if it has one: a name must be a word that can stand
/// in `cma=` text and in the `alloc` attribute. Hosts refuse an allocator with another name.
pub const fn name_fault(name: &str) -> Option<&'static str> {
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

/// The fault of `text` as a version or description, if it has one: the text must fit on one line of
/// output. Hosts refuse an allocator with another text.
pub const fn text_fault(text: &str) -> Option<&'static str> {
    const LIMIT: usize = 256;
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Some("is empty");
    } else if bytes.len() > LIMIT {
        return Some("is longer than 256 bytes");
    }
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_control() {
            return Some("has a control character or more than one line");
        }
        at += 1;
    }
    None
}
