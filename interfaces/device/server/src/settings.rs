//! What of a server can be replaced while it runs.

use crate::accounts::Accounts;
use crate::lasting::Records;
use crate::limits::Limits;
use crate::log;
use crate::rules::Rules;
use parking_lot::RwLock;
use std::sync::Arc;

/// The limits and rules of a server. They can be replaced while it runs, and apply to each request
/// that is read after that. What clients have already stays theirs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) rules: Arc<RwLock<Arc<Rules>>>,
    /// What outlives the server, if anything does.
    pub(crate) records: Option<Arc<Records>>,
}

impl Settings {
    /// Replaces the limits. As at the start, there are no more connections than the process and its
    /// keeper have descriptors for. Users with more than the new limits allow keep what they have
    /// and get nothing further.
    pub fn set_limits(&self, limits: Limits) {
        let room = self.records.as_ref().and_then(|records| records.room());
        let limits = limits.within_this_process().within_keeper(room);
        if let Some(records) = &self.records
            && let Err(error) = records.make_room(limits.connections)
        {
            log::emit(|| {
                let connections = limits.connections;
                tracing::error!(
                    connections,
                    error,
                    "the journal did not grow: it is for fewer connections, and when it is full, \
                     requests are refused"
                );
            });
        }
        self.accounts.set_limits(limits);
    }

    /// Has the next server not write again what was written to the attribute at `path`, because the
    /// host has set something else since. The path has no links, such as `map`, or
    /// `regions/0x40000000/alloc`.
    pub fn forget_written(&self, path: &str) {
        if let Some(records) = &self.records {
            records.forget_written(path);
        }
    }

    /// Replaces the rules.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.write() = Arc::new(rules);
    }
}

/// Rules that requests read and [`Settings`] replaces.
pub(crate) fn shared(rules: Rules) -> Arc<RwLock<Arc<Rules>>> {
    Arc::new(RwLock::new(Arc::new(rules)))
}
