//! Text from bytes, compressed or not, line by line.

use super::error::ReadError;
use super::gzip::GzipMembers;
use super::lines::Lines;
use std::io::{BufReader, Read};

/// An error of reading lines.
pub(crate) trait OfInput: From<ReadError> {
    /// Whether the input couldn't be read or decompressed; otherwise its text is wrong.
    fn is_of_input(&self) -> bool;
}

impl OfInput for ReadError {
    fn is_of_input(&self) -> bool {
        matches!(
            self,
            ReadError::Truncated { .. }
                | ReadError::Damaged { .. }
                | ReadError::LeftOver { .. }
                | ReadError::Io { .. }
        )
    }
}

/// Gives `read` the lines of `input`, which have up to `longest` bytes each. It is decompressed if
/// it is compressed by gzip.
///
/// # Errors
///
/// Those of `read`; but if the rest of compressed input is damaged, that.
pub(crate) fn with_lines<T, E: OfInput>(
    mut input: impl Read,
    longest: usize,
    read: impl FnOnce(&mut Lines<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let mut start = Vec::new();
    input
        .by_ref()
        .take(2)
        .read_to_end(&mut start)
        .map_err(|source| ReadError::Io { line: 0, source })?;
    let compressed = start == [0x1f, 0x8b];
    let mut input = start.chain(input);
    if !compressed {
        return read(&mut Lines::new(&mut BufReader::new(&mut input), longest, false));
    }
    let mut input = BufReader::new(GzipMembers::new(BufReader::new(input)));
    let mut lines = Lines::new(&mut input, longest, true);
    read(&mut lines).map_err(|error| {
        let damage = if error.is_of_input() { None } else { lines.damage() };
        damage.map_or(error, E::from)
    })
}
