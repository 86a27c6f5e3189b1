//! The attributes of a running framework as files, in the way of Linux's sysfs (specification
//! section 7).
//!
//! [`Sysfs::mount`] mounts the tree [`Attributes`] on a folder, through FUSE. From then on `cat`,
//! `ls`, `find`, `echo` and an editor read and change the running system:
//!
//! ```no_run
//! use cma_framework::Cma;
//! use cma_sysfs::Sysfs;
//!
//! let cma = Cma::new();
//! let mounted = Sysfs::mount(cma.attributes(), "/run/cma".as_ref())?;
//! // cat /run/cma/map; echo 'camera=b1' > /run/cma/map
//! mounted.unmount()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Terms
//!
//! - An *attribute* is a file of the tree. Its text is computed by the framework; the framework
//!   also interprets texts that are written to it.
//! - A *handle* is an open file or folder of the mount (module `handles`).
//! - A *serial queue* holds the requests to one attribute of one user in one direction, reading or
//!   writing (module `serial_queues`).
//! - A *server* is a process that has mounted its tree.
//!
//! # Threads and locks
//!
//! The session has four threads that receive requests from the kernel (module `attribute_fs`). They
//! answer what can't block, and queue reads and writes of attributes. Threads named `attr` work on
//! the queues, at most one on each, and end when idle. A thread `attr-watch` answers requests that
//! take too long.
//!
//! There are three locks: those of the inode numbers, of the handles, and of the queues. Each is
//! held for single steps, never together with another, and never while the framework is called.
//!
//! # Invariants
//!
//! 1. A thread of the session never waits for the framework.
//! 2. All reads from a handle, from its start on, belong to one text, in however many calls. A read
//!    at the start gets the current text, as in sysfs.
//! 3. Each `write` call is a complete text, whatever its offset, as in sysfs. Its error is returned
//!    by that call.
//! 4. The kernel caches nothing: every read gets the framework's current state.
//! 5. A region whose allocator doesn't answer delays its own attributes only. A call without an
//!    answer after ten seconds fails with `EIO`; a *write* that failed so may still take effect.
//! 6. The memory that a user's requests take is bounded. With too many open files, the oldest texts
//!    are evicted, and their handles fail with `ENOMEM` until they are read from the start again;
//!    `open` fails with `EMFILE`, and a call with `EAGAIN` when too many of the user's wait.
//! 7. Every user can read root's tree, and root can write to it; another user's tree is accessible
//!    to that user only.
//! 8. Of several servers of a user, one has a folder (module `lock`). A server unmounts its own
//!    mount only, never one that was made on the same path later (module `mountpoint`).
//!
//! A process must not use files of its own mount: if it is killed while it waits for its own
//! answer, it can't end.

mod attribute_fs;
mod handles;
mod inodes;
mod lock;
mod mountpoint;
mod serial_queues;

use attribute_fs::AttributeFs;
use cma_framework::Attributes;
use fuser::{BackgroundSession, Config, Errno, MountOption, Session, SessionACL};
pub use mountpoint::{Detacher, MountError, mounts};
use mountpoint::{Mountpoint, Presence, SOURCE};
use rustix::process::geteuid;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

/// Threads that receive requests from the kernel.
const THREADS: usize = 4;

/// A mounted tree. Dropping it unmounts it.
pub struct Sysfs {
    session: Option<BackgroundSession>,
    mounted: Detacher,
    mountpoint: Mountpoint,
}

impl Sysfs {
    /// Mounts `tree` on `folder`, which must exist and be empty. A mount that a killed server left
    /// there is removed first.
    ///
    /// # Errors
    ///
    /// [`MountError`]; its text says what to do.
    pub fn mount(tree: Attributes, folder: &Path) -> Result<Sysfs, MountError> {
        let mountpoint = Mountpoint::take(folder)?;
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        config.mount_options = vec![
            MountOption::FSName(SOURCE.to_string()),
            MountOption::DefaultPermissions,
            MountOption::NoExec,
            MountOption::NoAtime,
        ];
        // Only root can give other users access.
        config.acl = if geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
        let session =
            AttributeFs::new(tree).and_then(|tree| Session::new(tree, mountpoint.path(), &config));
        let mounted = mountpoint.mounted();
        let session =
            session.and_then(Session::spawn).map_err(|error| mountpoint.mount_error(error))?;
        tracing::info!(folder = %mountpoint.path().display(), "attributes mounted");
        Ok(Sysfs { session: Some(session), mounted, mountpoint })
    }

    /// The folder, without symbolic links in its path.
    pub fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    /// Whether the tree is still mounted. Another process may have unmounted it, also with `umount
    /// -l`, which leaves open files usable.
    pub fn is_mounted(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.guard.is_finished())
            && self.mounted.presence() != Presence::Gone
    }

    /// Detaches this mount, and no later one on the same folder, while `unmount` is blocked.
    pub fn detacher(&self) -> Detacher {
        self.mounted.clone()
    }

    /// Unmounts the tree. If a process has a file of it open, or its working directory in it, the
    /// folder is free at once and the files last until they are closed.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn unmount(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        if session.guard.is_finished() {
            // Another process has unmounted it. An error of the session's threads is of no use to
            // the caller.
            let _ = session.umount_and_join();
            return Ok(());
        }
        if self.mounted.presence() != Presence::There {
            // `session` would unmount whatever is mounted at the path now. Its threads serve the
            // files that are still open, and end with the last of them.
            std::mem::forget(session);
            return self.mounted.detach();
        }
        match session.umount_and_join() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => self.mounted.detach(),
            ended => ended,
        }
    }
}

impl Drop for Sysfs {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(folder = %self.path().display(), %error, "attributes not unmounted");
        }
    }
}

impl fmt::Debug for Sysfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sysfs({})", self.path().display())
    }
}

/// Does `work`. If it panics, which only foreign code such as a subscriber of `tracing` can cause,
/// the result is `EIO`, and the thread continues.
fn catch_panic<T>(work: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    // Shared state is behind locks that are held for single steps, never while foreign code runs.
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        // The panic hook has reported the panic. This event may panic as well.
        let _ =
            panic::catch_unwind(|| tracing::error!("a request to an attribute ended in a panic"));
        Err(Errno::EIO)
    })
}
