//! Numbers for (device, type) pairs, so that books and requests carry a word instead of two names.

use cma_api::Asker;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A (device, type) pair.
pub(crate) type Pair = (Arc<str>, Arc<str>);

/// More pairs than this share the number 0, so that names made up by clients can't fill memory.
const MAX_ASKERS: usize = 1 << 16;

/// The pairs that ever found a rule. Its lock is its own: a request of a new pair must not wait for a change of the
/// configuration.
#[derive(Debug, Default)]
pub(super) struct Askers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    numbers: HashMap<Pair, Asker>,
    /// By number, from 1.
    names: Vec<Pair>,
}

impl Askers {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a pair.
    pub(super) fn number(&self, device: &str, kind: &str) -> Asker {
        let table = &mut *self.table();
        let pair: Pair = (device.into(), kind.into());
        if let Some(known) = table.numbers.get(&pair) {
            return *known;
        } else if table.names.len() == MAX_ASKERS {
            return Asker::NOBODY;
        }
        table.names.push(pair.clone());
        let number = Asker(table.names.len() as u32);
        table.numbers.insert(pair, number);
        number
    }

    /// The pairs of numbers; `None` for [`Asker::NOBODY`].
    pub(super) fn names(&self) -> impl FnMut(Asker) -> Option<Pair> {
        move |asker| {
            let at = (asker.0 as usize).checked_sub(1)?;
            self.table().names.get(at).cloned()
        }
    }
}
