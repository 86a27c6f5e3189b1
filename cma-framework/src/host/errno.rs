//! The errno of the specification for each error.

use crate::core::reserve::ReserveError;
use crate::host::attributes::AttributeError;
use crate::host::cma::ShadowError;
use crate::host::early::EarlyError;
use crate::host::memory::MemoryError;
use crate::host::region::ChangeError;
use crate::vocabulary::errors::{AllocError, FreeError, InfoError};
use crate::vocabulary::errors::{RegisterAllocatorError, RegisterError, UnregisterError};
use crate::vocabulary::{ConfigError, Errno, RequestSyntax};

impl ConfigError<RequestSyntax> {
    /// The errno of the specification, section 6.
    pub fn errno(&self) -> Errno {
        Errno::EINVAL
    }
}

impl ConfigError {
    /// The errno of the specification, section 7.
    pub fn errno(&self) -> Errno {
        Errno::EINVAL
    }
}

impl ReserveError {
    /// The errno of the specification, section 3.
    pub fn errno(&self) -> Errno {
        match self {
            ReserveError::Taken { .. } => Errno::EADDRINUSE,
            ReserveError::Misplaced { .. } => Errno::EINVAL,
            _ => Errno::ENOMEM,
        }
    }
}

impl AllocError {
    /// The errno of the specification, section 6.
    pub fn errno(&self) -> Errno {
        match self {
            AllocError::Invalid(_) | AllocError::Unregistered | AllocError::Answered => {
                Errno::EINVAL
            }
            AllocError::NoRule { .. } => Errno::ENOENT,
            AllocError::NoRegion(refusals) if refusals.misplaced() => Errno::EADDRINUSE,
            // Whether the stuck region has room is unknown, so this is not ENOMEM.
            AllocError::NoRegion(refusals) if refusals.stuck() => Errno::EIO,
            AllocError::NoRegion(refusals) if refusals.taken() => Errno::EBUSY,
            AllocError::NoRegion(refusals) if refusals.elsewhere() => Errno::EINVAL,
            AllocError::NoRegion(_) => Errno::ENOMEM,
            AllocError::TimedOut(_) => Errno::ETIMEDOUT,
        }
    }
}

impl MemoryError {
    /// The errno that a front end reports to its client.
    pub fn errno(&self) -> Errno {
        match self {
            MemoryError::Simulated { .. }
            | MemoryError::Granule { .. }
            | MemoryError::Elsewhere { .. }
            | MemoryError::NotLasting
            | MemoryError::NotRestored { .. } => Errno::EINVAL,
            MemoryError::Held { .. } => Errno::EBUSY,
            MemoryError::Lost { .. } => Errno::ENOMEM,
            // A front end can close files, which makes no memory free.
            MemoryError::System { source, .. } => match source.raw_os_error() {
                Some(errno) if errno == Errno::EMFILE as i32 => Errno::EMFILE,
                Some(errno) if errno == Errno::ENFILE as i32 => Errno::ENFILE,
                _ => Errno::ENOMEM,
            },
        }
    }
}

impl FreeError {
    /// The errno of the specification, section 6.
    pub fn errno(&self) -> Errno {
        match self {
            FreeError::NoChunk { .. } => Errno::ENOENT,
            FreeError::Held { .. } => Errno::EBUSY,
        }
    }
}

impl InfoError {
    /// The errno of the specification, section 6.
    pub fn errno(&self) -> Errno {
        match self {
            InfoError::Invalid(_) => Errno::EINVAL,
            InfoError::NoRule { .. } | InfoError::NoRegion => Errno::ENOENT,
        }
    }
}

impl EarlyError {
    /// The errno of the specification, section 3.
    pub fn errno(&self) -> Errno {
        match self {
            EarlyError::DefaultsSet => Errno::EBUSY,
            _ => Errno::EINVAL,
        }
    }
}

impl RegisterError {
    /// The errno of the specification, section 3.
    pub fn errno(&self) -> Errno {
        match self {
            RegisterError::Invalid(_) | RegisterError::Allocator { .. } => Errno::EINVAL,
            RegisterError::NameTaken { .. } => Errno::EEXIST,
            RegisterError::Overlaps { .. } => Errno::EADDRINUSE,
        }
    }
}

impl UnregisterError {
    /// The errno of the specification, section 3.
    pub fn errno(&self) -> Errno {
        match self {
            UnregisterError::Busy { .. } => Errno::EBUSY,
            UnregisterError::Stuck(_) => Errno::EIO,
            UnregisterError::NotRegistered => Errno::EINVAL,
        }
    }
}

impl RegisterAllocatorError {
    /// The errno of the specification, section 4.
    pub fn errno(&self) -> Errno {
        match self {
            RegisterAllocatorError::NameTaken { .. } => Errno::EEXIST,
            RegisterAllocatorError::BadName { .. } => Errno::EINVAL,
        }
    }
}

impl ChangeError {
    /// The errno of the specification, section 7.
    pub fn errno(&self) -> Errno {
        match self {
            ChangeError::Stuck(_) => Errno::EIO,
            ChangeError::Unregistered
            | ChangeError::BadName { .. }
            | ChangeError::Initialise { live: 0, .. } => Errno::EINVAL,
            ChangeError::Initialise { .. }
            | ChangeError::NobodyAdopts { .. }
            | ChangeError::Adopt { .. } => Errno::EBUSY,
        }
    }
}

impl ShadowError {
    /// The errno of writing the attribute `shadow`.
    pub fn errno(&self) -> Errno {
        match self {
            ShadowError::NoThread { .. } => Errno::ENOMEM,
            ShadowError::NoAllocator { .. }
            | ShadowError::Unregistered
            | ShadowError::NotStarted { .. } => Errno::EINVAL,
        }
    }
}

impl AttributeError {
    /// The errno of the specification, section 7, or of Linux where the specification is silent.
    pub fn errno(&self) -> Errno {
        match self {
            AttributeError::Missing { .. } => Errno::ENOENT,
            AttributeError::Folder => Errno::EISDIR,
            AttributeError::NotFolder => Errno::ENOTDIR,
            AttributeError::ReadOnly => Errno::EACCES,
            AttributeError::TooLarge { .. } | AttributeError::TooLong { .. } => Errno::EFBIG,
            AttributeError::Stuck(_) => Errno::EIO,
            AttributeError::Change(error) => error.errno(),
            AttributeError::Shadow(error) => error.errno(),
            AttributeError::Config(error) => error.errno(),
            AttributeError::NotUtf8 { .. } | AttributeError::Nul { .. } => Errno::EINVAL,
        }
    }
}
