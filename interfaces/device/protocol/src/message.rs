//! One message: its frame, and what may be wrong with it.

use crate::bytes::Reader;

/// The size of every message, in bytes.
pub const MESSAGE_BYTES: usize = 512;

/// The magic number of the device (specification section 8), which every message starts with.
pub const MAGIC: u32 = 0x634d_6142;

/// The version of the protocol. An end that is told another one says so and hangs up.
pub const VERSION: u16 = 1;

/// Magic, version, kind and id.
pub(crate) const HEAD: usize = 16;

/// A request or an answer as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(pub(crate) [u8; MESSAGE_BYTES]);

/// Why bytes are no message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Another length.
    #[error("a message has {MESSAGE_BYTES} bytes, not {bytes}")]
    Length {
        /// The length in bytes; one more than a message's for anything longer.
        bytes: usize,
    },
    /// It doesn't start with [`MAGIC`].
    #[error("a message starts with {MAGIC:#x}, not {found:#x}")]
    Magic {
        /// What it starts with.
        found: u32,
    },
    /// Another version than [`VERSION`].
    #[error("version {VERSION} of the protocol is spoken here, not {theirs}")]
    Version {
        /// The other end's.
        theirs: u16,
    },
    /// Something else than a request to the server, or an answer to a client.
    #[error("there is no message of kind {kind:#x} here")]
    Kind {
        /// Its kind.
        kind: u16,
    },
    /// A count that passes the end.
    #[error("a count or length passes the end of the message")]
    Count,
    /// A flag that is neither yes nor no.
    #[error("a flag is 0 or 1")]
    Flag,
    /// Text that is none.
    #[error("text is UTF-8")]
    Text,
    /// Something behind the end of what was said.
    #[error("the rest of a message is zero")]
    LeftOver,
}

impl Message {
    /// A message of that kind with nothing in its body.
    pub(crate) fn empty(kind: u16, id: u64) -> Self {
        let mut bytes = [0; MESSAGE_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_ne_bytes());
        bytes[6..8].copy_from_slice(&kind.to_ne_bytes());
        bytes[8..HEAD].copy_from_slice(&id.to_ne_bytes());
        Message(bytes)
    }

    /// The bytes of a message, when they are as many as one has.
    ///
    /// # Errors
    ///
    /// [`Malformed::Length`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        bytes.try_into().map(Message).map_err(|_| Malformed::Length { bytes: bytes.len() })
    }

    /// The bytes as they travel.
    pub fn as_bytes(&self) -> &[u8; MESSAGE_BYTES] {
        &self.0
    }

    /// What an answer to this has to repeat, whatever else is wrong with it.
    pub fn id(&self) -> u64 {
        let mut id = [0; 8];
        id.copy_from_slice(&self.0[8..HEAD]);
        u64::from_ne_bytes(id)
    }

    /// The kind, and the body to be read.
    pub(crate) fn open(&self) -> Result<(u16, Reader<'_>), Malformed> {
        let mut head = Reader::new(&self.0[..8]);
        let (found, theirs, kind) = (head.u32()?, head.u16()?, head.u16()?);
        if found != MAGIC {
            return Err(Malformed::Magic { found });
        } else if theirs != VERSION {
            return Err(Malformed::Version { theirs });
        }
        Ok((kind, Reader::new(&self.0[HEAD..])))
    }

    pub(crate) fn body(&mut self) -> &mut [u8] {
        &mut self.0[HEAD..]
    }
}

#[cfg(test)]
mod tests;
