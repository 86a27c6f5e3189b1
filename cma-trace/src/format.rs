//! Constants of the format that reading and writing share, and the quoting of unexpected text.

/// The first line of every trace, up to the version.
pub(crate) const MAGIC: &str = "# cma-trace";
/// The version of the format.
pub(crate) const VERSION: &str = "1";
pub(crate) const SOURCE: &str = "# source:";

/// What stands between a device and the regions that its request names.
pub(crate) const FROM: &str = " from=";

/// The longest line, in bytes.
pub(crate) const MAX_LINE: usize = 4096;

/// Characters of unexpected text that an error quotes.
pub(crate) const MAX_QUOTE: usize = 40;

/// `text`, escaped to stand between quotation marks.
pub(crate) fn quoted(text: &str) -> String {
    let escaped = |c: char| if c == '\'' { c.to_string() } else { c.escape_debug().to_string() };
    text.chars().map(escaped).collect()
}

/// The start of unexpected bytes, as text for an error.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MAX_QUOTE)])
        .chars()
        .take(MAX_QUOTE)
        .collect()
}
