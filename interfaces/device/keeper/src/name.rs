//! The names of stored descriptors.

use std::fmt;

/// The name of a stored descriptor: 1 to 100 ASCII letters, digits, `-`, `.` and `_`. (systemd
/// permits no colon, and at most 255 bytes.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The most bytes of a name.
pub(crate) const MAX_NAME: usize = 100;

/// A text is no name of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{}\" is no name of a descriptor: that has 1 to {MAX_NAME} letters, digits, '-', '.' and '_'",
    .0.escape_debug()
)]
pub struct NameError(String);

impl Name {
    /// The name that is `text`.
    ///
    /// # Errors
    ///
    /// It is empty, is too long, or has another character.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(permitted) {
            Ok(Name(text))
        } else {
            Err(NameError(text))
        }
    }

    /// The name of the accepted connection with that number.
    pub(crate) fn of_connection(number: u64) -> Self {
        Name(format!("connection-{number}"))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
