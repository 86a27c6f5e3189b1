//! The sources that name the folders of a search path.

use std::fmt;

/// The environment variable that names folders to search, separated as in `PATH`.
pub const SEARCH_VARIABLE: &str = "CMA_PLUGIN_PATH";

/// The source that names a folder of the search path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user, by an option or a configuration.
    User,
    /// The environment variable [`SEARCH_VARIABLE`].
    Environment,
    /// A default, relative to the executable.
    Executable,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::User => "the plug-in path",
            Origin::Environment => SEARCH_VARIABLE,
            Origin::Executable => "the executable's location",
        })
    }
}
