//! Checks of the repository's own sources: the width of comments and prose, and the direction of
//! imports.

pub mod columns;
pub mod imports;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root folder of the repository that the current folder is in.
///
/// # Errors
///
/// `git` can't be run, or the current folder is in no repository.
pub fn root() -> io::Result<PathBuf> {
    let folder = git(Path::new("."), &["rev-parse", "--show-toplevel"])?;
    Ok(PathBuf::from(folder.trim_end_matches('\n')))
}

/// The files of the repository, relative to `root`: those in version control, and new ones that it
/// does not ignore.
///
/// # Errors
///
/// `git` can't be run, or fails.
pub fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let names = git(root, &list)?;
    let exists = |name: &&str| !name.is_empty() && root.join(name).is_file();
    Ok(names.split('\0').filter(exists).map(PathBuf::from).collect())
}

fn git(folder: &Path, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("git").current_dir(folder).args(arguments).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    String::from_utf8(output.stdout).map_err(io::Error::other)
}
