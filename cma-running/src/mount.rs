//! The attributes of a server as the files of its mount.

use crate::entry::{Entry, EntryKind};
use crate::error::Error;
use cma_framework::Errno;
use cma_framework::config::Bytes;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The largest text that is read whole, in bytes: that of a server's socket.
const MAX_TEXT: u64 = 64 << 20;

/// The folder on which a server's attributes are mounted, without symbolic links.
#[derive(Clone, Debug)]
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// The only mount that this user can read.
    pub(crate) fn only() -> Result<Mount, Error> {
        let all = cma_sysfs::mounts().map_err(Error::Mounts)?;
        let (mut readable, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|folder| fs::metadata(folder).is_ok());
        match (readable.pop(), readable.is_empty()) {
            // Reports that this user may not access it, or that its server has ended.
            (None, _) => others.first().map_or(Err(Error::NoServer), |folder| Mount::at(folder)),
            (Some(only), true) => Ok(Mount(only)),
            (Some(last), false) => {
                Err(Error::Servers(readable.into_iter().chain([last]).collect()))
            }
        }
    }

    /// The mount at `folder`.
    pub(crate) fn at(folder: &Path) -> Result<Mount, Error> {
        match fs::metadata(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                return Err(Error::ServerGone(folder.to_path_buf()));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::NotRead {
                    path: folder.display().to_string(),
                    reason: message(&error, "this user may not look into it".to_string()),
                });
            }
            _ => {}
        }
        let path = fs::canonicalize(folder).unwrap_or_default();
        if cma_sysfs::mounts().map_err(Error::Mounts)?.contains(&path) {
            Ok(Mount(path))
        } else {
            Err(Error::NotServed(folder.to_path_buf()))
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// The text of the attribute at `path`, which is refused above [`MAX_TEXT`].
    pub(crate) fn read(&self, path: &str) -> Result<String, Error> {
        let text = self.start(path, MAX_TEXT + 1)?;
        if text.len() as u64 > MAX_TEXT {
            let reason = format!("EFBIG: its text has more than {}", Bytes(MAX_TEXT));
            return Err(Error::NotRead { path: path.to_string(), reason });
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Up to `most` bytes of the text of the attribute at `path`.
    pub(crate) fn read_start(&self, path: &str, most: u64) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.start(path, most)?).into_owned())
    }

    fn start(&self, path: &str, most: u64) -> Result<Vec<u8>, Error> {
        let file = self.attribute(path)?;
        let mut text = Vec::new();
        File::open(&file)
            .and_then(|file| file.take(most).read_to_end(&mut text))
            .map_err(|error| self.read_error(path, &error))?;
        Ok(text)
    }

    /// The entries of the folder at `path`, in the server's order.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<Entry>, Error> {
        let folder = self.file(path)?;
        let error = |error: io::Error| match error.kind() {
            io::ErrorKind::NotADirectory => Error::NotFolder { path: path.to_string() },
            _ => self.read_error(path, &error),
        };
        let entries: Vec<_> = fs::read_dir(folder).and_then(Iterator::collect).map_err(error)?;
        let entry = |entry: fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = match entry.file_type() {
                Ok(kind) if kind.is_dir() => EntryKind::Folder,
                Ok(kind) if kind.is_symlink() => {
                    let target = fs::read_link(entry.path()).unwrap_or_default();
                    EntryKind::Link { target: target.to_string_lossy().into_owned() }
                }
                _ => EntryKind::Attribute,
            };
            Entry { name, kind }
        };
        Ok(entries.into_iter().map(entry).collect())
    }

    /// Writes `text` and a newline in one call: the server takes each write for a whole text.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<(), Error> {
        let file = self.attribute(path)?;
        let before = self.refusals(&file).last().map_or(0, |(number, _)| *number);
        let refused = |reason| Error::NotWritten { path: path.to_string(), reason };
        let mut open = File::options()
            .write(true)
            .open(&file)
            .map_err(|error| refused(write_error(&file, &error)))?;
        let text = format!("{text}\n");
        let error = match open.write(text.as_bytes()) {
            Ok(written) if written == text.len() => return Ok(()),
            Ok(_) => io::ErrorKind::WriteZero.into(),
            Err(error) => error,
        };
        // The write returns a number only. The server's attribute `errors` has the reason.
        let found = reason_of_write(self.refusals(&file), before, errno_name(&error).as_deref());
        Err(refused(match found {
            WriteReason::Found(reason) => reason,
            WriteReason::Unknown => write_error(&file, &error),
            WriteReason::Ambiguous => format!(
                "{}; other writes failed at the same time, `cma get errors` has all reasons",
                write_error(&file, &error)
            ),
        }))
    }

    /// The file of the attribute or folder `path`, which is relative to the mount or absolute.
    fn file(&self, path: &str) -> Result<PathBuf, Error> {
        let inside = Path::new(path).strip_prefix(&self.0).unwrap_or(Path::new(path));
        let mut file = self.0.clone();
        for part in inside.components() {
            match part {
                Component::Normal(name) => file.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(Error::Missing { path: path.to_string() });
                }
            }
        }
        fs::metadata(&file).map_err(|error| self.read_error(path, &error))?;
        Ok(file)
    }

    /// The same, for an attribute.
    fn attribute(&self, path: &str) -> Result<PathBuf, Error> {
        let file = self.file(path)?;
        if file.is_dir() {
            return Err(Error::Folder { path: path.to_string() });
        }
        Ok(file)
    }

    /// Why `path` can't be read.
    fn read_error(&self, path: &str, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotConnected => Error::ServerGone(self.0.clone()),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                // The mount's own folder is there when the server has unmounted it.
                if self.0.join("map").exists() {
                    Error::Missing { path: path.to_string() }
                } else {
                    Error::NotServed(self.0.clone())
                }
            }
            _ => Error::NotRead {
                path: path.to_string(),
                reason: message(error, "this user may not read it".to_string()),
            },
        }
    }

    /// The refused writes that the server has on record, the oldest first: the number of each, and
    /// the reason for those to `file`.
    fn refusals(&self, file: &Path) -> Vec<(u64, Option<String>)> {
        let errors = self.read("errors").unwrap_or_default();
        let file = fs::canonicalize(file).unwrap_or_default();
        let path = file.strip_prefix(&self.0).ok().and_then(Path::to_str);
        let refusal = |line: &str| {
            let (number, what) = line.split_once(' ')?;
            let reason = what.strip_prefix(path?).and_then(|rest| rest.strip_prefix(": "));
            Some((number.parse().ok()?, reason.map(str::to_string)))
        };
        errors.lines().filter_map(refusal).collect()
    }
}

