//! Errors in configuration text, with their position.

use std::error::Error;
use std::fmt;
use std::ops::Range;

/// A half-open range of byte offsets into a configuration text.
pub type Span = Range<usize>;

/// An error in a configuration text. Nothing of that text took effect.
///
/// For the text of `cma=` and `cma.map=` the kind is a [`SyntaxError`]; other grammars of a host
/// can have a type of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError<K = SyntaxError> {
    /// The kind of error.
    pub kind: K,
    /// The position, in bytes of the text.
    pub span: Span,
    /// The whole text.
    pub text: String,
}

impl<K> ConfigError<K> {
    /// An error at `span` of `text`.
    pub fn new(text: &str, span: Span, kind: K) -> Self {
        ConfigError { kind, span, text: text.to_string() }
    }

    /// The part of the text that is wrong; empty when something is missing there.
    pub fn found(&self) -> &str {
        self.text.get(self.span.clone()).unwrap_or_default()
    }

    /// The same error with its kind converted.
    pub fn map<T>(self, convert: impl FnOnce(K) -> T) -> ConfigError<T> {
        ConfigError { kind: convert(self.kind), span: self.span, text: self.text }
    }
}

impl<K: Error> Error for ConfigError<K> {}

impl<K: fmt::Display> fmt::Display for ConfigError<K> {
    /// The kind, the position (column, counted in characters from 1) and the text found there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.text.get(..self.span.start);
        let column = before.map_or(self.span.start, |before| before.chars().count()) + 1;
        write!(f, "{} at column {column}", self.kind)?;
        match self.found() {
            "" if self.span.start >= self.text.len() => write!(f, ", where the text ends"),
            "" => Ok(()),
            found => write!(f, ": \"{}\"", found.escape_debug()),
        }
    }
}

/// The kind of an error in a `cma=` or `cma.map=` text. The message says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxError {
    /// A region name is missing.
    #[error("expected a region's name")]
    NoRegionName,
    /// A character that is not allowed in a region name.
    #[error(
        "a region name can't contain white space, control characters or any of ; , = / | @ : ( )"
    )]
    BadName,
    /// A character that is not allowed in a device or type pattern.
    #[error(
        "a device or type name can't contain white space, control characters or any of ; , = / |"
    )]
    BadPattern,
    /// Not a valid allocator name.
    #[error("this can't be the name of an allocator: it {fault}")]
    BadAllocatorName {
        /// The fault of the name.
        fault: &'static str,
    },
    /// White space within a region, other than beside its `=`.
    #[error(
        "white space is allowed only beside ';' and '=' and at both ends; a region is name=size[@start[-end]][/alignment][:allocator[(params)]]"
    )]
    WhiteSpace,
    /// A wildcard in the name of a region.
    #[error("a region name can't contain a wildcard")]
    WildcardInName,
    /// The second region with that name.
    #[error("there is a region with this name already; names are unique")]
    DuplicateName,
    /// The `=` of a region is missing.
    #[error("expected '=' and a size, as in name=16M")]
    NoEquals,
    /// A number is missing.
    #[error(
        "expected a number: decimal, 0x hex or 0 octal, with an optional suffix K, M, G, T, P or E"
    )]
    NoNumber,
    /// The text after a number is not a suffix.
    #[error("a number has at most one suffix: K, M, G, T, P or E, for powers of 1024")]
    BadSuffix,
    /// A suffix for powers of 1000.
    #[error(
        "KB, MB and so on are ambiguous (1000 or 1024) and not accepted; write K or KiB, M or MiB, G or GiB for powers of 1024"
    )]
    DecimalSuffix,
    /// A fraction.
    #[error("sizes are whole numbers; write {}", remedy.as_deref().unwrap_or("8704K for 8.5M"))]
    Fraction {
        /// The size as a whole number, rounded up, if it could be read.
        remedy: Option<String>,
    },
    /// The start after the alignment.
    #[error("the start comes before the alignment: name=size@start/alignment")]
    StartAfterAlignment,
    /// A digit 8 or 9 in an octal number.
    #[error("8 and 9 are not octal digits; a number that starts with 0 is octal")]
    BadOctal,
    /// The number does not fit into 64 bits.
    #[error("the number is too large: it needs more than 64 bits")]
    NumberTooLarge,
    /// The size, rounded up to pages, does not fit into the address space.
    #[error("the size, rounded up to whole pages of 4K, does not fit into a 64-bit address space")]
    SizeTooLarge,
    /// An explicit 0.
    #[error("a size or alignment of 0 is not allowed; omit an alignment to have none")]
    Zero,
    /// A fixed start of 0.
    #[error(
        "a region can't have a fixed start of 0; omit it, or write a window, which may begin at 0, as in @0-1G"
    )]
    ZeroStart,
    /// A window's end is not above its start.
    #[error("a window is start-end with an end above its start, as in @0x40000000-0x80000000")]
    EmptyWindow,
    /// A window's end is above the address space.
    #[error("a window ends at the top of the 64-bit address space, 16E, or below it")]
    EndPastTheTop,
    /// A region is larger than its window.
    #[error("this window has fewer whole pages than the region; widen it, or shrink the region")]
    WindowTooSmall,
    /// A window has no aligned place of the region's size.
    #[error(
        "this window has room for the region, but not at a multiple of its alignment; widen it, or write a smaller alignment"
    )]
    WindowUnaligned,
    /// The region would pass the top of the address space.
    #[error("start + size passes the top of the 64-bit address space")]
    PastTheTop,
    /// The alignment is not a power of two.
    #[error("an alignment must be a power of two")]
    NotPowerOfTwo,
    /// Parameters without an allocator name.
    #[error("parameters need the name of an allocator before them")]
    ParamsWithoutAllocator,
    /// The parameters are not terminated.
    #[error("expected ')' after the allocator's parameters")]
    UnclosedParams,
    /// A bank is missing.
    #[error("expected a bank of memory: size@start, as in 2G@0x80000000")]
    NoBank,
    /// The start of a bank is missing.
    #[error("expected '@' and the start of the bank, as in 2G@0x80000000")]
    NoBankStart,
    /// A bank's size or start is not a multiple of the page size.
    #[error("a bank is whole pages: its size and its start are multiples of 4K")]
    PartOfAPage,
    /// Text after a bank.
    #[error("expected ';' or the end; a bank is size@start")]
    TextAfterBank,
    /// Text after an allocator.
    #[error("expected the end; an allocator is name[(params)]")]
    TextAfterAllocator,
    /// Text after a region.
    #[error(
        "expected ';' or the end; a region is name=size[@start[-end]][/alignment][:allocator[(params)]]"
    )]
    TextAfterRegion,
    /// An empty rule or region between two `;`.
    #[error("there is nothing between these separators")]
    Empty,
    /// A rule without `=`.
    #[error("expected '=' and a list of regions, as in camera=b1,b2")]
    NoRegions,
    /// A second `=` in a rule.
    #[error("a rule has one '='")]
    SecondEquals,
    /// A pattern is missing.
    #[error("expected a pattern: device, device/type or /type")]
    NoPattern,
    /// A pattern without a device, and no pattern before it to take one from.
    #[error(
        "a pattern that starts with '/' takes the device of the pattern before it; there is none"
    )]
    NoDeviceBefore,
    /// A `/` without a type after it.
    #[error("expected a type after '/'; omit the '/' to match any type")]
    NoType,
    /// A `*` that is not at the end.
    #[error("'*' is allowed only at the end of a device or type")]
    StarInside,
    /// A second `/` in a pattern.
    #[error("a pattern has one '/', between device and type")]
    SecondSlash,
}
