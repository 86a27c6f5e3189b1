//! Any keeper as one type.

use cma_keeper::{Connections, Keeper, KeeperError, Name};
use rustix::fd::{BorrowedFd, OwnedFd};

/// A [`Keeper`] whose type is not known.
pub(crate) trait AnyKeeper: Send {
    fn put(&mut self, name: &Name, descriptor: BorrowedFd<'_>) -> Result<(), KeeperError>;
    fn remove(&mut self, name: &Name) -> Result<(), KeeperError>;
    fn pin(&mut self, name: &Name, offset: u64, len: u64) -> Result<(), KeeperError>;
    fn take(&mut self) -> Result<Vec<(Name, OwnedFd)>, KeeperError>;
    fn accept_on(&mut self, listener: &Name) -> Result<Option<Connections>, KeeperError>;
    fn room(&self) -> Option<usize>;
}

impl<K: Keeper + Send> AnyKeeper for K {
    fn put(&mut self, name: &Name, descriptor: BorrowedFd<'_>) -> Result<(), KeeperError> {
        Keeper::put(self, name, descriptor)
    }

    fn remove(&mut self, name: &Name) -> Result<(), KeeperError> {
        Keeper::remove(self, name)
    }

    fn pin(&mut self, name: &Name, offset: u64, len: u64) -> Result<(), KeeperError> {
        Keeper::pin(self, name, offset, len)
    }

    fn take(&mut self) -> Result<Vec<(Name, OwnedFd)>, KeeperError> {
        Keeper::take(self)
    }

    fn accept_on(&mut self, listener: &Name) -> Result<Option<Connections>, KeeperError> {
        Keeper::accept_on(self, listener)
    }

    fn room(&self) -> Option<usize> {
        Keeper::room(self)
    }
}
