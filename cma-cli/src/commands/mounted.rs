//! The attributes of a running server, where they are mounted.

use crate::failure::Failure;
use crate::options::Server;
use cma_framework::Errno;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Names the folder when the command line doesn't.
const VARIABLE: &str = "CMA_MOUNT";

/// The name of the number that the system gave, if the specification has it.
pub(crate) fn name(error: &io::Error) -> Option<String> {
    let known = [Errno::ENOENT, Errno::EACCES, Errno::EBUSY, Errno::EINVAL, Errno::EFBIG];
    let name = known.into_iter().find(|errno| error.raw_os_error() == Some(*errno as i32));
    name.map(|name| format!("{name:?}"))
}

/// Why something can't be read.
pub(crate) fn said(error: &io::Error) -> String {
    named(error, "this user may not read it".to_string())
}

/// Why `file` can't be written.
pub(crate) fn said_of_writing(file: &Path, error: &io::Error) -> String {
    let denied = match fs::metadata(file) {
        Ok(file) if file.mode() & 0o222 == 0 => "it is read-only".to_string(),
        Ok(file) => format!("this user may not write it; its owner is user {}", file.uid()),
        Err(_) => "this user may not write it".to_string(),
    };
    named(error, denied)
}

/// What the system says, and `denied` for a lack of permission.
fn named(error: &io::Error, denied: String) -> String {
    let reason = match error.kind() {
        io::ErrorKind::PermissionDenied => denied,
        _ => error.to_string(),
    };
    name(error).map_or(reason.clone(), |name| format!("{name}: {reason}"))
}

/// Where a server's attributes are mounted.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// The server that is meant: by the command line, the environment, or because there is only
    /// one.
    pub(crate) fn find(server: &Server) -> Result<Mounted, Failure> {
        let variable =
            || env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        if let Some(folder) = server.mount.clone().or_else(variable) {
            return Mounted::at(&folder);
        }
        let all = cma_sysfs::mounts().map_err(Failure::Serve)?;
        let (mut there, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|folder| fs::metadata(folder).is_ok());
        match (there.pop(), there.is_empty()) {
            // Of one that is not for this user, or whose server is gone, this says so.
            (None, _) => {
                others.first().map_or(Err(Failure::NoServer), |folder| Mounted::at(folder))
            }
            (Some(only), true) => Ok(Mounted(only)),
            (Some(last), false) => Err(Failure::Servers(there.into_iter().chain([last]).collect())),
        }
    }

    fn at(folder: &Path) -> Result<Mounted, Failure> {
        match fs::metadata(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                return Err(Failure::ServerGone(folder.to_path_buf()));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Failure::Attribute {
                    path: folder.display().to_string(),
                    reason: named(&error, "this user may not look into it".to_string()),
                });
            }
            _ => {}
        }
        let path = fs::canonicalize(folder).unwrap_or_default();
        if cma_sysfs::mounts().map_err(Failure::Serve)?.contains(&path) {
            Ok(Mounted(path))
        } else {
            Err(Failure::NotServed(folder.to_path_buf()))
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// The file of the attribute or folder `path`, which may be written as a path in the tree or
    /// from the root of the file system.
    pub(crate) fn file(&self, path: &str) -> Result<PathBuf, Failure> {
        let missing = || Failure::Attribute {
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
            Err(error) => Err(Failure::Attribute { path: path.to_string(), reason: said(&error) }),
        }
    }

    /// The same, for an attribute.
    pub(crate) fn attribute(&self, path: &str) -> Result<PathBuf, Failure> {
        let file = self.file(path)?;
        if file.is_dir() {
            return Err(Failure::AttributeFolder { path: path.to_string() });
        }
        Ok(file)
    }

    /// The refused writes that the server remembers, the oldest first: the number of each, and why
    /// it was refused if it was to `file`.
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
