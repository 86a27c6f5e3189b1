//! The plug-ins on the search path, and messages about files and folders that have none.

use crate::notice::Notice;
use crate::options::Options;
use crate::outcome::{CommandError, Outcome, name_a_folder};
use cma_framework::Plugin;
use cma_framework::loader::{Origin, SearchPath, Trial, is_plugin_name, load_all};
use std::env::consts::{DLL_EXTENSION, DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};

/// The plug-ins on the search path.
#[derive(Debug)]
pub(crate) struct FoundPlugins {
    /// Those that were loaded, no two of one name. The first is the default allocator.
    pub(crate) plugins: Vec<Plugin>,
    /// Messages about the other files, and about folders without any.
    notices: Vec<Notice>,
    searched: SearchPath,
}

impl FoundPlugins {
    /// Loads the plug-ins, each in a child process first. A --plugin-dir without any is reported.
    pub(crate) fn on_path(options: &Options) -> FoundPlugins {
        let mut found = FoundPlugins::present(options);
        let empty = options.plugin_dir.iter().filter_map(|folder| no_plugin_in(folder));
        found.notices.splice(..0, empty);
        found
    }

    /// The same, for a command that loads further plug-ins later: a folder may be empty.
    pub(crate) fn present(options: &Options) -> FoundPlugins {
        let searched = SearchPath::from_environment(&options.plugin_dir);
        // This program, started again, tries each plug-in.
        let trial = Trial::of_this_program();
        let mut plugins: Vec<Plugin> = Vec::new();
        let mut notices: Vec<Notice> = Vec::new();
        for (_, loaded) in load_all(&searched, Some(&trial)) {
            match loaded {
                Ok(plugin) => match plugins.iter().find(|first| first.name() == plugin.name()) {
                    Some(first) => notices.push(duplicate(&plugin, first)),
                    None => plugins.push(plugin),
                },
                Err(error) => notices.push(Notice::from(&error)),
            }
        }
        FoundPlugins { plugins, notices, searched }
    }

    /// The same, for a command that needs at least one plug-in.
    ///
    /// # Errors
    ///
    /// [`CommandError::NoPlugin`].
    pub(crate) fn at_least_one(options: &Options) -> Result<FoundPlugins, CommandError> {
        let found = FoundPlugins::on_path(options);
        if found.plugins.is_empty() {
            found.notices.iter().for_each(Notice::report);
            return Err(CommandError::NoPlugin { searched: found.searched });
        }
        Ok(found)
    }

    /// The file that `plugin` hides: of the same file name, in a folder searched after the user's
    /// folder that holds `plugin`.
    pub(crate) fn hidden_by(&self, plugin: &Plugin) -> Option<PathBuf> {
        let (folder, name) = (plugin.path()?.parent()?, plugin.path()?.file_name()?);
        let mut folders = self.searched.folders().skip_while(|(searched, _)| *searched != folder);
        folders.next().filter(|(_, origin)| *origin != Origin::Executable)?;
        folders.map(|(folder, _)| folder.join(name)).find(|file| file.is_file())
    }

    /// Reports on standard error the files that could not be loaded, with reasons and remedies.
    pub(crate) fn report(&self) -> Outcome {
        self.notices.iter().for_each(Notice::report);
        if self.plugins.is_empty() {
            Notice::warning("no allocator plug-in was found, so no region can serve anything")
                .with_help(Some(name_a_folder(&self.searched)))
                .report();
        }
        Outcome::refused_if(self.plugins.is_empty() || !self.notices.is_empty())
    }
}

/// The message about a plug-in with the name of an earlier one.
fn duplicate(plugin: &Plugin, first: &Plugin) -> Notice {
    let path =
        |plugin: &Plugin| plugin.path().map(|path| path.display().to_string()).unwrap_or_default();
    let message = format!(
        "{}: not used: its allocator is named \"{}\", as is that of {}, which is found first",
        path(plugin),
        plugin.name(),
        path(first)
    );
    let help = "remove one of them, or give its allocator another name; --plugin-dir, \
        CMA_PLUGIN_PATH and the program's folders are searched in this order, each by file name";
    Notice::warning(&message).with_help(Some(help.to_string()))
}

/// The message about a --plugin-dir that holds no plug-in. The loader reports folders that can't be
/// listed.
fn no_plugin_in(folder: &Path) -> Option<Notice> {
    let mut names: Vec<_> =
        fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name()).collect();
    if names.iter().any(|name| is_plugin_name(name)) {
        return None;
    }
    names.sort();
    let message = format!("{}: no plug-in is in this folder", folder.display());
    let library =
        names.iter().find(|name| Path::new(name).extension() == Some(DLL_EXTENSION.as_ref()));
    let there = library.map(|name| format!("there is {}; ", name.display())).unwrap_or_default();
    let help =
        format!("{there}a plug-in's file is named {DLL_PREFIX}cma_<name>_plugin{DLL_SUFFIX}");
    Some(Notice::warning(&message).with_help(Some(help)))
}
