//! The search path: folders, and the plug-in files in them.

use super::failure::{LoadError, LoadFailure};
use super::origin::{Origin, SEARCH_VARIABLE};
use std::collections::HashSet;
use std::env;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folders that are searched for plug-ins, in order:
///
/// 1. the folders that the user names,
/// 2. those in the environment variable [`SEARCH_VARIABLE`],
/// 3. the executable's folder if its name is `deps`, where cargo puts a test and the libraries that
///    it depends on,
/// 4. its subfolder `deps`, where cargo puts the libraries that a program depends on,
/// 5. `../lib/cma` relative to the executable's folder, where an installation puts plug-ins,
/// 6. the executable's folder.
///
/// The first two are explicit: a missing folder is an error. The others are searched if they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath {
    folders: Vec<(PathBuf, Origin)>,
}

/// A file that has a plug-in's name, and the source that names its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// The source that names its folder.
    pub origin: Origin,
}

impl SearchPath {
    /// The search path of the executable at `executable` for a user who names the folders `named`
    /// and a [`SEARCH_VARIABLE`] with the value `variable`. Doesn't access the file system.
    pub fn new(
        named: &[PathBuf],
        variable: Option<&OsStr>,
        executable: Option<&Path>,
    ) -> SearchPath {
        let variable = variable.map(env::split_paths).into_iter().flatten();
        let program_folder = executable.and_then(Path::parent);
        let cargo_folder =
            program_folder.filter(|folder| folder.ends_with("deps")).map(Path::to_path_buf);
        let defaults = program_folder
            .map(|folder| [folder.join("deps"), folder.join("../lib/cma"), folder.to_path_buf()]);
        let mut folders: Vec<(PathBuf, Origin)> = Vec::new();
        folders.extend(named.iter().map(|folder| (folder.clone(), Origin::User)));
        // An empty entry is an unset variable, as in `CMA_PLUGIN_PATH=$OTHER:here`, and doesn't
        // stand for the working directory.
        let entries = variable.filter(|folder| !folder.as_os_str().is_empty());
        folders.extend(entries.map(|folder| (folder, Origin::Environment)));
        let defaults = cargo_folder.into_iter().chain(defaults.into_iter().flatten());
        folders.extend(defaults.map(|folder| (folder, Origin::Executable)));
        SearchPath { folders }
    }

    /// The search path of this process for a user who names the folders `named`.
    pub fn from_environment(named: &[PathBuf]) -> SearchPath {
        let executable = env::current_exe().ok();
        SearchPath::new(named, env::var_os(SEARCH_VARIABLE).as_deref(), executable.as_deref())
    }

    /// The folders, in the order in which they are searched.
    pub fn folders(&self) -> impl Iterator<Item = (&Path, Origin)> {
        self.folders.iter().map(|(folder, origin)| (folder.as_path(), *origin))
    }

    /// Every file that has a plug-in's name (see [`is_plugin_name`]), folder by folder and sorted
    /// in each. Of several files with the same name, the first is listed. If a folder that the user
    /// or the environment names can't be listed, its error takes its place, and the other folders
    /// are searched.
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
                Err(error) => {
                    found.push(Err(LoadError::new(folder, folder_failure(*origin, error))));
                }
            }
        }
        found
    }
}

/// Whether `name` is a file name of allocator plug-ins: `libcma_<name>_plugin.so` on Linux.
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

fn folder_failure(origin: Origin, error: io::Error) -> LoadFailure {
    match error.kind() {
        io::ErrorKind::NotFound => LoadFailure::FolderMissing { origin },
        _ => LoadFailure::FolderUnreadable { origin, error },
    }
}

#[cfg(test)]
mod tests;
