//! The constants of a message's header, and the reasons why bytes are not a message.

/// The size of every message, in bytes.
pub const MESSAGE_BYTES: usize = 512;

/// The magic number of the device (specification section 8). Every message starts with it.
pub const MAGIC: u32 = 0x634d_6142;

/// The version of the protocol. An end that receives another version reports it and closes the
/// connection.
pub const VERSION: u16 = 1;

/// The size of the header: magic, version, kind and id.
pub(crate) const HEAD: usize = 16;

/// Why bytes are not a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The length is wrong.
    #[error("a message has {MESSAGE_BYTES} bytes, not {bytes}")]
    Length {
        /// The length in bytes; for anything longer than a message, one more than its size.
        bytes: usize,
    },
    /// The message doesn't start with [`MAGIC`].
    #[error("a message starts with {MAGIC:#x}, not {found:#x}")]
    Magic {
        /// The first four bytes of the message.
        found: u32,
    },
    /// The version is not [`VERSION`].
    #[error("this end supports version {VERSION} of the protocol, not {theirs}")]
    Version {
        /// The other end's version.
        theirs: u16,
    },
    /// The kind is unknown, or is an answer where a request is expected or the reverse.
    #[error("a message of kind {kind:#x} is not expected here")]
    Kind {
        /// The kind of the message.
        kind: u16,
    },
    /// A count or length passes the end of the message, or a number is out of its range.
    #[error("a count or length passes the end of the message")]
    Count,
    /// A flag is neither 0 nor 1, or has no meaning.
    #[error("a flag is 0 or 1, and only flags of this version may be set")]
    Flag,
    /// A limit without its flag.
    #[error("a limit without its flag is zero")]
    Unset,
    /// A text is not UTF-8.
    #[error("text is UTF-8")]
    Text,
    /// A byte after the last field is not zero.
    #[error("the rest of a message is zero")]
    LeftOver,
}
