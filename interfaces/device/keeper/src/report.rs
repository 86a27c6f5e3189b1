//! What a keeper's process tells people.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What happened to the server of a keeper, as a line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// The first server did not start, so that there is nothing to hold.
    NotStarted {
        /// Its exit status, or why there is no process.
        how: String,
    },
    /// The server died.
    Died {
        /// Its exit status or signal.
        how: String,
        /// The time until it is started again; `None` after too many deaths in a row.
        next: Option<Duration>,
    },
    /// No server runs, and the keeper holds what it has.
    Held {
        /// The number of descriptors.
        descriptors: usize,
    },
    /// The server was asked to end, so that another program takes over.
    Upgrading {
        /// The program.
        program: PathBuf,
    },
    /// For an upgrade the old server ended in another way than it was asked to. The new one
    /// recovers what it left, as after a death.
    NotHandedOver {
        /// Its exit status or signal.
        how: String,
    },
    /// The new server is ready.
    Upgraded {
        /// The program.
        program: PathBuf,
    },
    /// The new server did not become ready, or can't be started.
    NotUpgraded {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::NotStarted { how } => write!(f, "the server did not start ({how})"),
            Report::Died { how, next: Some(next) } => {
                write!(f, "the server died ({how}); it is started again in {} ms", next.as_millis())
            }
            Report::Died { how, next: None } => {
                write!(f, "the server died ({how}) too often in a row, and is not started again")
            }
            Report::Held { descriptors } => write!(
                f,
                "{descriptors} descriptors are held; SIGHUP starts the server again, SIGTERM ends \
                this process and releases them"
            ),
            Report::Upgrading { program } => {
                write!(f, "upgrade: the server ends, and {} takes over", program.display())
            }
            Report::NotHandedOver { how } => {
                write!(f, "upgrade: the old server died ({how}); the new one recovers")
            }
            Report::Upgraded { program } => write!(f, "{} has taken over", program.display()),
            Report::NotUpgraded { reason } => {
                write!(f, "not upgraded: {reason}")
            }
        }
    }
}
