//! What a program gets to know of its chunks: values in its arguments and in its environment. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The values of a chunk.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) name: String,
    /// The number of the descriptor that the program inherits.
    pub(super) fd: i32,
    /// The address as a device sees it.
    pub(super) start: u64,
    /// The size in bytes.
    pub(super) size: u64,
}

const FIELDS: [&str; 4] = ["fd", "path", "start", "size"];

/// An argument has a word in braces that is no value of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnknownValue {
    /// With its braces.
    pub(super) found: String,
    /// Those that are known, with their braces.
    pub(super) known: Vec<String>,
}

impl Values {
    /// Those of a chunk that is not allocated yet.
    pub(super) fn unknown(name: &str) -> Values {
        Values { name: name.to_string(), fd: 0, start: 0, size: 0 }
    }

    fn field(&self, field: &str) -> Option<String> {
        Some(match field {
            "fd" => self.fd.to_string(),
            "path" => format!("/proc/self/fd/{}", self.fd),
            "start" => format!("{:#x}", self.start),
            "size" => self.size.to_string(),
            _ => return None,
        })
    }

    /// The environment variables of the chunk.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let prefix = prefix(&self.name);
        FIELDS.into_iter().filter_map(move |field| {
            Some((format!("{prefix}{}", field.to_ascii_uppercase()), self.field(field)?))
        })
    }
}

/// The start of the names of a chunk's variables.
pub(super) fn prefix(name: &str) -> String {
    format!("CMA_{}_", name.to_ascii_uppercase().replace('-', "_"))
}

/// `argument` with each `{name.field}` replaced by the value of that chunk, and each `{{` by `{`.
pub(super) fn substituted(argument: &OsStr, chunks: &[Values]) -> Result<OsString, UnknownValue> {
    let mut rest = argument.as_bytes();
    let mut made = Vec::with_capacity(rest.len());
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'{' {
            made.push(byte);
        } else if let Some(behind) = rest.strip_prefix(b"{") {
            made.push(b'{');
            rest = behind;
        } else if let Some((name, field, behind)) = reference(rest) {
            let chunk = chunks.iter().find(|chunk| chunk.name == name);
            let value = chunk.and_then(|chunk| chunk.field(field)).ok_or_else(|| UnknownValue {
                found: format!("{{{name}.{field}}}"),
                known: chunks
                    .iter()
                    .flat_map(|chunk| FIELDS.map(|field| format!("{{{}.{field}}}", chunk.name)))
                    .collect(),
            })?;
            made.extend(value.into_bytes());
            rest = behind;
        } else {
            made.push(byte);
        }
    }
    Ok(OsString::from_vec(made))
}

/// The name and the field of `name.field}` at the start of `text`, and what is behind it.
fn reference(text: &[u8]) -> Option<(&str, &str, &[u8])> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    let end = text.iter().position(|byte| *byte == b'}')?;
    let (name, field) = str::from_utf8(&text[..end]).ok()?.split_once('.')?;
    let is_word = |word: &str| !word.is_empty() && word.as_bytes().iter().all(is_part);
    (is_word(name) && is_word(field)).then_some((name, field, &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks() -> [Values; 2] {
        [
            Values { name: "ram".to_string(), fd: 5, start: 0x4000_0000, size: 8192 },
            Values { name: "frame-1".to_string(), fd: 7, start: 0, size: 4096 },
        ]
    }

    fn made(argument: &str) -> Result<String, UnknownValue> {
        let made = substituted(OsStr::new(argument), &chunks())?;
        Ok(made.into_string().unwrap())
    }

    #[test]
    fn each_value_of_each_chunk_is_replaced() {
        let argument = "mem-path={ram.path},fd={ram.fd},at={ram.start}:{ram.size};{frame-1.fd}";
        assert_eq!(made(argument).unwrap(), "mem-path=/proc/self/fd/5,fd=5,at=0x40000000:8192;7");
    }

    #[test]
    fn other_braces_stand_for_themselves_and_two_for_one() {
        for argument in ["{}", "{", "}", "{ram", "{ram}", "{ram.}", "{.fd}", "{a b.c}", "${HOME}"] {
            assert_eq!(made(argument).unwrap(), argument);
        }
        let json = r#"{"driver":"file","filename":"disk.img"}"#;
        assert_eq!(made(json).unwrap(), json);
        assert_eq!(made("{{ram.fd}").unwrap(), "{ram.fd}");
        let bytes = OsStr::from_bytes(b"\xff{ram.fd}\xfe");
        assert_eq!(substituted(bytes, &chunks()).unwrap().as_bytes(), b"\xff5\xfe");
    }

    #[test]
    fn an_unknown_chunk_or_value_is_an_error_with_the_known_ones() {
        for (argument, found) in [("x={rom.fd}", "{rom.fd}"), ("{ram.address}", "{ram.address}")] {
            let error = made(argument).unwrap_err();
            assert_eq!(error.found, found);
            assert_eq!(error.known.len(), 8);
            assert_eq!(
                (error.known[0].as_str(), error.known[7].as_str()),
                ("{ram.fd}", "{frame-1.size}")
            );
        }
    }

    #[test]
    fn a_variable_is_named_after_its_chunk_in_capitals() {
        let variables: Vec<_> = chunks()[1].variables().collect();
        assert_eq!(variables[1], ("CMA_FRAME_1_PATH".to_string(), "/proc/self/fd/7".to_string()));
        assert_eq!(variables.len(), 4);
    }
}
