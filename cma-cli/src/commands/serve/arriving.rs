//! Plug-ins that are put into a folder while the system serves.

use crate::host::trial;
use crate::notice::Notice;
use crate::options::Options;
use crate::show::counted;
use cma_framework::loader::{Arrival, Arrivals, LoadError, LoadFailure, Origin, SearchPath, Tried};
use cma_framework::{Cma, Plugin, Replacement};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

/// Watches the folders that somebody has named: what lies where the program lies is the
/// installation's.
pub(super) fn watch(options: &Options) -> io::Result<(Vec<PathBuf>, Arrivals)> {
    let searched = SearchPath::from_environment(&options.plugin_dir);
    let named = searched.folders().filter(|(_, origin)| *origin != Origin::Executable);
    let folders: Vec<PathBuf> = named.map(|(folder, _)| folder.to_path_buf()).collect();
    Ok((folders.clone(), Arrivals::watch(folders)?))
}

/// Takes in what arrives, from now on, in a thread of its own: loading may take long.
pub(super) fn take_in(cma: Cma, mut arrivals: Arrivals) -> io::Result<()> {
    let forever = move || {
        loop {
            match arrivals.wait() {
                Ok(Arrival::File(file)) => load(&cma, &file),
                Ok(Arrival::FolderGone(folder)) => {
                    Notice::warning(&format!("{}: this folder is gone", folder.display()))
                        .with_help(Some("plug-ins arrive in it again when it is back".to_string()))
                        .report();
                }
                Ok(Arrival::FolderBack(folder)) => {
                    tracing::info!(folder = %folder.display(), "plug-ins may arrive in it");
                }
                Err(error) => {
                    Notice::warning(&format!("no plug-in can arrive any more: {error}")).report();
                    return;
                }
            }
        }
    };
    thread::Builder::new().name("plug-ins".to_string()).spawn(forever).map(drop)
}

fn load(cma: &Cma, file: &Path) {
    match trial().run(file).and_then(Tried::load) {
        Ok(plugin) => put_in_force(cma, file, plugin),
        // It was taken away again.
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

fn put_in_force(cma: &Cma, file: &Path, plugin: Plugin) {
    let (name, version) = (plugin.name(), plugin.version());
    let path = file.display();
    if cma.allocators().iter().any(|registered| registered.plugin == plugin) {
        tracing::info!("{path}: this is allocator {name} {version}, which is there already");
        return;
    }
    match cma.allocator_replace(plugin) {
        Err(error) => Notice::warning(&format!("{path}: {error}")).report(),
        Ok(Replacement { replaced, taken_over, kept, attachments }) => {
            let replaced =
                replaced.map(|old| format!(", in place of {}", old.version())).unwrap_or_default();
            let serves = counted(taken_over.len() + attachments.attached.len(), "region");
            tracing::info!("{path}: allocator {name} {version}{replaced}: it serves {serves} now");
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
