//! Reading the attributes of the server's framework.

use crate::call::call;
use crate::error::Error;
use crate::exchange::ExchangeError;
use cma_device_protocol::wire::Descriptors;
use cma_device_protocol::{Answer, Request, TextAnswer};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, pread};

/// A connection on which attributes are read, one after another.
#[derive(Debug)]
pub struct AttributeReader(pub(crate) OwnedFd);

/// What is at a path of the attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeText {
    /// An attribute with this text.
    Text(String),
    /// A folder: a line for each entry, `name` for an attribute, `name/` for a folder and `name ->
    /// target` for a link.
    Folder(String),
}

impl AttributeReader {
    /// What is at `path`, which has no `/` at either end; the root folder is the empty path.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: `ENOENT` if there is nothing, `EACCES` for a user that is neither root
    /// nor the one that the server runs as, `EFBIG` for a text above 64 MiB, or the errno of the
    /// attribute; `EUSERS` when the server closed the connection while it was silent, to make room
    /// for another. Or another [`Error`].
    pub fn read(&self, path: &str) -> Result<AttributeText, Error> {
        let (answer, descriptors) = call(
            self.0.as_fd(),
            &Request::Attribute { path },
            |answer, descriptors| match answer {
                Answer::Text(text) => Some((text, descriptors)),
                _ => None,
            },
        )?;
        let text = text(answer, &descriptors)?;
        Ok(if answer.is_folder { AttributeText::Folder(text) } else { AttributeText::Text(text) })
    }
}

/// The text in the file that came with an answer. The file is read, not mapped, so one that is
/// shorter than the server says is an error and nothing worse.
fn text(answer: TextAnswer, descriptors: &Descriptors) -> Result<String, Error> {
    let unexpected = || Error::Exchange(ExchangeError::Unexpected);
    let [file] = descriptors.as_slice() else { return Err(unexpected()) };
    let length = usize::try_from(answer.bytes).map_err(|_| unexpected())?;
    let mut text = Vec::new();
    // The protocol bounds the length.
    text.try_reserve_exact(length).map_err(|_| Error::system("malloc")(Errno::NOMEM))?;
    text.resize(length, 0);
    let mut read = 0;
    while read < length {
        match pread(file, &mut text[read..], read as u64) {
            Ok(0) => return Err(unexpected()),
            Ok(more) => read += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("pread")(errno)),
        }
    }
    String::from_utf8(text).map_err(|_| unexpected())
}
