//! What of a server can be replaced while it runs.

use crate::accounts::Accounts;
use crate::limits::Limits;
use crate::rules::Rules;
use parking_lot::RwLock;
use std::sync::Arc;

/// The limits and rules of a server. They can be replaced while it runs, and apply to each request
/// that is read after that. What clients have already stays theirs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) rules: Arc<RwLock<Arc<Rules>>>,
}

impl Settings {
    /// Replaces the limits. As at the start, there are no more connections than the process has
    /// descriptors for. Users with more than the new limits allow keep what they have and get
    /// nothing further.
    pub fn set_limits(&self, limits: Limits) {
        self.accounts.set_limits(limits.within_this_process());
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
