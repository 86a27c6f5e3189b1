//! What a C program hands to `/dev/cma`: one structure of 64 bytes, of which two layouts are about (specification section 8).
//!
//! ```text
//! layout A: u32 magic; char name[17]; char type[17]; u16 pad; u64 size; u64 alignment; u64 start
//! layout B: u32 magic; u32 request; u64 size; u64 alignment; u64 start; char spec[32]
//! ```
//!
//! Size, magic and the number of the ioctl are the same, so what stands behind the magic has to tell them apart. In layout A that is the
//! first letter of a device's name; in layout B it is the first byte in memory of a number that is 0 or 1, whatever the byte order: 0
//! or 1. A name can't be empty (a device without a name is invalid), and one that starts with a control character can't be written in
//! a map. So a first byte below the blank is layout B, and nearly anything else is layout A.
//!
//! Layout B with an unknown request is told from layout A in the same way: 2 to 31 are unknown requests. One of 32 and more
//! reads as a name whose first letter is that number. It is no name if all of this is so: the name would end at the fourth letter at the latest;
//! behind it stand what would be a size other than 0 and an alignment of layout B; and both bytes that layout A leaves unused are in use, which
//! are letters 7 and 8 of a `spec`. With a shorter `spec` what stands in the place of layout A's size is 0, which is `EINVAL` as well. What still
//! reads as layout A is a request above 2^24 with a size that is no multiple of 256: the device of that name is most likely in no map.

use crate::message::MAGIC;
use crate::request::Source;

/// `_IOWR('p', 0, struct)`: the one ioctl of the device.
pub const ALLOC: u32 = 3 << 30 | (BYTES as u32) << 16 | (b'p' as u32) << 8;

/// The size of the structure in both layouts.
pub const BYTES: usize = 64;

/// What a structure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'s> {
    /// Where the chunk may come from.
    pub from: Source<'s>,
    /// The size in bytes.
    pub size: u64,
    /// The alignment in bytes; 0 for a page.
    pub alignment: u64,
    /// Where in the structure the chunk's address is to be written, as a `u64`.
    pub start_at: usize,
}

/// Why a structure asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Another magic number: `ENOTTY`.
    #[error("the structure doesn't start with {MAGIC:#x}")]
    Magic,
    /// A string that doesn't end in its field or is no text, or a request that doesn't exist: `EINVAL`.
    #[error("a string that doesn't end, or an unknown request")]
    Invalid,
}

/// Reads a structure of either layout.
///
/// # Errors
///
/// [`Wrong`].
pub fn read(structure: &[u8; BYTES]) -> Result<Asked<'_>, Wrong> {
    if u32::from_ne_bytes(part(structure, 0)) != MAGIC {
        return Err(Wrong::Magic);
    }
    if is_b(structure) { read_b(structure) } else { read_a(structure) }
}

/// Whether the structure is of layout B.
fn is_b(structure: &[u8; BYTES]) -> bool {
    let [size, alignment] = [8, 16].map(|at| u64::from_ne_bytes(part(structure, at)));
    let unused: [u8; 2] = part(structure, 38);
    structure[4] < b' '
        || structure[5..9].contains(&0)
            && size != 0
            && (alignment == 0 || alignment.is_power_of_two())
            && !unused.contains(&0)
}

fn read_a(structure: &[u8; BYTES]) -> Result<Asked<'_>, Wrong> {
    let (device, kind) = (string(&structure[4..21])?, string(&structure[21..38])?);
    Ok(Asked {
        from: Source::Device { device, kind },
        size: u64::from_ne_bytes(part(structure, 40)),
        alignment: u64::from_ne_bytes(part(structure, 48)),
        start_at: 56,
    })
}

fn read_b(structure: &[u8; BYTES]) -> Result<Asked<'_>, Wrong> {
    let spec = string(&structure[32..])?;
    let from = match u32::from_ne_bytes(part(structure, 4)) {
        0 => {
            let (device, kind) = spec.rsplit_once('/').unwrap_or((spec, ""));
            Source::Device { device, kind }
        }
        1 => Source::Regions(spec),
        _ => return Err(Wrong::Invalid),
    };
    Ok(Asked {
        from,
        size: u64::from_ne_bytes(part(structure, 8)),
        alignment: u64::from_ne_bytes(part(structure, 16)),
        start_at: 24,
    })
}

fn part<const N: usize>(structure: &[u8; BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| structure[at + i])
}

/// The text up to the zero that ends it.
fn string(field: &[u8]) -> Result<&str, Wrong> {
    let end = field.iter().position(|byte| *byte == 0).ok_or(Wrong::Invalid)?;
    std::str::from_utf8(&field[..end]).map_err(|_| Wrong::Invalid)
}

#[cfg(test)]
mod tests;
