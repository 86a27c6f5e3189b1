//! The argument of the ioctl of `/dev/cma`: a structure of 64 bytes, of which two layouts exist
//! (specification section 8).
//!
//! ```text
//! layout A: u32 magic; char name[17]; char type[17]; u16 pad; u64 size; u64 alignment; u64 start
//! layout B: u32 magic; u32 request; u64 size; u64 alignment; u64 start; char spec[32]
//! ```
//!
//! Size, magic and ioctl number are the same in both, so the layout has to be recognised by the
//! bytes after the magic.
//!
//! # Recognising the layout
//!
//! The fields overlap: bytes 1 to 4 of layout A's name are layout B's request; the next eight its
//! size; the last five, with the first three of the type, its alignment; `spec` starts at byte 12
//! of the type. A structure has layout B
//!
//! 1. when the byte after the magic is below the blank. In layout B it is the first byte in memory
//!    of a number that is 0 or 1; in layout A it is the first byte of a name, which can't be empty
//!    (a request without a device is invalid), and can't start with a control character in a map;
//! 2. when the name has at most four bytes before its zero, and the structure is valid in layout B
//!    except for its request, which is unknown then: the size is not 0, the alignment is 0 or a
//!    power of two, and `spec` is not empty.
//!
//! Every other structure has layout A. So an unknown request is `EINVAL` whatever is in `spec`:
//! also one whose bytes read as a short name, and one whose bytes read as a name of four letters or
//! more if the size's first byte in memory is 0 (in little-endian order: if the size is a multiple
//! of 256). A structure in layout A is never taken for layout B
//!
//! - if its name was copied into zeroed memory: layout B's size is 0 where a name of up to four
//!   letters is followed by zeroes only;
//! - if its name has five letters or more, whatever follows it;
//! - if it has a type, which is the top of layout B's alignment, unless the type is one letter with
//!   a single bit (`@`) with zeroes before and after it;
//! - if zeroes follow its type, whatever remains of an earlier name after its own: then `spec` is
//!   empty.
//!
//! Some structures can't be distinguished, because their bytes are the same:
//!
//! - layout A with a name of up to four letters and without a type, both in memory that was not
//!   zeroed, if bytes 5 to 12 of the name happen not to be zero, the bytes after them have at most
//!   one bit, and byte 12 of the type is not zero. It is taken for an unknown request: `EINVAL`;
//! - layout B with an unknown request *and* a size of 0, an invalid alignment or an empty `spec`,
//!   each of which is `EINVAL` by itself, or without a 0 in the request's four bytes and the size's
//!   first. It is taken for layout A, whose size is then `spec` from byte 9 on: 0 after a shorter
//!   text, which is `EINVAL`, too.
//!
//! # Names
//!
//! In a C program names are bytes that end with a zero; nothing else is required of them. Maps and
//! the protocol use UTF-8. Each byte that is not part of a UTF-8 character becomes U+FFFD. So it is
//! treated as if maps were bytes: no map spells it, so a device with such a name is `ENOENT` like
//! any other unknown device; `?` matches it, and so does `*`. (U+FFFD in a map matches such a
//! byte.)

use crate::malformed::MAGIC;
use crate::request::RegionSelector;
use arrayvec::ArrayString;

/// `_IOWR('p', 0, struct)`: the one ioctl of the device.
pub const ALLOC: u32 = 3 << 30 | (BYTES as u32) << 16 | (b'p' as u32) << 8;

/// The size of the structure in both layouts.
pub const BYTES: usize = 64;

/// The longest names of a structure: a byte that becomes U+FFFD takes three.
const NAMES: usize = 3 * 32;

/// A request for a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoctlRequest {
    names: ArrayString<NAMES>,
    /// The length of the device's name, after which the type begins; `None` for a list of regions.
    kind_at: Option<usize>,
    /// The size in bytes.
    pub size: u64,
    /// The alignment in bytes; 0 for a page.
    pub alignment: u64,
    /// The offset in the structure at which the chunk's address is to be written, as a `u64`.
    pub start_at: usize,
}

