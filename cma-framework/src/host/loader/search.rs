//! Where plug-ins are looked for.

use super::{LoadError, LoadFailure};
use std::collections::HashSet;
use std::env;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The environment variable that names folders to search, separated as in `PATH`.
pub const SEARCH_VARIABLE: &str = "CMA_PLUGIN_PATH";

/// The folders that are searched for plug-ins, in order:
///
/// 1. those the user names,
/// 2. those in the environment variable [`SEARCH_VARIABLE`],
/// 3. the executable's folder when it is called `deps`, where cargo puts a test and the libraries
///    it depends on,
/// 4. its subfolder `deps`, where cargo puts the libraries a program depends on,
/// 5. `../lib/cma` from there, where an installation puts them,
/// 6. the executable's folder.
///
/// The first two are the user's word: one that is missing is an error. The others are searched if
/// they are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath {
    folders: Vec<(PathBuf, Origin)>,
}

/// Who named a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user, as an option or in a configuration.
    User,
    /// The environment variable [`SEARCH_VARIABLE`].
    Environment,
    /// It lies where an executable keeps its plug-ins.
    Executable,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::User => "the plug-in path",
            Origin::Environment => SEARCH_VARIABLE,
            Origin::Executable => "the place of the executable",
        })
    }
}

/// A file that has a plug-in's name, and who named the folder it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// Who named its folder.
    pub origin: Origin,
}

impl SearchPath {
    /// The search path of the executable at `executable`, when the user named the folders `named`
    /// and [`SEARCH_VARIABLE`] has the value `variable`. Looks at nothing.
    pub fn new(
        named: &[PathBuf],
        variable: Option<&OsStr>,
        executable: Option<&Path>,
    ) -> SearchPath {
        let variable = variable.map(env::split_paths).into_iter().flatten();
        let home = executable.and_then(Path::parent);
        let cargo = home.filter(|home| home.ends_with("deps")).map(Path::to_path_buf);
        let places =
            home.map(|home| [home.join("deps"), home.join("../lib/cma"), home.to_path_buf()]);
        let mut folders: Vec<(PathBuf, Origin)> = Vec::new();
        folders.extend(named.iter().map(|folder| (folder.clone(), Origin::User)));
        // An empty entry is a slip, as in `CMA_PLUGIN_PATH=$OTHER:here`, and not the working
        // directory.
        let entries = variable.filter(|folder| !folder.as_os_str().is_empty());
        folders.extend(entries.map(|folder| (folder, Origin::Environment)));
        let places = cargo.into_iter().chain(places.into_iter().flatten());
        folders.extend(places.map(|folder| (folder, Origin::Executable)));
        SearchPath { folders }
    }

    /// The search path of this process, when the user named the folders `named`.
    pub fn from_environment(named: &[PathBuf]) -> SearchPath {
        let executable = env::current_exe().ok();
        SearchPath::new(named, env::var_os(SEARCH_VARIABLE).as_deref(), executable.as_deref())
    }

    /// The folders, in the order in which they are searched.
    pub fn folders(&self) -> impl Iterator<Item = (&Path, Origin)> {
        self.folders.iter().map(|(folder, origin)| (folder.as_path(), *origin))
    }

    /// Every file that has a plug-in's name (see [`is_plugin_name`]), folder by folder and sorted
    /// in each. Of files with the same name the first is taken. In place of a folder that the user
    /// or the environment names and that can't be listed stands the error; the other folders are
    /// searched all the same.
    pub fn candidates(&self) -> Vec<Result<Candidate, LoadError>> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for (folder, origin) in &self.folders {
            match plugins_in(folder) {
                Ok(files) => {
                    let new = files
                        .into_iter()
                        .filter(|path| seen.insert(path.file_name().map(OsStr::to_os_string)));
                    found.extend(new.map(|path| Ok(Candidate { path, origin: *origin })));
                }
                Err(_) if *origin == Origin::Executable => {}
                Err(error) => found.push(Err(LoadError::new(folder, unlisted(*origin, error)))),
            }
        }
        found
    }
}

/// Whether a file of this name is taken for an allocator plug-in: `libcma_<name>_plugin.so` on
/// Linux.
///
/// ```
/// use cma_framework::loader::is_plugin_name;
/// assert!(is_plugin_name("libcma_best_fit_plugin.so".as_ref()));
/// assert!(!is_plugin_name("libcma_best_fit.so".as_ref()));
/// ```
pub fn is_plugin_name(name: &OsStr) -> bool {
    let stem =
        name.to_str().and_then(|name| name.strip_prefix(DLL_PREFIX)?.strip_suffix(DLL_SUFFIX));
    let name = stem.and_then(|stem| stem.strip_prefix("cma_")?.strip_suffix("_plugin"));
    name.is_some_and(|name| !name.is_empty())
}

/// The files in `folder` that have a plug-in's name, sorted.
pub(super) fn plugins_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_plugin_name(&entry.file_name()) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn unlisted(origin: Origin, error: io::Error) -> LoadFailure {
    match error.kind() {
        io::ErrorKind::NotFound => LoadFailure::FolderMissing { origin },
        _ => LoadFailure::FolderUnreadable { origin, error },
    }
}

#[cfg(test)]
mod tests;
