//! The mounted attributes of a running server.

use crate::options::ServerArgs;
use crate::outcome::CommandError;
use cma_framework::Errno;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The variable that names the folder when the command line doesn't.
const VARIABLE: &str = "CMA_MOUNT";

/// The name of the error's number, if it is one of the specification's.
pub(crate) fn errno_name(error: &io::Error) -> Option<String> {
    let known = [Errno::ENOENT, Errno::EACCES, Errno::EBUSY, Errno::EINVAL, Errno::EFBIG];
    let name = known.into_iter().find(|errno| error.raw_os_error() == Some(*errno as i32));
    name.map(|name| format!("{name:?}"))
}

/// The message when something can't be read.
pub(crate) fn read_error(error: &io::Error) -> String {
    message(error, "this user may not read it".to_string())
}

/// The message when `file` can't be written.
pub(crate) fn write_error(file: &Path, error: &io::Error) -> String {
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

/// The folder on which a server's attributes are mounted.
#[derive(Debug)]
pub(crate) struct ServerMount(PathBuf);

impl ServerMount {
    /// The mount named by the command line or the environment, or else the only one there is.
    pub(crate) fn find(server: &ServerArgs) -> Result<ServerMount, CommandError> {
        let variable =
            || env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        if let Some(folder) = server.mount.clone().or_else(variable) {
            return ServerMount::at(&folder);
        }
        let all = cma_sysfs::mounts().map_err(CommandError::Serve)?;
        let (mut readable, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|folder| fs::metadata(folder).is_ok());
        match (readable.pop(), readable.is_empty()) {
            // Reports that this user may not access it, or that its server has ended.
            (None, _) => {
                others.first().map_or(Err(CommandError::NoServer), |folder| ServerMount::at(folder))
            }
            (Some(only), true) => Ok(ServerMount(only)),
            (Some(last), false) => {
                Err(CommandError::Servers(readable.into_iter().chain([last]).collect()))
            }
        }
    }

    fn at(folder: &Path) -> Result<ServerMount, CommandError> {
        match fs::metadata(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                return Err(CommandError::ServerGone(folder.to_path_buf()));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(CommandError::Attribute {
                    path: folder.display().to_string(),
                    reason: message(&error, "this user may not look into it".to_string()),
                });
            }
            _ => {}
        }
        let path = fs::canonicalize(folder).unwrap_or_default();
        if cma_sysfs::mounts().map_err(CommandError::Serve)?.contains(&path) {
            Ok(ServerMount(path))
        } else {
            Err(CommandError::NotServed(folder.to_path_buf()))
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// The file of the attribute or folder `path`, which is relative to the mount or absolute.
    pub(crate) fn file(&self, path: &str) -> Result<PathBuf, CommandError> {
        let missing = || CommandError::Attribute {
            path: path.to_string(),
            reason: "there is no such attribute".to_string(),
        };
        let inside = Path::new(path).strip_prefix(&self.0).unwrap_or(Path::new(path));
        let mut file = self.0.clone();
        for part in inside.components() {
            match part {
                Component::Normal(name) => file.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(missing()),
            }
        }
        match fs::metadata(&file) {
            Ok(_) => Ok(file),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Err(missing())
            }
            Err(error) => {
                Err(CommandError::Attribute { path: path.to_string(), reason: read_error(&error) })
            }
        }
    }

    /// The same, for an attribute.
    pub(crate) fn attribute(&self, path: &str) -> Result<PathBuf, CommandError> {
        let file = self.file(path)?;
        if file.is_dir() {
            return Err(CommandError::AttributeFolder { path: path.to_string() });
        }
        Ok(file)
    }

    /// The refused writes that the server has on record, the oldest first: the number of each, and
    /// the reason for those to `file`.
    pub(crate) fn refusals(&self, file: &Path) -> Vec<(u64, Option<String>)> {
        let errors = fs::read_to_string(self.0.join("errors")).unwrap_or_default();
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