impl IoctlRequest {
    /// The regions that may serve the request.
    pub fn from(&self) -> RegionSelector<'_> {
        match self.kind_at {
            Some(at) => {
                RegionSelector::Device { device: &self.names[..at], kind: &self.names[at..] }
            }
            None => RegionSelector::Regions(&self.names),
        }
    }
}

/// Why a structure is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IoctlError {
    /// The magic number is another: `ENOTTY`.
    #[error("the structure doesn't start with {MAGIC:#x}")]
    Magic,
    /// A string doesn't end in its field, or the request is unknown: `EINVAL`.
    #[error("a string of the structure doesn't end in its field, or its request is unknown")]
    Invalid,
}

/// Decodes a structure of either layout.
///
/// # Errors
///
/// [`IoctlError`].
pub fn read(structure: &[u8; BYTES]) -> Result<IoctlRequest, IoctlError> {
    if u32::from_ne_bytes(part(structure, 0)) != MAGIC {
        return Err(IoctlError::Magic);
    }
    if structure[4] < b' ' || makes_sense_as_b(structure) {
        read_b(structure)
    } else {
        read_a(structure)
    }
}

/// Whether a structure that starts like a name is valid in layout B except for its request.
fn makes_sense_as_b(structure: &[u8; BYTES]) -> bool {
    let name_is_short = structure[5..=8].contains(&0);
    let alignment = u64::from_ne_bytes(part(structure, 16));
    let alignment_can_be = alignment == 0 || alignment.is_power_of_two();
    name_is_short && part(structure, 8) != [0; 8] && alignment_can_be && structure[32] != 0
}

fn read_a(structure: &[u8; BYTES]) -> Result<IoctlRequest, IoctlError> {
    let (device, kind) = (string(&structure[4..21])?, string(&structure[21..38])?);
    let mut names = ArrayString::new();
    append(&mut names, device);
    let kind_at = Some(names.len());
    append(&mut names, kind);
    Ok(IoctlRequest {
        names,
        kind_at,
        size: u64::from_ne_bytes(part(structure, 40)),
        alignment: u64::from_ne_bytes(part(structure, 48)),
        start_at: 56,
    })
}

fn read_b(structure: &[u8; BYTES]) -> Result<IoctlRequest, IoctlError> {
    let spec = string(&structure[32..])?;
    let mut names = ArrayString::new();
    let kind_at = match u32::from_ne_bytes(part(structure, 4)) {
        0 => {
            let slash = spec.iter().rposition(|byte| *byte == b'/');
            let (device, kind) = slash.map_or((spec, &[][..]), |at| (&spec[..at], &spec[at + 1..]));
            append(&mut names, device);
            let kind_at = names.len();
            append(&mut names, kind);
            Some(kind_at)
        }
        1 => {
            append(&mut names, spec);
            None
        }
        _ => return Err(IoctlError::Invalid),
    };
    Ok(IoctlRequest {
        names,
        kind_at,
        size: u64::from_ne_bytes(part(structure, 8)),
        alignment: u64::from_ne_bytes(part(structure, 16)),
        start_at: 24,
    })
}

fn part<const N: usize>(structure: &[u8; BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| structure[at + i])
}

/// The bytes before the terminating zero.
fn string(field: &[u8]) -> Result<&[u8], IoctlError> {
    let end = field.iter().position(|byte| *byte == 0).ok_or(IoctlError::Invalid)?;
    Ok(&field[..end])
}

/// Appends a name. There is room: `NAMES` is enough for all names of a structure.
fn append(names: &mut ArrayString<NAMES>, name: &[u8]) {
    for chunk in name.utf8_chunks() {
        names.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|_| names.push(char::REPLACEMENT_CHARACTER));
    }
}

#[cfg(test)]
mod tests;
