//! One message: its header and its body.

use crate::bytes::Reader;
use crate::malformed::{HEAD, MAGIC, MESSAGE_BYTES, Malformed, VERSION};

/// A request or an answer, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(pub(crate) [u8; MESSAGE_BYTES]);

impl Message {
    /// A message of a kind with an empty body.
    pub(crate) fn empty(kind: u16, id: u64) -> Self {
        let mut bytes = [0; MESSAGE_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_ne_bytes());
        bytes[6..8].copy_from_slice(&kind.to_ne_bytes());
        bytes[8..HEAD].copy_from_slice(&id.to_ne_bytes());
        Message(bytes)
    }

    /// The message in `bytes`, whose number must be that of a message.
    ///
    /// # Errors
    ///
    /// [`Malformed::Length`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        bytes.try_into().map(Message).map_err(|_| Malformed::Length { bytes: bytes.len() })
    }

    /// The bytes, as they are sent.
    pub fn as_bytes(&self) -> &[u8; MESSAGE_BYTES] {
        &self.0
    }

    /// The id, which the answer to this message repeats. Valid also in malformed messages.
    pub fn id(&self) -> u64 {
        let mut id = [0; 8];
        id.copy_from_slice(&self.0[8..HEAD]);
        u64::from_ne_bytes(id)
    }

    /// The kind, and a reader for the body.
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
