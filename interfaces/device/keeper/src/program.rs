//! The program of a server.

use rustix::fs::{Access, Mode, OFlags, access, fstat, open, stat};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that can be started again after another file has taken its path: the keeper has it
/// open. A script can't.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    file: OwnedFd,
}

impl Program {
    /// The program at that path, or, if that has no `/`, in a folder of `PATH`.
    ///
    /// # Errors
    ///
    /// There is none that this process can execute.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = found(path.as_ref())?;
        let file = open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if !path.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        access(&path, Access::EXEC_OK)?;
        Ok(Program { path, file })
    }

    /// The path that it had when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What starts it with these arguments.
    pub(crate) fn command(&self, arguments: &[OsString]) -> Command {
        let mut command = match self.is_at_its_path() {
            true => Command::new(&self.path),
            // A descriptor that is closed at `exec` is still open when the path is looked up.
            false => Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd())),
        };
        command.arg0(&self.path).args(arguments);
        command
    }

    fn is_at_its_path(&self) -> bool {
        let of_path = stat(&self.path).map(|found| (found.st_dev, found.st_ino));
        of_path.is_ok() && of_path == fstat(&self.file).map(|held| (held.st_dev, held.st_ino))
    }
}

/// Where the program is that a command line names.
fn found(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().as_encoded_bytes().contains(&b'/') {
        return Ok(path.to_path_buf());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let is_program =
        |candidate: &PathBuf| candidate.is_file() && access(candidate, Access::EXEC_OK).is_ok();
    let mut candidates = env::split_paths(OsStr::new(&folders)).map(|folder| folder.join(path));
    candidates.find(is_program).ok_or_else(|| io::ErrorKind::NotFound.into())
}
