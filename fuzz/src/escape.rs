//! Bytes as printable text: in dictionaries, and in the scripts of the attribute target.

/// The bytes that `text` stands for: `\n`, `\t`, `\\`, `\"` and `\xNN` are one byte each, anything
/// else stands for itself.
pub(crate) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'\\', b'n', after @ ..] => (b'\n', after),
            [b'\\', b't', after @ ..] => (b'\t', after),
            [b'\\', b'x', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (first, &rest[1..]),
            },
            [b'\\', quoted @ (b'\\' | b'"'), after @ ..] => (*quoted, after),
            _ => (first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// The tokens of a dictionary in libFuzzer's format: `"token"` or `name="token"`, one a line, with
/// comments after `#`.
pub(crate) fn tokens(dictionary: &str) -> Vec<Vec<u8>> {
    let lines = dictionary.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let quoted = lines.filter_map(|line| {
        let (_, quoted) = line.split_once('"')?;
        quoted.strip_suffix('"')
    });
    quoted.map(|token| unescape(token.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_bytes_are_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(
            unescape(
                bytes
                    .escape_ascii()
                    .to_string()
                    .replace("\\r", "\\x0d")
                    .replace("\\'", "'")
                    .as_bytes()
            ),
            bytes
        );
        assert_eq!(unescape(br"\xg1\q\"), br"\xg1\q\");
    }

    #[test]
    fn a_dictionary_has_a_token_on_each_line_that_is_no_comment() {
        assert_eq!(
            tokens("# one\n\"a=\"\nname=\"\\x00\\\"\"\n\n"),
            [b"a=".to_vec(), vec![0, b'"']]
        );
    }
}
