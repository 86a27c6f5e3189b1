//! What a C program hands to `/dev/cma`: one structure of 64 bytes, of which two layouts are about
//! (specification section 8).
//!
//! ```text
//! layout A: u32 magic; char name[17]; char type[17]; u16 pad; u64 size; u64 alignment; u64 start
//! layout B: u32 magic; u32 request; u64 size; u64 alignment; u64 start; char spec[32]
//! ```
//!
//! Size, magic and the number of the ioctl are the same, so what stands behind the magic has to
//! tell them apart.
//!
//! # What tells them apart
//!
//! The first four letters of layout A's name are layout B's request; the next eight its size; the
//! last five, with the first three of the type, its alignment; the twelfth letter of the type is
//! where `spec` starts. A structure is layout B
//!
//! 1. when the byte behind the magic is below the blank. In layout B it is the first byte in memory
//!    of a number that is 0 or 1; in layout A the first letter of a name, which can't be empty (a
//!    device without one is invalid), and can't be written in a map with a control character;
//! 2. when the name ends with its fourth letter or before, and it makes sense as layout B but for
//!    its request, which is unknown then: a size, an alignment that is none or a power of two, and
//!    a `spec` that isn't empty.
//!
//! Anything else is layout A. So a request that doesn't exist is `EINVAL` whatever is in `spec`,
//! also one that reads as a short name, and so is one that reads as four letters and more where the
//! size's first byte in memory is 0 (in little-endian order: where it is a multiple of 256). A
//! program in layout A is never taken for one in layout B
//!
//! - with its name in zeroes: layout B's size is 0 where a name of up to four letters has only
//!   zeroes behind it;
//! - with a name of five letters and more, whatever is behind its end;
//! - with a type, which is the top of layout B's alignment, unless it is a lone letter with a
//!   single bit (`@`) and there are zeroes before and behind it;
//! - with zeroes behind the type, however much of another name is left behind its own: then `spec`
//!   is empty.
//!
//! What can't be told apart, because the bytes are the same:
//!
//! - layout A with a name of up to four letters and no type, neither of them in zeroes, where
//!   chance has put anything into the name's letters 5 to 12, nothing or a single bit into those
//!   behind, and anything into the type's twelfth. It is taken for an unknown request: `EINVAL`;
//! - layout B with an unknown request *and* no size, an impossible alignment or an empty `spec`,
//!   each `EINVAL` by itself, or one without a 0 in its four bytes and the size's first. It is
//!   taken for layout A, and what then stands in the place of that one's size is `spec` from its
//!   ninth letter on: 0 behind a shorter text, and `EINVAL` all the same.
//!
//! # Names
//!
//! A C program's names are bytes, and end with a zero: nothing else is asked of them. Maps are
//! text, and so is what goes to the server. A byte that is in no letter of UTF-8 becomes U+FFFD,
//! one for each. So it is what it would be if maps were bytes: a letter that no map spells out, so
//! that a name with it is `ENOENT` like any other name that isn't there; one that `?` stands for,
//! as it does for any other; and one of a rest that `*` stands for. (A map that has U+FFFD itself
//! means such a byte by it.)

use crate::malformed::MAGIC;
use crate::request::RegionSelector;
use arrayvec::ArrayString;

/// `_IOWR('p', 0, struct)`: the one ioctl of the device.
pub const ALLOC: u32 = 3 << 30 | (BYTES as u32) << 16 | (b'p' as u32) << 8;

/// The size of the structure in both layouts.
pub const BYTES: usize = 64;

/// Room for all names of a structure. A byte that is no letter takes three.
const NAMES: usize = 3 * 32;

/// What a structure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoctlRequest {
    names: ArrayString<NAMES>,
    /// Where the device's name ends and the type begins; `None` when it is a list of regions.
    kind_at: Option<usize>,
    /// The size in bytes.
    pub size: u64,
    /// The alignment in bytes; 0 for a page.
    pub alignment: u64,
    /// Where in the structure the chunk's address is to be written, as a `u64`.
    pub start_at: usize,
}

impl IoctlRequest {
    /// Where the chunk may come from.
    pub fn from(&self) -> RegionSelector<'_> {
        match self.kind_at {
            Some(at) => {
                RegionSelector::Device { device: &self.names[..at], kind: &self.names[at..] }
            }
            None => RegionSelector::Regions(&self.names),
        }
    }
}

/// Why a structure asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IoctlError {
    /// Another magic number: `ENOTTY`.
    #[error("the structure doesn't start with {MAGIC:#x}")]
    Magic,
    /// A string that doesn't end in its field, or a request that doesn't exist: `EINVAL`.
    #[error("a string that doesn't end, or an unknown request")]
    Invalid,
}

/// Reads a structure of either layout.
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

/// Whether a structure that starts like a name makes sense as layout B but for its request.
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

/// What stands before the zero that ends it.
fn string(field: &[u8]) -> Result<&[u8], IoctlError> {
    let end = field.iter().position(|byte| *byte == 0).ok_or(IoctlError::Invalid)?;
    Ok(&field[..end])
}

/// Appends a name, of which all together fit into a structure: so they do here.
fn append(names: &mut ArrayString<NAMES>, name: &[u8]) {
    for chunk in name.utf8_chunks() {
        names.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|_| names.push(char::REPLACEMENT_CHARACTER));
    }
}

#[cfg(test)]
mod tests;
