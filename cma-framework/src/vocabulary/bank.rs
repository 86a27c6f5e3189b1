//! Banks of memory, as constants and as text:
//!
//! ```text
//! banks ::= bank { ';' bank } [ ';' ]
//! bank  ::= size '@' start
//! ```
//!
//! White space beside `;` and at both ends is ignored.

use super::cursor::Cursor;
use super::size::{Bytes, parse_size};
use super::syntax::{ConfigError, SyntaxError};
use cma_api::{Alignment, DmaAddr, PAGE_SIZE, PageRange};
use std::fmt;

/// A bank of memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bank(
    /// Its address range.
    pub PageRange,
);

impl Bank {
    /// A bank of `size` bytes at `start`.
    ///
    /// # Panics
    ///
    /// When the range is not whole pages within the address space. In a constant, that is an error
    /// at compile time.
    pub const fn new(start: u64, size: u64) -> Bank {
        match PageRange::from_bytes(DmaAddr::new(start), size) {
            Some(range) => Bank(range),
            None => panic!("a bank is whole pages within the address space"),
        }
    }

    /// Reads a list of banks, such as `2G@0;2G@0x800000000`. White space beside `;` and at both
    /// ends is ignored. Adjacent and overlapping banks are allowed: together they are one piece of
    /// memory.
    ///
    /// # Errors
    ///
    /// The first error with its position. A list without a bank is an error.
    pub fn parse_list(text: &str) -> Result<Vec<Bank>, ConfigError> {
        let mut cursor = Cursor::over(text);
        let mut banks = Vec::new();
        loop {
            banks.push(cursor.bank()?);
            cursor.skip_white_space();
            if !cursor.is_at_end() && !cursor.eat(';') {
                let (_, span) = cursor.until(&[';']);
                return Err(cursor.error(span, SyntaxError::TextAfterBank));
            }
            cursor.skip_white_space();
            if cursor.is_at_end() {
                return Ok(banks);
            }
        }
    }
}

impl Cursor<'_> {
    fn bank(&mut self) -> Result<Bank, ConfigError> {
        if self.is_at_end() || self.rest().starts_with(';') {
            return Err(self.error(self.at..self.at, SyntaxError::NoBank));
        }
        let (size, size_span) = self.number()?;
        if !self.eat('@') {
            return Err(self.error(self.at..self.at, SyntaxError::NoBankStart));
        }
        let (start, start_span) = self.number_by(parse_size)?;
        if !size.is_multiple_of(PAGE_SIZE) {
            return Err(self.error(size_span, SyntaxError::PartOfAPage));
        }
        if !DmaAddr::new(start).is_aligned(Alignment::PAGE) {
            return Err(self.error(start_span, SyntaxError::PartOfAPage));
        }
        match PageRange::from_bytes(DmaAddr::new(start), size) {
            Some(range) => Ok(Bank(range)),
            None => Err(self.error(start_span, SyntaxError::PastTheTop)),
        }
    }
}

impl fmt::Display for Bank {
    /// Size and start, as in `2G@0x800000000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", Bytes(self.0.bytes()), self.0.start())
    }
}

impl fmt::Debug for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bank({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_of_banks_is_read() {
        let two = [Bank::new(0, 2 << 30), Bank::new(0x8_0000_0000, 2 << 30)];
        for text in ["2G@0;2G@0x800000000", " 2G@0 ;\n2GiB@32G;\n", "0x80000000@00;2048M@32G;"] {
            assert_eq!(Bank::parse_list(text).unwrap(), two, "{text:?}");
        }
        let top = Bank::parse_list("4K@0xfffffffffffff000").unwrap();
        assert_eq!(top, [Bank(PageRange::from_pages((1 << 52) - 1, 1))]);
    }

    #[test]
    fn every_syntax_error_has_its_position() {
        for (text, kind, found) in [
            ("", SyntaxError::NoBank, ""),
            (" \n", SyntaxError::NoBank, ""),
            (";", SyntaxError::NoBank, ""),
            ("2G@0;;2G@4G", SyntaxError::NoBank, ""),
            ("x", SyntaxError::NoNumber, ""),
            ("2G", SyntaxError::NoBankStart, ""),
            ("2G;1G@0", SyntaxError::NoBankStart, ""),
            ("2G@", SyntaxError::NoNumber, ""),
            ("2G @0", SyntaxError::NoBankStart, ""),
            ("0@0", SyntaxError::Zero, "0"),
            ("6K@0", SyntaxError::PartOfAPage, "6K"),
            ("4K@1", SyntaxError::PartOfAPage, "1"),
            ("1G@0,1G@2G", SyntaxError::TextAfterBank, ",1G@2G"),
            ("1G@0x0+1;1G@2G", SyntaxError::TextAfterBank, "+1"),
            ("8E@15E", SyntaxError::PastTheTop, "15E"),
            ("1G@16E", SyntaxError::NumberTooLarge, "16E"),
        ] {
            let error = Bank::parse_list(text).expect_err(text);
            assert_eq!((&error.kind, error.found()), (&kind, found), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn displayed_banks_parse_to_the_same_banks(
            banks in proptest::collection::vec((0..1_u64 << 51, 1..1_u64 << 51), 1..6),
        ) {
            let banks: Vec<_> = banks
                .into_iter()
                .map(|(first, pages)| Bank(PageRange::from_pages(first, pages)))
                .collect();
            let text = banks.iter().map(Bank::to_string).collect::<Vec<_>>().join(";");
            prop_assert_eq!(Bank::parse_list(&text).unwrap(), banks);
        }

        #[test]
        fn the_parser_never_panics(text in "\\PC*", likely in "[0-9xKGE@; \\n-]{0,24}") {
            for text in [text, likely] {
                if let Err(error) = Bank::parse_list(&text) {
                    prop_assert!(text.get(error.span.clone()).is_some(), "{:?} in {:?}", error.span, text);
                    let _ = error.to_string();
                }
            }
        }
    }
}
