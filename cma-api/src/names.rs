//! What an allocator may call itself.

/// What makes `name` unfit for an allocator, if anything does: it must be a word that `cma=` text
/// and the `alloc` attribute can hold. Hosts refuse an allocator with an unfit name.
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

/// What makes a version or description unfit for one line of output, if anything does. Hosts refuse
/// an allocator with such a text.
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
