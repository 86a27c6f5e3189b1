//! The attributes of a running framework as files, as Linux shows those of its own in sysfs
//! (specification section 7).
//!
//! [`Sysfs::mount`] hangs the tree [`Attributes`] into a folder, through FUSE. From then on `cat`,
//! `ls`, `find`, `echo` and an editor see and change the running system:
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
//! - What a handle reads from the start on is of one moment, also when it takes many calls. Reading
//!   from the start again looks again, as on sysfs.
//! - Each `write` call is a text of its own, as on sysfs, whatever its offset; an error reaches the
//!   call that is at fault.
//! - Nothing is cached: what is read is as the framework has it.
//! - A region whose allocator doesn't answer holds up its own attributes and nothing else. A call
//!   that has no answer after ten seconds fails with `EIO`; a *write* that failed so may still take
//!   effect.
//! - What a user can make the server keep is bounded: with too many open files, those whose reading
//!   began first fail with `ENOMEM` until they are read from the start again; `open` fails with
//!   `EMFILE`, and a call with `EAGAIN` when too many of the user's wait.
//! - Root's tree can be read by everybody and written by root; another user's is that user's own.
//!
//! A process must not work in the folder that it serves: if it is killed while it waits for its own
//! answer, it can't end.
//!
//! This crate holds nothing that the framework should hold: the tree is the framework's, here it
//! gets numbers and handles.

mod handles;
mod inodes;
mod lock;
mod mountpoint;
mod serial_queues;
mod tree;

use cma_framework::Attributes;
use fuser::{BackgroundSession, Config, Errno, MountOption, Session, SessionACL};
pub use mountpoint::{Detacher, MountError, mounts};
use mountpoint::{Mountpoint, Presence, SOURCE};
use rustix::process::geteuid;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use tree::Tree;

/// Threads that take requests from the kernel. None of them waits for the framework.
const THREADS: usize = 4;

/// A mounted tree. Dropping it unmounts it.
pub struct Sysfs {
    session: Option<BackgroundSession>,
    mounted: Detacher,
    mountpoint: Mountpoint,
}

impl Sysfs {
    /// Mounts `tree` on `folder`, which must be there and empty. What a server left there that was
    /// killed is cleared first.
    ///
    /// # Errors
    ///
    /// [`MountError`], which says what to do.
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
        // Other users' eyes are root's to allow.
        config.acl = if geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
        let session =
            Tree::new(tree).and_then(|tree| Session::new(tree, mountpoint.path(), &config));
        let mounted = mountpoint.mounted();
        let session =
            session.and_then(Session::spawn).map_err(|error| mountpoint.refused(error))?;
        tracing::info!(folder = %mountpoint.path().display(), "attributes mounted");
        Ok(Sysfs { session: Some(session), mounted, mountpoint })
    }

    /// The folder, without links in its path.
    pub fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    /// Whether it still is mounted; somebody else may have ended that, also with `umount -l`, which
    /// leaves open files open.
    pub fn is_mounted(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.guard.is_finished())
            && self.mounted.presence() != Presence::Gone
    }

    /// What takes the mount away, and nothing that is mounted there later, while this waits for an
    /// answer that doesn't come.
    pub fn detacher(&self) -> Detacher {
        self.mounted.clone()
    }

    /// Unmounts it. Where somebody still has a file of it open, or works in it, the folder is free
    /// at once and the files last until they are let go.
    ///
    /// # Errors
    ///
    /// What the system says against it.
    pub fn unmount(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        if session.guard.is_finished() {
            // Somebody else has unmounted it. How the threads ended that served it helps nobody.
            let _ = session.umount_and_join();
            return Ok(());
        }
        if self.mounted.presence() != Presence::There {
            // `session` would unmount whatever stands at the path now. Its threads go on for the
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

/// Does `work`. If it panics, which only foreign code in it can cause, such as a subscriber of
/// `tracing`, the answer is `EIO`, and the thread goes on.
fn catch_panic<T>(work: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    // What is shared is behind locks that are held for single steps, never while foreign code runs.
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        // The panic itself was reported by the hook. To log it may panic as well.
        let _ =
            panic::catch_unwind(|| tracing::error!("a request to an attribute ended in a panic"));
        Err(Errno::EIO)
    })
}
