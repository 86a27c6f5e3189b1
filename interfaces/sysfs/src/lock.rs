//! Of two servers of one user that start on a folder at the same time, one loses. What they lock is
//! a file in a place of that user's own: a folder that others can read they can also lock.

use rustix::process::geteuid;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The files of locks are in a folder of this name.
const NAME: &str = "cma-sysfs.locks";

/// The lock of a folder, as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    file: PathBuf,
    /// Its lock goes with it, also when the process is killed.
    _locked: File,
}

impl Lock {
    /// Takes the lock of `folder`; nothing if another server has it.
    pub(crate) fn take(folder: &Path) -> io::Result<Option<Lock>> {
        let locked = fs::metadata(folder)?;
        let file = place(&candidates())?.join(format!("{:x}-{:x}", locked.dev(), locked.ino()));
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
            // Who had it may have removed the file before this one was locked.
            let number = opened.metadata()?.ino();
            if fs::metadata(&file).is_ok_and(|there| there.ino() == number) {
                return Ok(Some(Lock { file, _locked: opened }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked. If it stays, the next server takes it.
        let _ = fs::remove_file(&self.file);
    }
}

/// Where the files of locks may be, the best first. Every server of a user must find the same
/// place, so no environment counts.
fn candidates() -> [PathBuf; 3] {
    let user = geteuid().as_raw();
    [
        Path::new("/run").join(NAME),
        PathBuf::from(format!("/run/user/{user}/{NAME}")),
        PathBuf::from(format!("/tmp/{NAME}-{user}")),
    ]
}

/// The first of `candidates` that is this user's alone, or can be made so.
fn place(candidates: &[PathBuf]) -> io::Result<PathBuf> {
    let mut reasons = Vec::new();
    for folder in candidates {
        match ensure_private_folder(folder) {
            Ok(()) => return Ok(folder.clone()),
            Err(error) => reasons.push(format!("{}: {error}", folder.display())),
        }
    }
    Err(io::Error::other(format!(
        "there is no place for the file that locks it: {}",
        reasons.join("; ")
    )))
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
    fn a_lock_is_one_servers_until_it_is_dropped_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap().unwrap();
        let file = lock.file.clone();
        assert!(Lock::take(folder.path()).unwrap().is_none());
        drop(lock);
        assert!(!file.exists());
        // As after a server that was killed.
        fs::write(&file, "").unwrap();
        assert!(Lock::take(folder.path()).unwrap().is_some());
    }

    #[test]
    fn a_place_that_others_have_made_or_may_write_to_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let [open, link, file, good] =
            ["open", "link", "file", "good"].map(|name| folder.path().join(name));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        symlink(folder.path(), &link).unwrap();
        fs::write(&file, "").unwrap();
        let all = [open.clone(), link, file, folder.path().join("missing/inside"), good.clone()];
        assert_eq!(place(&all).unwrap(), good);
        let error = place(&all[..1]).unwrap_err().to_string();
        assert!(error.contains(&open.display().to_string()), "{error}");
        if geteuid().is_root() {
            std::os::unix::fs::chown(&good, Some(65534), None).unwrap();
            place(&all).unwrap_err();
        }
    }
}
