//! Signals that end or stop the screen.

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::{flag, low_level};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The signals that arrived. After it is dropped, they have no effect: `signal_hook` keeps its
/// handlers.
#[derive(Debug)]
pub(crate) struct Signals {
    ending: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    ids: Vec<SigId>,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Signals> {
        let mut signals =
            Signals { ending: Arc::default(), stopping: Arc::default(), ids: Vec::new() };
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            let id = flag::register_usize(signal, signals.ending.clone(), signal as usize)?;
            signals.ids.push(id);
        }
        signals.ids.push(flag::register(SIGTSTP, signals.stopping.clone())?);
        Ok(signals)
    }

    /// The signal that ends the screen, if one arrived.
    pub(crate) fn ending(&self) -> Option<i32> {
        match self.ending.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal as i32),
        }
    }

    /// Whether SIGTSTP arrived since this was asked last.
    pub(crate) fn take_stop(&self) -> bool {
        self.stopping.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}

/// Stops the process until it is continued.
pub(crate) fn stop() -> io::Result<()> {
    low_level::raise(signal_hook::consts::SIGSTOP)
}
