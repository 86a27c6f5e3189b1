//! Descriptors that outlive a server.
//!
//! A server stores what must outlive it with a *keeper*, by name: its listening socket, its
//! connections, the files of its clients' memory. The next server [takes](Keeper::take) them. There
//! are two keepers with one interface:
//!
//! - [`KeeperProcess`]: the program `cma-keeper`, which starts the server as its child, and again
//!   when it dies ([`Supervision`]). It reads nothing from clients.
//! - [`ServiceManager`]: the descriptor store of systemd, with `FileDescriptorStoreMax=` in the
//!   unit, and the variable `FDSTORE`, which has the same number.
//!
//! ```
//! use cma_keeper::{Keeper, KeeperProcess, Name, Store, serve};
//! use std::fs::File;
//! use std::os::unix::net::UnixDatagram;
//!
//! // The keeper is a thread here, and a process otherwise.
//! let (server, keeper) = cma_keeper::socket_pair()?;
//! let mut store = Store::default();
//! std::thread::scope(|threads| {
//!     threads.spawn(|| serve(&keeper, &mut store));
//!     let mut keeper = KeeperProcess::new(server);
//!     keeper.put(&Name::new("journal")?, &File::open("/dev/null")?)?;
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! // The server is gone. The descriptor isn't.
//! assert_eq!(store.names().collect::<Vec<_>>(), ["journal"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accepting;
mod backoff;
mod connections;
mod control;
mod name;
mod pins;
mod process;
mod program;
mod report;
mod service_manager;
mod session;
mod signals;
mod store;
mod supervisor;
mod wire;

pub use backoff::Backoff;
pub use connections::Connections;
pub use control::{UpgradeError, upgrade};
pub use name::{Name, NameError};
pub use process::KeeperProcess;
pub use program::Program;
pub use report::Report;
pub use service_manager::ServiceManager;
pub use session::serve;
pub use store::{MAX_DESCRIPTORS, Store, socket_pair};
pub use supervisor::{HANDED_OVER, RESTARTS, SuperviseError, Supervised, Supervision};

use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Holds descriptors for a server. Every operation is complete when it returns.
pub trait Keeper {
    /// Stores a copy of a descriptor under a name that has none.
    ///
    /// # Errors
    ///
    /// [`KeeperError`]; nothing is stored then.
    fn put(&mut self, name: &Name, descriptor: impl AsFd) -> Result<(), KeeperError>;

    /// Closes the descriptor of that name.
    ///
    /// # Errors
    ///
    /// [`KeeperError`].
    fn remove(&mut self, name: &Name) -> Result<(), KeeperError>;

    /// Copies of all descriptors that a server before this one stored, in the order of their names.
    /// They stay stored. It is called once, before the other operations.
    ///
    /// # Errors
    ///
    /// [`KeeperError`]. The keeper still holds all of them.
    fn take(&mut self) -> Result<Vec<(Name, OwnedFd)>, KeeperError>;

    /// Pins the pages from byte `offset` on, `len` bytes of them, of the file that is stored under
    /// that name. They are pinned one by one, until they are unpinned or the file is removed, and
    /// they stay pinned when the server has died or the file has lost them. A page that is pinned
    /// already is pinned anew, because another one may have taken its place.
    ///
    /// A page that the file lacks is allocated for it.
    ///
    /// # Errors
    ///
    /// [`KeeperError::CanNotPin`]: a service manager. [`KeeperError::Unknown`].
    /// [`KeeperError::Refused`]: `EINVAL` for what is not whole pages of the file, `ENOMEM` when
    /// the user has too much locked memory, `EPERM` or `ENOSYS` where `io_uring` is switched off.
    /// No page is pinned then that was not before.
    fn pin(&mut self, name: &Name, offset: u64, len: u64) -> Result<(), KeeperError> {
        let _ = (name, offset, len);
        Err(KeeperError::CanNotPin)
    }

    /// Unpins pages. Those that are not pinned stay as they are.
    ///
    /// # Errors
    ///
    /// As of [`pin`](Self::pin).
    fn unpin(&mut self, name: &Name, offset: u64, len: u64) -> Result<(), KeeperError> {
        let _ = (name, offset, len);
        Err(KeeperError::CanNotPin)
    }

    /// The most descriptors that it holds, if it has a limit of its own.
    fn room(&self) -> Option<usize> {
        None
    }

    /// Has the keeper accept connections at the listening socket of that name
    /// ([`KeeperProcess::accept_on`]). `None` for a keeper that doesn't: the server accepts them.
    ///
    /// # Errors
    ///
    /// [`KeeperError`].
    fn accept_on(&mut self, listener: &Name) -> Result<Option<Connections>, KeeperError> {
        let _ = listener;
        Ok(None)
    }
}

/// Why a keeper did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// The name has a descriptor.
    #[error("the keeper has a descriptor {name} already")]
    InUse {
        /// The name.
        name: Name,
    },
    /// The name has no descriptor.
    #[error("the keeper has no descriptor {name}")]
    Unknown {
        /// The name.
        name: Name,
    },
    /// The service manager permits no more descriptors.
    #[error(
        "the service manager has {held} descriptors of this service, and {}",
        match bytes {
            Some(bytes) => format!(
                "the variable LISTEN_FDNAMES has no room for another name in its {bytes} bytes"
            ),
            None => "FileDescriptorStoreMax= in its unit permits no more".to_string(),
        }
    )]
    Full {
        /// The number of descriptors that it has.
        held: usize,
        /// The most bytes of all names, if that is the limit.
        bytes: Option<usize>,
    },
    /// The keeper only holds descriptors: the pages of files may move while no server runs.
    #[error("this keeper can't pin memory")]
    CanNotPin,
    /// The keeper has ended, or doesn't answer as one.
    #[error("the keeper has ended, or another program is in its place")]
    Ended,
    /// The keeper refused: `EMFILE` when it has too many descriptors.
    #[error("the keeper refused: {0}")]
    Refused(Errno),
    /// A system call of this process failed.
    #[error("{call}: {errno}")]
    System {
        /// The call.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
}

pub(crate) fn system(call: &'static str) -> impl Fn(Errno) -> KeeperError {
    move |errno| KeeperError::System { call, errno }
}
