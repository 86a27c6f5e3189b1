//! What is open: the text that a handle is being read, the listing of a folder.

use cma_framework::Attributes;
use cma_framework::attributes::{AttributeError, Entry};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What handles stand for, by their numbers.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    next: u64,
    open: HashMap<u64, Arc<T>>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Handles { next: 0, open: HashMap::new() }
    }
}

impl<T> Handles<T> {
    pub(crate) fn open(&mut self, what: T) -> u64 {
        self.next += 1;
        self.open.insert(self.next, Arc::new(what));
        self.next
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<T>> {
        self.open.get(&number).cloned()
    }

    pub(crate) fn close(&mut self, number: u64) {
        self.open.remove(&number);
    }
}

/// An open folder: what was in it when it was opened.
pub(crate) type Folder = Vec<(String, Entry)>;

/// An open attribute.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    /// What it is being read as.
    text: Mutex<Option<Arc<str>>>,
}

impl File {
    pub(crate) fn new(path: String) -> Self {
        File { path, text: Mutex::new(None) }
    }

    /// What to read from `offset` on: from the start, as the attribute is now; further on, as it was then.
    pub(crate) fn text(&self, tree: &Attributes, offset: u64) -> Result<Arc<str>, AttributeError> {
        let seen = self.seen();
        if offset > 0
            && let Some(text) = seen
        {
            return Ok(text);
        }
        // Not under the lock: this may take long.
        let text: Arc<str> = tree.read(&self.path)?.into();
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
        Ok(text)
    }

    /// What it was last read as.
    pub(crate) fn seen(&self) -> Option<Arc<str>> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
