//! The errors of registering an allocator.

/// Why an allocator was not registered. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterAllocatorError {
    /// Another allocator has that name.
    #[error("allocator \"{name}\" is registered already, in version {version}")]
    NameTaken {
        /// The name.
        name: String,
        /// The version of the registered one.
        version: String,
    },
    /// A name that no region can use.
    #[error("\"{}\" can't be the name of an allocator: it {fault}", name.escape_debug())]
    BadName {
        /// The name.
        name: String,
        /// The fault of the name.
        fault: &'static str,
    },
}
