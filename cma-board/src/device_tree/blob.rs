//! The structure of a device-tree blob, checked before anything reads it (Devicetree
//! Specification, chapter 5).
//!
//! `dtoolkit` reads the blob, and panics on one that was not checked. Its own check is not used: it
//! refuses names of more than 31 characters, which many published blobs have (`dtc` accepts them),
//! and its time is not linear in the size of the blob.

use dtoolkit::fdt::Fdt;
use std::ops::Range;

/// The largest blob that is read, in bytes: the largest that the boot protocol of arm64 allows.
const MOST_BYTES: usize = 2 << 20;

/// The most nodes between the root and any node, counting that node.
const MOST_DEPTH: usize = 64;

/// The longest path of a node, in bytes.
const MOST_PATH_BYTES: usize = 1 << 10;

/// The longest name of a node or a property, in bytes. The specification allows 31.
const MOST_NAME_BYTES: usize = 255;

/// The size of the header in bytes, and of each of its fields.
const HEADER: usize = 40;
const WORD: usize = 4;

const MAGIC: u32 = 0xd00d_feed;
/// The version of the format that is read; every tool since 2005 writes it.
const VERSION: u32 = 17;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Why a file is no device-tree blob that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BlobError {
    /// It has another format.
    #[error("no device-tree blob: it doesn't start with the bytes d0 0d fe ed")]
    NotABlob,
    /// It is too long.
    #[error("a blob of {bytes} bytes; at most {MOST_BYTES} are read")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// It ends before its contents.
    #[error("the file ends after {has} bytes; the blob in it has {needs}")]
    Truncated {
        /// The size of the file in bytes.
        has: usize,
        /// The size of the blob in bytes, as its header states it.
        needs: usize,
    },
    /// Its format has another version.
    #[error(
        "a blob of version {version}, for readers of version {last_compatible} and later; version 17 is read"
    )]
    Version {
        /// Its version.
        version: u32,
        /// The oldest version whose readers understand it.
        last_compatible: u32,
    },
    /// It contradicts itself.
    #[error("damaged at byte {at}: {what}")]
    Damaged {
        /// The position in the file, in bytes.
        at: usize,
        /// The node that is open there; empty outside the nodes.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl BlobError {
    /// What to do about it.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            BlobError::NotABlob => "`dtc -O dtb` makes a blob from the source of a tree",
            BlobError::TooLarge { .. } => "boards' trees are smaller: is it the right file?",
            BlobError::Version { .. } => "`dtc -I dtb -O dtb -V 17` converts it",
            BlobError::Truncated { .. } | BlobError::Damaged { .. } => {
                "copy the file again, or make it again with `dtc -O dtb`"
            }
        }
    }
}

/// Whether `file` starts as a device-tree blob does, whole or not.
pub fn is_blob(file: &[u8]) -> bool {
    word(file, 0) == Some(MAGIC)
}

/// Checks the structure of `file` in one pass. Bytes behind the blob are not read.
pub(super) fn open(file: &[u8]) -> Result<Fdt<'_>, BlobError> {
    if !is_blob(file) {
        return Err(BlobError::NotABlob);
    }
    let needs = word(file, 4).map_or(HEADER, |size| size as usize);
    if file.len() < needs.max(HEADER) {
        return Err(BlobError::Truncated { has: file.len(), needs: needs.max(HEADER) });
    }
    if needs > MOST_BYTES {
        return Err(BlobError::TooLarge { bytes: needs });
    }
    let blob = Blob::of(&file[..needs])?;
    blob.check_reservations()?;
    blob.check_nodes()?;
    Ok(Fdt::new_unchecked(blob.bytes))
}

/// The word at `at`, if all of it is there.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

fn damaged(at: usize, what: &'static str) -> BlobError {
    BlobError::Damaged { at, path: String::new(), what }
}

/// A blob whose header is right.
struct Blob<'a> {
    bytes: &'a [u8],
    reservations: usize,
    structure: Range<usize>,
    strings: &'a [u8],
}

