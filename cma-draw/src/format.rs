//! The formats of files.

use crate::scene::Scene;
use crate::{png, svg};
use std::io::{self, Write};
use std::path::Path;

/// The format of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Scalable Vector Graphics 1.1. Chunks that are large enough to point at have their names as
    /// tool tips.
    Svg,
    /// Portable Network Graphics.
    Png,
}

/// A file whose name has no known ending.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a picture's file ends with .svg or .png")]
pub struct UnknownFormat;

impl Format {
    /// The format that the ending of `path` names.
    ///
    /// # Errors
    ///
    /// [`UnknownFormat`].
    pub fn of_path(path: &Path) -> Result<Format, UnknownFormat> {
        let ending = path.extension().ok_or(UnknownFormat)?.to_ascii_lowercase();
        match ending.to_str() {
            Some("svg") => Ok(Format::Svg),
            Some("png") => Ok(Format::Png),
            _ => Err(UnknownFormat),
        }
    }
}

impl Scene {
    /// Writes the picture.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Svg => svg::write(self, out),
            Format::Png => png::write(self, out),
        }
    }
}
