//! The errors of registering an allocator.

/// Why an allocator was not registered. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterAllocatorError {
    /// There is one of that name.
    #[error("allocator \"{name}\" is registered already, in version {version}")]
    NameTaken {
        /// The name.
        name: String,
        /// The version of the one that is there.
        version: String,
    },
    /// A name that no region could ask for.
    #[error("\"{}\" can't be the name of an allocator: it {fault}", name.escape_debug())]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}