/// The name of the error's number, if it is one of the specification's.
fn errno_name(error: &io::Error) -> Option<String> {
    let known = [Errno::ENOENT, Errno::EACCES, Errno::EBUSY, Errno::EINVAL, Errno::EFBIG];
    let name = known.into_iter().find(|errno| error.raw_os_error() == Some(*errno as i32));
    name.map(|name| format!("{name:?}"))
}

/// The message when `file` can't be written.
fn write_error(file: &Path, error: &io::Error) -> String {
    let denied = match fs::metadata(file) {
        Ok(file) if file.mode() & 0o222 == 0 => "it is read-only".to_string(),
        Ok(file) => format!("this user may not write it; its owner is user {}", file.uid()),
        Err(_) => "this user may not write it".to_string(),
    };
    message(error, denied)
}

/// The system's message, or `denied` for a lack of permission, behind the error's name.
fn message(error: &io::Error, denied: String) -> String {
    let reason = match error.kind() {
        io::ErrorKind::PermissionDenied => denied,
        _ => error.to_string(),
    };
    errno_name(error).map_or(reason.clone(), |name| format!("{name}: {reason}"))
}

/// The result of a search for the reason of a refused write.
#[derive(Debug, PartialEq, Eq)]
enum WriteReason {
    Found(String),
    /// Writes of several processes failed with the same number.
    Ambiguous,
    /// The server has no such reason, or has dropped it.
    Unknown,
}

/// Finds the reason of this process's write among `refusals`, which include those of other
/// processes. The write failed with `errno`; `before` was the last refusal's number before it.
fn reason_of_write(
    refusals: Vec<(u64, Option<String>)>,
    before: u64,
    errno: Option<&str>,
) -> WriteReason {
    // The server keeps the latest refusals. If it has all since `before`, this write's is one.
    let has_all = refusals.iter().any(|(number, _)| *number == before + 1);
    let may_be_ours =
        |reason: &String| errno.is_none_or(|errno| reason.starts_with(&format!("{errno}: ")));
    let later = refusals.into_iter().filter(|(number, _)| *number > before);
    let mut reasons: Vec<String> =
        later.filter_map(|(_, reason)| reason).filter(may_be_ours).collect();
    reasons.dedup();
    match (reasons.pop(), reasons.is_empty()) {
        (None, _) => WriteReason::Unknown,
        (Some(only), true) if has_all => WriteReason::Found(only),
        _ => WriteReason::Ambiguous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(refusals: &[(u64, Option<&str>)], errno: Option<&str>) -> WriteReason {
        let owned = refusals.iter().map(|(number, reason)| (*number, reason.map(str::to_string)));
        reason_of_write(owned.collect(), 4, errno)
    }

    #[test]
    fn a_refused_write_is_never_reported_with_another_ones_reason() {
        let ours = WriteReason::Found("EINVAL: ours".to_string());
        let (old, other_file) = ((4, Some("EINVAL: old")), (6, None));
        assert_eq!(found(&[old, (5, Some("EINVAL: ours")), other_file], Some("EINVAL")), ours);
        assert_eq!(
            found(&[old, (5, Some("EBUSY: theirs")), (6, Some("EINVAL: ours"))], Some("EINVAL")),
            ours
        );
        // Two writers with the same error.
        assert_eq!(
            found(&[(5, Some("EINVAL: ours")), (6, Some("EINVAL: ours"))], Some("EINVAL")),
            ours
        );
        let two = [(5, Some("EINVAL: ours")), (6, Some("EINVAL: theirs"))];
        assert_eq!(found(&two, Some("EINVAL")), WriteReason::Ambiguous);
        assert_eq!(found(&two, None), WriteReason::Ambiguous);
        // The server dropped number 5, which may have been this write's.
        assert_eq!(found(&[(6, Some("EINVAL: theirs"))], Some("EINVAL")), WriteReason::Ambiguous);
        assert_eq!(found(&[old, other_file], Some("EINVAL")), WriteReason::Unknown);
        assert_eq!(found(&[], None), WriteReason::Unknown);
    }

    #[test]
    fn a_text_without_end_is_refused_and_its_start_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let endless = File::create(folder.path().join("errors")).unwrap();
        let mount = Mount(folder.path().to_path_buf());
        endless.set_len(MAX_TEXT).unwrap();
        assert_eq!(mount.read("errors").map(|text| text.len() as u64).ok(), Some(MAX_TEXT));
        endless.set_len(1 << 40).unwrap();
        let error = mount.read("errors").unwrap_err().to_string();
        assert_eq!(error, "errors: EFBIG: its text has more than 64M");
        assert_eq!(mount.read_start("errors", 3).unwrap(), "\0\0\0");
    }
}
