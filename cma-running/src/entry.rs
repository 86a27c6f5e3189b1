//! What is in a folder of attributes.

/// An entry of a folder of attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry of a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A link to another entry of the folder.
    Link {
        /// The name of that entry.
        target: String,
    },
    /// An attribute, which has a text.
    Attribute,
}
