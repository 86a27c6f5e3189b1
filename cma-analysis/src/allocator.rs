//! An allocator to analyse.

use cma_framework::Plugin;
use std::fmt;

/// An algorithm with its parameters, of which each run starts a new instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocator {
    /// The algorithm, linked into the program or loaded.
    pub plugin: Plugin,
    /// Its parameters, passed on unchanged; empty for none.
    pub params: String,
}

impl Allocator {
    /// `plugin` without parameters.
    pub fn new(plugin: Plugin) -> Self {
        Allocator { plugin, params: String::new() }
    }
}

impl fmt::Display for Allocator {
    /// As in `cma=`: `name` or `name(params)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plugin.name())?;
        if self.params.is_empty() { Ok(()) } else { write!(f, "({})", self.params) }
    }
}
