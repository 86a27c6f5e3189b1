//! Texts of attributes for clients, each in a file of its own.
//!
//! The attributes name every user's processes, and a text may be as long as a region has chunks. So
//! only root and the user that the server runs as may read them: both can read the server's memory
//! and end it anyway. A text is in the server's memory while the request is served, so a user has
//! as many at once as threads; the file belongs to those who have its descriptor.

use crate::error_reply::ErrorReply;
use crate::peer::Peer;
use cma_device_protocol::{MAX_ATTRIBUTE_BYTES, TextAnswer};
use cma_framework::attributes::AttributeError;
use cma_framework::{Attributes, Cma};
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, retry_on_intr, write};
use rustix::process::geteuid;

/// Reads attributes for clients.
#[derive(Debug)]
pub(crate) struct AttributeReader {
    attributes: Attributes,
    /// The user that the server runs as.
    uid: u32,
}

impl AttributeReader {
    pub(crate) fn new(cma: &Cma) -> Self {
        AttributeReader { attributes: cma.attributes(), uid: geteuid().as_raw() }
    }

    /// The text of the attribute at `path`, or the list of the folder there, and the file that
    /// contains it.
    pub(crate) fn read(
        &self,
        peer: &Peer,
        path: &str,
    ) -> Result<(TextAnswer, OwnedFd), ErrorReply> {
        if peer.uid != 0 && peer.uid != self.uid {
            return Err(self.not_allowed(peer));
        }
        let (text, is_folder) = match self.attributes.read(path) {
            Err(AttributeError::Folder) => (self.attributes.list_text(path)?, true),
            text => (text?, false),
        };
        let bytes = text.len() as u64;
        if bytes > MAX_ATTRIBUTE_BYTES {
            let reason = format!(
                "the text has {bytes} bytes; over the socket at most {MAX_ATTRIBUTE_BYTES} can be \
                read"
            );
            return Err(ErrorReply::new(Errno::FBIG, reason));
        }
        let file = sealed(text.as_bytes()).map_err(|errno| {
            ErrorReply::new(errno, format!("the text can't be put into a file: {errno}"))
        })?;
        Ok((TextAnswer { bytes, is_folder }, file))
    }

    fn not_allowed(&self, peer: &Peer) -> ErrorReply {
        let who = match self.uid {
            0 => "only root".to_string(),
            uid => format!("only root and user {uid}, who runs the server,"),
        };
        let uid = peer.uid;
        ErrorReply::new(
            Errno::ACCESS,
            format!("{who} may read the attributes over the socket, not user {uid}"),
        )
    }
}

/// A file with this content, which nobody can change.
fn sealed(mut content: &[u8]) -> Result<OwnedFd, Errno> {
    let file = memfd_create("cma-attribute", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    while !content.is_empty() {
        let written = retry_on_intr(|| write(&file, content))?;
        content = &content[written..];
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}
