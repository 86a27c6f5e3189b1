//! What the caller of a picture chooses.

use crate::colour::Theme;
use std::str::FromStr;

/// The width and the height of a picture in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    width: u32,
    height: u32,
}

/// A size that no picture can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// The text is no size.
    #[error("a size is WIDTHxHEIGHT in pixels, as 1200x800")]
    Unreadable,
    /// It is too narrow or too low.
    #[error("a picture has at least {}x{} pixels", Size::LEAST.width, Size::LEAST.height)]
    Small,
    /// It has too many pixels.
    #[error(
        "a picture has at most {} pixels in a direction and {} together",
        Size::LONGEST,
        Size::MOST_PIXELS
    )]
    Large,
    /// It has no room for all panels.
    #[error("panels of this width need a height of {least_height} pixels, for {panels} of them")]
    Panels {
        /// How many panels were to be drawn.
        panels: usize,
        /// The height that they need.
        least_height: u32,
    },
}

impl Size {
    /// The smallest size.
    pub const LEAST: Size = Size { width: 320, height: 240 };
    /// The most pixels in a direction.
    pub const LONGEST: u32 = 16_384;
    /// The most pixels of a picture. A drawing needs 32 bytes for each.
    pub const MOST_PIXELS: u32 = 1 << 24;

    /// A size.
    ///
    /// # Errors
    ///
    /// [`SizeError::Small`] or [`SizeError::Large`].
    pub fn new(width: u32, height: u32) -> Result<Size, SizeError> {
        if width < Size::LEAST.width || height < Size::LEAST.height {
            return Err(SizeError::Small);
        }
        if width.max(height) > Size::LONGEST || width * height > Size::MOST_PIXELS {
            return Err(SizeError::Large);
        }
        Ok(Size { width, height })
    }

    /// The size for `panels` panels if the caller has no wish.
    pub fn usual(panels: usize) -> Size {
        let panels = u32::try_from(panels).unwrap_or(u32::MAX).clamp(1, 24);
        Size { width: 1200, height: 240 + 540 * panels }
    }

    /// The width in pixels.
    pub fn width(self) -> u32 {
        self.width
    }

    /// The height in pixels.
    pub fn height(self) -> u32 {
        self.height
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Size, SizeError> {
        let (width, height) = text.split_once(['x', 'X']).ok_or(SizeError::Unreadable)?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
            // A number that is no u32 is too large for a picture as well.
            digits.then(|| text.parse::<u32>().unwrap_or(u32::MAX)).ok_or(SizeError::Unreadable)
        };
        let (width, height) = (number(width)?, number(height)?);
        if width.max(height) > Size::LONGEST {
            return Err(SizeError::Large);
        }
        Size::new(width, height)
    }
}

/// What the horizontal axis of a picture shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Axis {
    /// The recorded time.
    #[default]
    Time,
    /// The operations, all equally wide: for traces with long idle times.
    Operations,
}

/// How a picture looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Its size.
    pub size: Size,
    /// Its colours.
    pub theme: Theme,
    /// Its horizontal axis, if it shows time.
    pub axis: Axis,
}
