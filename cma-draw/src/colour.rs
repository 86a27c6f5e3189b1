//! Colours, and the two themes.

use std::fmt;

/// A colour in sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Colour {
    /// Red.
    pub red: u8,
    /// Green.
    pub green: u8,
    /// Blue.
    pub blue: u8,
}

impl Colour {
    /// The colour of the hexadecimal number `0xrrggbb`.
    pub const fn hex(rgb: u32) -> Self {
        let [_, red, green, blue] = rgb.to_be_bytes();
        Colour { red, green, blue }
    }

    /// This colour over `below`, with `share` (0 to 1) of this one.
    pub(crate) fn over(self, below: Colour, share: f64) -> Colour {
        let mix = |above: u8, below: u8| {
            (f64::from(above) * share + f64::from(below) * (1.0 - share)).round() as u8
        };
        Colour {
            red: mix(self.red, below.red),
            green: mix(self.green, below.green),
            blue: mix(self.blue, below.blue),
        }
    }

    /// The outline of a chunk of this colour.
    pub(crate) fn outline(self) -> Colour {
        Colour::hex(0).over(self, 0.35)
    }

    /// Black or white: the one with more contrast to this colour.
    pub(crate) fn ink(self) -> Colour {
        let (black, white) = (Colour::hex(0), Colour::hex(0xff_ff_ff));
        if self.contrast(black) > self.contrast(white) { black } else { white }
    }

    /// The contrast ratio of WCAG 2.2, from 1 to 21.
    pub(crate) fn contrast(self, other: Colour) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// The relative luminance of WCAG 2.2, from 0 to 1.
    fn luminance(self) -> f64 {
        let linear = |value: u8| match f64::from(value) / 255.0 {
            dark if dark <= 0.04045 => dark / 12.92,
            light => ((light + 0.055) / 1.055).powf(2.4),
        };
        0.2126 * linear(self.red) + 0.7152 * linear(self.green) + 0.0722 * linear(self.blue)
    }
}

impl fmt::Display for Colour {
    /// As in SVG, `#rrggbb`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.red, self.green, self.blue)
    }
}

/// The colours of everything but chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// Dark on white.
    #[default]
    Light,
    /// Light on nearly black.
    Dark,
}

/// The colours of the devices, in the order in which they are given out: those of M. Okabe and
/// K. Ito, "Color Universal Design" (2008), which people with any kind of colour vision can tell
/// apart. Vermillion is near to [`Theme::alarm`]'s, and black can't be seen in the dark theme.
pub(crate) const DEVICES: [Colour; 6] = [
    Colour::hex(0x00_72_b2),
    Colour::hex(0xe6_9f_00),
    Colour::hex(0x00_9e_73),
    Colour::hex(0xcc_79_a7),
    Colour::hex(0x56_b4_e9),
    Colour::hex(0xf0_e4_42),
];

/// The colour of all devices that have none of their own.
pub(crate) const OTHERS: Colour = Colour::hex(0x90_90_90);

impl Theme {
    /// The background of the picture.
    pub(crate) fn paper(self) -> Colour {
        match self {
            Theme::Light => Colour::hex(0xff_ff_ff),
            Theme::Dark => Colour::hex(0x16_18_1c),
        }
    }

    /// Free memory.
    pub(crate) fn free(self) -> Colour {
        match self {
            Theme::Light => Colour::hex(0xf2_f3_f5),
            Theme::Dark => Colour::hex(0x24_27_2d),
        }
    }

    /// Text.
    pub(crate) fn ink(self) -> Colour {
        match self {
            Theme::Light => Colour::hex(0x1c_1f_24),
            Theme::Dark => Colour::hex(0xe6_e8_eb),
        }
    }

    /// Text and lines of less importance.
    pub(crate) fn pale_ink(self) -> Colour {
        match self {
            Theme::Light => Colour::hex(0x5c_63_6e),
            Theme::Dark => Colour::hex(0x9d_a5_b1),
        }
    }

    /// Refused requests, and the free memory that could not serve them.
    pub(crate) fn alarm(self) -> Colour {
        match self {
            Theme::Light => Colour::hex(0xc2_41_00),
            Theme::Dark => Colour::hex(0xff_63_47),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_contrast_that_wcag_asks_for() {
        for colour in DEVICES.into_iter().chain([OTHERS]) {
            assert!(colour.contrast(colour.ink()) >= 4.5, "{colour}");
        }
        for theme in [Theme::Light, Theme::Dark] {
            for ink in [theme.ink(), theme.pale_ink()] {
                assert!(ink.contrast(theme.paper()) >= 4.5, "{theme:?} {ink}");
            }
            // Graphics and large texts need 3.
            assert!(theme.alarm().contrast(theme.paper()) >= 3.0, "{theme:?}");
            assert!(theme.alarm().contrast(theme.free()) >= 3.0, "{theme:?}");
        }
    }
}
