//! The folder to mount on: the checks, the removal of mounts that a killed server left, and the
//! list of mounts.

use crate::lock::FolderLock;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::geteuid;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The source name of our mounts in the mount table.
pub(crate) const SOURCE: &str = "cma";

/// The program that mounts and unmounts for ordinary users.
const HELPER: &str = "fusermount3";

/// Why a tree was not mounted. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The folder does not exist.
    #[error("{}: there is no such folder; create it first: mkdir -p '{}'", .0.display(), .0.display())]
    Missing(PathBuf),
    /// The path is not a folder.
    #[error("{}: it is not a folder; name an empty one", .0.display())]
    NotAFolder(PathBuf),
    /// The folder has entries, which the mount would hide.
    #[error("{}: it is not empty, and the mount would hide its content; name an empty folder", .0.display())]
    NotEmpty(PathBuf),
    /// Another server's attributes are mounted there, or another server of this user is mounting or
    /// unmounting there.
    #[error("{}: another server shows its attributes there, or is about to; stop it, or name another folder", .0.display())]
    Served(PathBuf),
    /// Another file system is mounted there.
    #[error("{}: {source_name} ({kind}) is mounted there; unmount it first, or name another folder", path.display())]
    Mounted {
        /// The folder.
        path: PathBuf,
        /// The source of that mount.
        source_name: String,
        /// The type of the file system.
        kind: String,
    },
    /// Attributes are mounted there, their server has ended, and the mount can't be removed.
    #[error("{}: attributes are mounted there whose server does not answer, and that mount can't be removed: {error}; remove it first: umount -l '{}'", path.display(), path.display())]
    NotCleared {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The system has no FUSE.
    #[error(
        "/dev/fuse can't be opened: {0}; the kernel module must be loaded (modprobe fuse), and this user must be able to read and write the device"
    )]
    NoFuse(io::Error),
    /// An ordinary user needs a helper program to mount.
    #[error("{}: this user may not mount by itself, and {HELPER} can't be run; install fuse3, or run as root", .0.display())]
    NoHelper(PathBuf),
    /// The folder can't be examined, or the system refuses to mount on it.
    #[error("{}: it can't be mounted on: {error}", path.display())]
    System {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// A folder that this process alone may mount on.
#[derive(Debug)]
pub(crate) struct Mountpoint {
    path: PathBuf,
    _lock: FolderLock,
}

impl Mountpoint {
    pub(crate) fn take(folder: &Path) -> Result<Mountpoint, MountError> {
        let system = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => MountError::Missing(folder.to_path_buf()),
            io::ErrorKind::NotADirectory => MountError::NotAFolder(folder.to_path_buf()),
            _ => MountError::System { path: folder.to_path_buf(), error },
        };
        let path = resolved(folder).map_err(system)?;
        clear_stale_mounts(&path, system)?;
        if !fs::metadata(&path).map_err(system)?.is_dir() {
            return Err(MountError::NotAFolder(folder.to_path_buf()));
        }
        let lock = FolderLock::take(&path)
            .map_err(system)?
            .ok_or_else(|| MountError::Served(path.clone()))?;
        // The last owner of the lock may have mounted since the first check.
        clear_stale_mounts(&path, system)?;
        if fs::read_dir(&path).map_err(system)?.next().is_some() {
            return Err(MountError::NotEmpty(path));
        }
        Ok(Mountpoint { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The error for a mount that failed with `error`.
    pub(crate) fn mount_error(&self, error: io::Error) -> MountError {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let has_helper = || Command::new(HELPER).arg("-V").stdin(Stdio::null()).output().is_ok();
        match device {
            Err(error) => MountError::NoFuse(error),
            Ok(_) if !geteuid().is_root() && !has_helper() => {
                MountError::NoHelper(self.path.clone())
            }
            Ok(_) => MountError::System { path: self.path.clone(), error },
        }
    }

    /// The mount that was just made.
    pub(crate) fn mounted(&self) -> Detacher {
        let top = top(&self.path).ok().flatten();
        Detacher {
            path: self.path.clone(),
            id: top.filter(MountEntry::is_ours).map(|mount| mount.id),
        }
    }
}

/// Detaches one particular mount, never one that was made on the same path later.
#[derive(Clone, Debug)]
pub struct Detacher {
    path: PathBuf,
    /// The kernel's id of the mount, if the mount table has shown it.
    id: Option<u64>,
}

/// Whether a mount can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// At its path, or the mount table can't be read.
    There,
    /// At its path, under a later mount.
    Covered,
    /// Not in the mount table.
    Gone,
}

impl Detacher {
    /// Detaches the mount, also while its files are in use. They last until they are closed.
    ///
    /// # Errors
    ///
    /// When another file system is mounted over it, and those of the system or of the helper
    /// program that unmounts for ordinary users.
    pub fn detach(&self) -> io::Result<()> {
        match self.presence() {
            Presence::There => detach(&self.path),
            Presence::Covered => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("something else is mounted over {}", self.path.display()),
            )),
            Presence::Gone => Ok(()),
        }
    }

    pub(crate) fn presence(&self) -> Presence {
        match (self.id, table()) {
            (Some(id), Ok(table)) => presence(&table, id),
            _ => Presence::There,
        }
    }
}

fn presence(table: &[MountEntry], id: u64) -> Presence {
    match table.iter().rposition(|mount| mount.id == id) {
        None => Presence::Gone,
        Some(n) if table[n + 1..].iter().any(|later| later.path == table[n].path) => {
            Presence::Covered
        }
        Some(_) => Presence::There,
    }
}

