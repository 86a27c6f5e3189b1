//! Attributes of a framework as texts.

use crate::failure::Failure;
use cma_framework::Attributes;
use cma_framework::attributes::{AttributeError, Entry};
use std::fmt::Write;

/// The text at `path`. That of a folder has a line for each entry, as a server sends it.
pub(crate) fn read(attributes: &Attributes, path: &str) -> Result<String, Failure> {
    match attributes.read(path) {
        Err(AttributeError::Folder) => list(attributes, path),
        read => Ok(read?),
    }
}

fn list(attributes: &Attributes, path: &str) -> Result<String, Failure> {
    let mut text = String::new();
    for (name, entry) in attributes.list(path)? {
        // Writing to a `String` doesn't fail.
        let _ = match entry {
            Entry::Attribute { .. } => writeln!(text, "{name}"),
            Entry::Folder => writeln!(text, "{name}/"),
            Entry::Link { target } => writeln!(text, "{name} -> {target}"),
        };
    }
    Ok(text)
}