impl<'a> Blob<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, BlobError> {
        let field = |at| word(bytes, at).ok_or_else(|| damaged(at, "the header ends here"));
        let (version, last_compatible) = (field(20)?, field(24)?);
        if !(last_compatible..=version).contains(&VERSION) {
            return Err(BlobError::Version { version, last_compatible });
        }
        let block = |start_at, size_at| {
            let (start, size) = (field(start_at)? as usize, field(size_at)? as usize);
            match start.checked_add(size) {
                Some(end) if end <= bytes.len() => Ok(start..end),
                _ => Err(damaged(start_at, "the header places a block outside the blob")),
            }
        };
        let structure = block(8, 36)?;
        if structure.start % WORD != 0 {
            return Err(damaged(8, "the structure block doesn't start at a multiple of 4"));
        }
        let reservations = field(16)? as usize;
        Ok(Blob { bytes, reservations, structure, strings: &bytes[block(12, 32)?] })
    }

    /// The list of reserved ranges ends with an entry of zeros.
    fn check_reservations(&self) -> Result<(), BlobError> {
        let entries = self.bytes.get(self.reservations..).unwrap_or_default().chunks_exact(16);
        match entries.into_iter().any(|entry| entry.iter().all(|byte| *byte == 0)) {
            true => Ok(()),
            false => Err(damaged(self.reservations, "the list of reserved ranges has no end")),
        }
    }

    /// The structure block is one node, with properties before children in every node.
    fn check_nodes(&self) -> Result<(), BlobError> {
        let mut at = self.structure.start;
        let mut open: Vec<&str> = Vec::new();
        let (mut path_bytes, mut takes_properties) = (0, false);
        loop {
            let here = at;
            let fault = |what| BlobError::Damaged { at: here, path: path_of(&open), what };
            let token = self.token(at).ok_or_else(|| fault("the structure block ends here"))?;
            at += WORD;
            match token {
                _ if token != BEGIN_NODE && open.is_empty() => return Err(fault("no root node")),
                BEGIN_NODE => {
                    let name = name(&self.bytes[at..self.structure.end], is_node_char)
                        .filter(|name| !name.starts_with('@'))
                        .ok_or_else(|| fault("a node has no valid name"))?;
                    if name.is_empty() != open.is_empty() {
                        return Err(fault("only the root, and it alone, has an empty name"));
                    }
                    if open.len() == MOST_DEPTH {
                        return Err(fault("more than 64 nodes within each other"));
                    }
                    path_bytes += name.len() + 1;
                    if path_bytes > MOST_PATH_BYTES {
                        return Err(fault("a path of more than 1,024 bytes"));
                    }
                    at = (at + name.len() + 1).next_multiple_of(WORD);
                    open.push(name);
                    takes_properties = true;
                }
                END_NODE => {
                    path_bytes -= open.pop().map_or(0, |name| name.len() + 1);
                    takes_properties = false;
                    if open.is_empty() {
                        break;
                    }
                }
                PROPERTY if takes_properties => {
                    let header = self.token(at).zip(self.token(at + WORD));
                    let (size, name_at) = header.ok_or_else(|| fault("a property is cut off"))?;
                    let named = self.strings.get(name_at as usize..);
                    named
                        .and_then(|strings| name(strings, is_property_char))
                        .filter(|name| !name.is_empty())
                        .ok_or_else(|| fault("a property has no valid name"))?;
                    at = (at + 2 * WORD).saturating_add(size as usize);
                    if at > self.structure.end {
                        return Err(fault("a property is cut off"));
                    }
                    at = at.next_multiple_of(WORD);
                }
                PROPERTY => return Err(fault("a property stands behind a child")),
                NOP => {}
                _ => return Err(fault("an unknown token")),
            }
        }
        loop {
            match self.token(at) {
                Some(END) => return Ok(()),
                Some(NOP) => at += WORD,
                _ => return Err(damaged(at, "the structure block doesn't end behind the root")),
            }
        }
    }

    /// The word at `at` in the structure block.
    fn token(&self, at: usize) -> Option<u32> {
        word(&self.bytes[..self.structure.end], at)
    }
}

/// The name at the start of `bytes`, up to its NUL.
fn name(bytes: &[u8], is_valid: fn(u8) -> bool) -> Option<&str> {
    let within = &bytes[..bytes.len().min(MOST_NAME_BYTES + 1)];
    let name = &within[..within.iter().position(|byte| *byte == 0)?];
    name.iter().all(|byte| is_valid(*byte)).then(|| str::from_utf8(name).ok()).flatten()
}

/// The characters of node names (Devicetree Specification 2.2.1), with the `@` of the address.
fn is_node_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b",._+-@".contains(&byte)
}

/// The characters of property names (Devicetree Specification 2.2.4.1).
fn is_property_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b",._+-?#".contains(&byte)
}

/// The path of the innermost of the nodes that are open, from the root down.
fn path_of(open: &[&str]) -> String {
    match open {
        [] => String::new(),
        [_root] => "/".into(),
        [_root, names @ ..] => names.iter().flat_map(|name| ["/", name]).collect(),
    }
}
