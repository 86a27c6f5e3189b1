//! A mistake in configuration text, with its place.

use std::fmt;
use std::ops::Range;

/// A half-open range of byte offsets into a configuration text.
pub type Span = Range<usize>;

/// A mistake in the text of `cma=` or `cma.map=`. Nothing of that text took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong.
    pub mistake: Mistake,
    /// Where, in bytes of the text.
    pub span: Span,
    /// The text as it was given.
    pub text: String,
}

impl ConfigError {
    pub(crate) fn new(text: &str, span: Span, mistake: Mistake) -> Self {
        ConfigError { mistake, span, text: text.to_string() }
    }

    /// The part of the text that is wrong; empty when something is missing there.
    pub fn found(&self) -> &str {
        self.text.get(self.span.clone()).unwrap_or_default()
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    /// What, where (column, counted in characters from 1) and what was found there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self
            .text
            .get(..self.span.start)
            .map_or(self.span.start, |before| before.chars().count())
            + 1;
        write!(f, "{} at column {column}", self.mistake)?;
        match self.found() {
            "" if self.span.start >= self.text.len() => write!(f, ", where the text ends"),
            "" => Ok(()),
            found => write!(f, ": \"{}\"", found.escape_debug()),
        }
    }
}

/// What can be wrong in a configuration text. The message says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
    /// No name where one has to stand.
    #[error("expected a region's name")]
    NoRegionName,
    /// A character that no name of a region may have.
    #[error(
        "the name of a region takes no white space, control characters or any of ; , = / | @ : ( )"
    )]
    BadName,
    /// A character that no pattern for devices or types may have.
    #[error(
        "names of devices and types take no white space, control characters or any of ; , = / |"
    )]
    BadPattern,
    /// A name that no allocator can have.
    #[error("this can't be the name of an allocator: it {fault}")]
    BadAllocatorName {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// White space within a region, other than beside its `=`.
    #[error(
        "white space may stand only beside ';' and '=' and at both ends; a region is name=size[@start][/alignment][:allocator[(params)]]"
    )]
    Blank,
    /// Several regions in one place of a list.
    #[error(
        "expected one region's name; a list of regions is separated by ',' and tried in its order, as in camera=b1,b2"
    )]
    Group,
    /// A range in place of a start.
    #[error(
        "expected one address behind '@', where the region starts, as in name=64M@0x40000000; leave it out to have the region anywhere"
    )]
    Window,
    /// A wildcard in the name of a region.
    #[error("the name of a region takes no wildcard")]
    WildcardInName,
    /// The second region of that name.
    #[error("there is a region of this name already; names are unique")]
    DuplicateName,
    /// Something else where `=` has to stand.
    #[error("expected '=' and a size, as in name=16M")]
    NoEquals,
    /// Something else where a number has to stand.
    #[error(
        "expected a number: decimal, 0x hex or 0 octal, with an optional suffix K, M, G, T, P or E"
    )]
    NoNumber,
    /// Something behind a number that is no suffix.
    #[error("a number takes one suffix at most: K, M, G, T, P or E, for powers of 1024")]
    BadSuffix,
    /// A suffix of powers of 1000.
    #[error(
        "KB, MB and so on mean powers of 1000 to some, so they are not taken; write K or KiB, M or MiB, G or GiB for powers of 1024"
    )]
    DecimalSuffix,
    /// A fraction.
    #[error("sizes are whole numbers; write 8704K for 8.5M")]
    Fraction,
    /// The start behind the alignment.
    #[error("the start comes before the alignment: name=size@start/alignment")]
    StartAfterAlignment,
    /// A digit that the number's base doesn't have.
    #[error("8 and 9 are no octal digits; a number that starts with 0 is octal")]
    BadOctal,
    /// The number is larger than 64 bits can say.
    #[error("the number is too large: it needs more than 64 bits")]
    NumberTooLarge,
    /// The size is larger than the address space once it is rounded up to pages.
    #[error("the size, rounded up to whole pages of 4K, is more than a 64-bit address space holds")]
    SizeTooLarge,
    /// An explicit 0.
    #[error("a size, start or alignment of 0 is not allowed; leave it out to have none")]
    Zero,
    /// Start and size pass the top of the address space.
    #[error("start + size passes the top of the 64-bit address space")]
    PastTheTop,
    /// An alignment that is none.
    #[error("an alignment is a power of two")]
    NotPowerOfTwo,
    /// Parameters for the default allocator, which may be any.
    #[error("parameters need the name of their allocator before them")]
    ParamsOfNobody,
    /// Parameters that don't end.
    #[error("expected ')' behind the allocator's parameters")]
    UnclosedParams,
    /// Something left over behind an allocator.
    #[error("expected the end; an allocator is name[(params)]")]
    LeftOverAllocator,
    /// Something left over behind a region.
    #[error(
        "expected ';' or the end; a region is name=size[@start][/alignment][:allocator[(params)]]"
    )]
    LeftOver,
    /// An empty rule or region between two `;`.
    #[error("nothing stands between these separators")]
    Empty,
    /// A rule without `=`.
    #[error("expected '=' and a list of regions, as in camera=b1,b2")]
    NoRegions,
    /// A second `=` in a rule.
    #[error("a rule has one '='")]
    SecondEquals,
    /// No pattern where one has to stand.
    #[error("expected a pattern: device, device/type or /type")]
    NoPattern,
    /// A first pattern without a device.
    #[error(
        "a pattern that starts with '/' takes the device of the pattern before it; there is none"
    )]
    NoDeviceBefore,
    /// A `/` with nothing behind it.
    #[error("expected a type behind '/'; leave the '/' out to match any type")]
    NoType,
    /// A `*` that is not at the end.
    #[error("'*' may only stand at the end of a device or type")]
    StarInside,
    /// A second `/` in a pattern.
    #[error("a pattern has one '/', between device and type")]
    SecondSlash,
}
