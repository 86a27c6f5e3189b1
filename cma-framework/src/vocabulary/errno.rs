//! The error numbers of the specification.

/// The error numbers of the specification, with the values Linux gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::upper_case_acronyms, reason = "that is how they are written")]
#[allow(missing_docs, reason = "each is its own name; the errors they stand for say more")]
#[repr(i32)]
pub enum Errno {
    ENOENT = 2,
    EIO = 5,
    ENOMEM = 12,
    EACCES = 13,
    EBUSY = 16,
    EEXIST = 17,
    ENOTDIR = 20,
    EISDIR = 21,
    EINVAL = 22,
    ENFILE = 23,
    EMFILE = 24,
    EFBIG = 27,
    EADDRINUSE = 98,
    ETIMEDOUT = 110,
    ECANCELED = 125,
}
