//! Whoever keeps what is written to the attributes of a framework, so that it outlives the process.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

type Listener = Box<dyn FnMut(&str, &str) + Send>;

/// The listener, if there is one. Writes come one after another then, so that the last text that it
/// was told is the one in force.
#[derive(Default)]
pub(crate) struct WriteListener(OnceLock<Mutex<Listener>>);

impl WriteListener {
    /// Returns whether this is the first listener; a later one has no effect.
    pub(crate) fn set(&self, listener: Listener) -> bool {
        self.0.set(Mutex::new(listener)).is_ok()
    }

    /// Writes `text` to the attribute at `path` by `write`, and tells the listener.
    pub(crate) fn tell<E>(
        &self,
        path: impl FnOnce() -> String,
        text: &str,
        write: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(listener) = self.0.get() else { return write() };
        let mut listener = listener.lock().unwrap_or_else(PoisonError::into_inner);
        write()?;
        listener(&path(), text);
        Ok(())
    }
}

impl fmt::Debug for WriteListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "a listener" } else { "no listener" })
    }
}
