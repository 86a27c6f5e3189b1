//! The attributes of a running server, where they are mounted.

use crate::failure::Failure;
use crate::options::Server;
use cma_framework::Errno;
use std::env;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Names the folder when the command line doesn't.
const VARIABLE: &str = "CMA_MOUNT";

/// What the system says, with the name of the number if the specification has it.
pub(crate) fn said(error: &io::Error) -> String {
    let known = [Errno::ENOENT, Errno::EACCES, Errno::EBUSY, Errno::EINVAL, Errno::EFBIG];
    let name = known.into_iter().find(|errno| error.raw_os_error() == Some(*errno as i32));
    let reason = match name {
        Some(Errno::EACCES) => {
            "it is read-only, or only its owner may write it; `ls -l` shows which".to_string()
        }
        _ => error.to_string(),
    };
    name.map_or(reason.clone(), |name| format!("{name:?}: {reason}"))
}

/// Where a server's attributes are mounted.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// The server that is meant: by the command line, the environment, or because there is only one.
    pub(crate) fn find(server: &Server) -> Result<Mounted, Failure> {
        let variable = || env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        if let Some(folder) = server.mount.clone().or_else(variable) {
            return Mounted::at(&folder);
        }
        let mut all = cma_sysfs::mounts().map_err(Failure::Serve)?;
        all.retain(|folder| fs::metadata(folder).is_ok());
        match (all.pop(), all.is_empty()) {
            (None, _) => Err(Failure::NoServer),
            (Some(only), true) => Ok(Mounted(only)),
            (Some(last), false) => Err(Failure::Servers(all.into_iter().chain([last]).collect())),
        }
    }

    fn at(folder: &Path) -> Result<Mounted, Failure> {
        if fs::metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotConnected) {
            return Err(Failure::Killed(folder.to_path_buf()));
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

    /// The file of the attribute or folder `path`, which may be written as a path in the tree or from the root of the file system.
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
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
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

    /// The last refused write: its number, and how it ended if it was to `file`.
    pub(crate) fn last_refusal(&self, file: &Path) -> Option<(u64, Option<String>)> {
        let errors = fs::read_to_string(self.0.join("errors")).ok()?;
        let file = fs::canonicalize(file).ok()?;
        let path = file.strip_prefix(&self.0).ok()?.to_str()?;
        let refusal = |line: &str| {
            let (number, what) = line.split_once(' ')?;
            let reason = what.strip_prefix(path).and_then(|rest| rest.strip_prefix(": "));
            Some((number.parse().ok()?, reason.map(str::to_string)))
        };
        let mut refusals = errors.lines().rev().filter_map(refusal);
        let last = refusals.next()?;
        let ours = if last.1.is_some() { last.1 } else { refusals.find_map(|(_, reason)| reason) };
        Some((last.0, ours))
    }
}
