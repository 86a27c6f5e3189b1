//! Plug-ins that arrive in a folder while the server runs.

use crate::notice::Notice;
use crate::options::Options;
use crate::show::counted;
use cma_framework::loader::{
    Arrival, Arrivals, LoadError, LoadFailure, Origin, SearchPath, Trial, Tried,
};
use cma_framework::{Cma, Plugin, Replacement};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

/// Watches the folders that the user named, and not the program's own: those belong to the
/// installation.
pub(super) fn watch(options: &Options) -> io::Result<(Vec<PathBuf>, Arrivals)> {
    let searched = SearchPath::from_environment(&options.plugin_dir);
    let named = searched.folders().filter(|(_, origin)| *origin != Origin::Executable);
    let folders: Vec<PathBuf> = named.map(|(folder, _)| folder.to_path_buf()).collect();
    Ok((folders.clone(), Arrivals::watch(folders)?))
}

/// Loads the plug-ins that arrive, in a thread of its own because loading may take long.
pub(super) fn load_in_background(cma: Cma, mut arrivals: Arrivals) -> io::Result<()> {
    let run = move || {
        loop {
            match arrivals.wait() {
                Ok(Arrival::File(file)) => load(&cma, &file),
                Ok(Arrival::FolderGone(folder)) => {
                    Notice::warning(&format!("{}: this folder is gone", folder.display()))
                        .with_help(Some("it is watched again when it is back".to_string()))
                        .report();
                }
                Ok(Arrival::FolderBack(folder)) => {
                    tracing::info!(folder = %folder.display(), "watched for plug-ins again");
                }
                Err(error) => {
                    Notice::warning(&format!(
                        "folders can't be watched for plug-ins any more: {error}"
                    ))
                    .report();
                    return;
                }
            }
        }
    };
    thread::Builder::new().name("plug-ins".to_string()).spawn(run).map(drop)
}

fn load(cma: &Cma, file: &Path) {
    match Trial::of_this_program().run(file).and_then(Tried::load) {
        Ok(plugin) => install(cma, file, plugin),
        // It was removed meanwhile.
        Err(error) if is_missing(&error) => {}
        Err(error) => {
            tracing::debug!(%error, "plug-in not loaded");
            Notice::from(&error).report();
        }
    }
}

fn is_missing(error: &LoadError) -> bool {
    matches!(error.reason(), LoadFailure::Missing)
}

fn install(cma: &Cma, file: &Path, plugin: Plugin) {
    let (name, version) = (plugin.name(), plugin.version());
    let path = file.display();
    if cma.allocators().iter().any(|registered| registered.plugin == plugin) {
        tracing::info!("{path}: allocator {name} {version} is registered already");
        return;
    }
    match cma.allocator_replace(plugin) {
        Err(error) => Notice::warning(&format!("{path}: {error}")).report(),
        Ok(Replacement { replaced, taken_over, kept, attachments }) => {
            let replaced =
                replaced.map(|old| format!(", in place of {},", old.version())).unwrap_or_default();
            let regions = counted(taken_over.len() + attachments.attached.len(), "region");
            tracing::info!("{path}: allocator {name} {version}{replaced} now serves {regions}");
            for (region, error) in kept {
                let message =
                    format!("region {region} keeps the older build of \"{name}\": {error}");
                Notice::warning(&message).report();
            }
            for (region, reason) in attachments.failed {
                Notice::warning(&format!("region {region}: {reason}")).report();
            }
        }
    }
}
