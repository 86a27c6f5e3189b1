//! A lock, so that only one of several servers of a user mounts on a folder. It is on a file in a
//! private folder of the user: any user who can read the mount folder could lock that.

use rustix::process::geteuid;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The name of the folder of the lock files.
const NAME: &str = "cma-sysfs.locks";

/// The lock of a mount folder. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct FolderLock {
    file: PathBuf,
    /// Closing the file releases the lock, also when the process is killed.
    _locked: File,
}

impl FolderLock {
    /// Takes the lock of `folder`; `None` if another server has it.
    pub(crate) fn take(folder: &Path) -> io::Result<Option<FolderLock>> {
        let locked = fs::metadata(folder)?;
        let file =
            lock_folder(&candidates())?.join(format!("{:x}-{:x}", locked.dev(), locked.ino()));
        loop {
            let opened = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&file)?;
            match opened.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The last owner may have removed the file before it was locked here.
            let number = opened.metadata()?.ino();
            if fs::metadata(&file).is_ok_and(|there| there.ino() == number) {
                return Ok(Some(FolderLock { file, _locked: opened }));
            }
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // The file is removed while it is locked. If that fails, the next server locks the same
        // file.
        let _ = fs::remove_file(&self.file);
    }
}

/// The possible folders for lock files, in order of preference. Every server of a user must find
/// the same one, so they don't depend on the environment.
fn candidates() -> [PathBuf; 3] {
    let user = geteuid().as_raw();
    [
        Path::new("/run").join(NAME),
        PathBuf::from(format!("/run/user/{user}/{NAME}")),
        PathBuf::from(format!("/tmp/{NAME}-{user}")),
    ]
}

/// The first of `candidates` that is, or can be created as, a private folder of this user.
fn lock_folder(candidates: &[PathBuf]) -> io::Result<PathBuf> {
    let mut reasons = Vec::new();
    for folder in candidates {
        match ensure_private_folder(folder) {
            Ok(()) => return Ok(folder.clone()),
            Err(error) => reasons.push(format!("{}: {error}", folder.display())),
        }
    }
    Err(io::Error::other(format!("there is no folder for its lock file: {}", reasons.join("; "))))
}

fn ensure_private_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let there = fs::symlink_metadata(folder)?;
    let is_own = there.is_dir() && there.uid() == geteuid().as_raw() && there.mode() & 0o022 == 0;
    if is_own {
        Ok(())
    } else {
        Err(io::Error::other("it is not a folder that this user alone may write to"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_lock_excludes_other_servers_and_its_file_is_removed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap().unwrap();
        let file = lock.file.clone();
        assert!(FolderLock::take(folder.path()).unwrap().is_none());
        drop(lock);
        assert!(!file.exists());
        // A server that was killed leaves the file.
        fs::write(&file, "").unwrap();
        assert!(FolderLock::take(folder.path()).unwrap().is_some());
    }

    #[test]
    fn a_folder_that_others_own_or_may_write_to_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let [open, link, file, good] =
            ["open", "link", "file", "good"].map(|name| folder.path().join(name));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        symlink(folder.path(), &link).unwrap();
        fs::write(&file, "").unwrap();
        let all = [open.clone(), link, file, folder.path().join("missing/inside"), good.clone()];
        assert_eq!(lock_folder(&all).unwrap(), good);
        let error = lock_folder(&all[..1]).unwrap_err().to_string();
        assert!(error.contains(&open.display().to_string()), "{error}");
        if geteuid().is_root() {
            std::os::unix::fs::chown(&good, Some(65534), None).unwrap();
            lock_folder(&all).unwrap_err();
        }
    }
}