/// The last mount on `path`, which hides earlier ones.
fn top(path: &Path) -> io::Result<Option<MountEntry>> {
    Ok(table()?.into_iter().rfind(|mount| mount.path == path))
}

/// The folders on which attributes are mounted, by any server that this process can see, including
/// those of servers that were killed.
///
/// # Errors
///
/// When the mount table can't be read.
pub fn mounts() -> io::Result<Vec<PathBuf>> {
    let mut ours: Vec<PathBuf> =
        table()?.into_iter().filter(MountEntry::is_ours).map(|mount| mount.path).collect();
    ours.sort();
    ours.dedup();
    Ok(ours)
}

/// `folder` without symbolic links. If its server has ended, calls on the folder itself fail, so
/// only its parent is resolved.
fn resolved(folder: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(folder), folder.file_name()) {
        (Err(error), Some(name)) if error.kind() == io::ErrorKind::NotConnected => {
            let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
            Ok(fs::canonicalize(parent.unwrap_or(Path::new(".")))?.join(name))
        }
        (resolved, _) => resolved,
    }
}

/// Checks that no file system is mounted on `path`, and removes mounts that killed servers left.
fn clear_stale_mounts(
    path: &Path,
    system: impl Fn(io::Error) -> MountError,
) -> Result<(), MountError> {
    while let Some(mount) = top(path).map_err(&system)? {
        let dead =
            fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotConnected);
        match (mount.is_ours(), dead) {
            (true, true) => {
                let path = path.to_path_buf();
                detach(&path)
                    .map_err(|error| MountError::NotCleared { path: path.clone(), error })?;
                tracing::info!(folder = %path.display(), "removed a mount whose server has ended");
            }
            (true, false) => return Err(MountError::Served(mount.path)),
            (false, _) => {
                let MountEntry { path, kind, source, .. } = mount;
                return Err(MountError::Mounted { path, source_name: source, kind });
            }
        }
    }
    Ok(())
}

/// Detaches the mount at `path`, without waiting until its files are closed.
///
/// # Errors
///
/// Those of the system, or of the helper program that unmounts for ordinary users.
fn detach(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        Err(rustix::io::Errno::PERM) => {
            // Only the helper program may undo its own mounts.
            let mut helper = Command::new(HELPER);
            let ended = helper.args(["-u", "-z", "--"]).arg(path).stdin(Stdio::null()).output()?;
            match ended.status.success() {
                true => Ok(()),
                false => {
                    Err(io::Error::other(String::from_utf8_lossy(&ended.stderr).trim().to_string()))
                }
            }
        }
        ended => Ok(ended?),
    }
}

/// An entry of the mount table.
#[derive(Debug, PartialEq, Eq)]
struct MountEntry {
    id: u64,
    path: PathBuf,
    kind: String,
    source: String,
}

impl MountEntry {
    fn is_ours(&self) -> bool {
        self.source == SOURCE && (self.kind == "fuse" || self.kind.starts_with("fuse."))
    }

    /// Parses a line of `/proc/self/mountinfo`; see proc(5).
    fn parse(line: &[u8]) -> Option<MountEntry> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let path = fields.nth(3)?;
        let mut last_fields = fields.skip_while(|field| *field != b"-").skip(1);
        let mut text =
            || last_fields.next().map(|field| String::from_utf8_lossy(field).into_owned());
        let (kind, source) = (text()?, text()?);
        Some(MountEntry { id, path: unescaped(path).into(), kind, source })
    }
}

fn table() -> io::Result<Vec<MountEntry>> {
    let table = fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(MountEntry::parse).collect())
}

/// Decodes a field: the table writes white space and backslashes as three octal digits.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_mount_table_is_parsed_with_escapes_and_optional_fields() {
        let line =
            br"36 35 0:98 / /mnt/two\040words\134 rw,noatime shared:1 master:2 - fuse cma rw,user_id=0";
        let mount = MountEntry::parse(line).unwrap();
        assert_eq!(mount.path, Path::new(r"/mnt/two words\"));
        assert!(mount.is_ours());
        assert_eq!(mount.id, 36);
        let other = MountEntry::parse(b"36 35 98:0 / /mnt rw - fuse.sshfs me@host:/ rw").unwrap();
        assert_eq!((other.kind.as_str(), other.is_ours()), ("fuse.sshfs", false));
        assert_eq!(MountEntry::parse(b""), None);
        assert_eq!(MountEntry::parse(b"36 35 98:0 / /mnt rw - fuse"), None);
    }

    #[test]
    fn mounts_on_the_same_folder_are_distinguished_by_their_id() {
        let lines: [&[u8]; 3] = [
            b"7 1 0:9 / /a rw - fuse cma rw",
            b"8 1 0:9 / /b rw - fuse cma rw",
            b"9 7 0:9 / /a rw - tmpfs x rw",
        ];
        let table: Vec<MountEntry> = lines.into_iter().filter_map(MountEntry::parse).collect();
        assert_eq!(
            [7, 8, 9, 10].map(|id| presence(&table, id)),
            [Presence::Covered, Presence::There, Presence::There, Presence::Gone]
        );
    }

    #[test]
    fn the_mount_table_of_this_machine_is_parsed() {
        assert!(table().unwrap().iter().any(|mount| mount.path == Path::new("/")));
    }
}
