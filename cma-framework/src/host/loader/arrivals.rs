//! Reports plug-in files that appear in watched folders while the program runs, once each file is
//! complete.
//!
//! A file that is being copied is complete when its writer closes it, which inotify reports. A file
//! that is renamed or linked into the folder is complete at once. A file that is written to after
//! it was reported is reported again.

use super::is_plugin_name;
use super::search::plugins_in;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A file is reported when nothing has happened to it for this time. A build that opens and closes
/// it several times has finished by then.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// Interval for re-checking that the folders exist and are the same. No event reports that a
/// folder was created, was unmounted, or was moved with its parent.
const FOLDER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Watches folders for plug-ins. Created by [`watch`](Self::watch).
///
/// ```no_run
/// use cma_framework::loader::{Arrival, Arrivals, Plugin};
///
/// # let cma = cma_framework::Cma::new();
/// let mut arrivals = Arrivals::watch(["plugins".into()])?;
/// loop {
///     if let Arrival::File(path) = arrivals.wait()? {
///         cma.allocator_replace(Plugin::load(path)?)?;
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Arrivals {
    watcher: RecommendedWatcher,
    events: Receiver<notify::Result<Event>>,
    /// The folders, each with the identity that is watched; `None` while the folder is missing.
    folders: BTreeMap<PathBuf, Option<FolderId>>,
    /// The time of the next check of the folders.
    next_check: Instant,
    /// The complete files, each with the time at which it is reported.
    files: BTreeMap<PathBuf, Instant>,
    /// Folders that appeared or disappeared and are not yet reported.
    folder_events: VecDeque<Arrival>,
}

/// The device and inode of a folder.
type FolderId = (u64, u64);

/// A change of a watched folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A file with the [name of a plug-in](is_plugin_name) is complete, and is new or has new
    /// content.
    File(PathBuf),
    /// The folder was removed, renamed, unmounted or replaced by another. [`Arrivals`] continues to
    /// check whether it exists.
    FolderGone(PathBuf),
    /// A folder that was missing exists. The plug-ins in it are reported next.
    FolderBack(PathBuf),
}

impl Arrivals {
    /// Watches `folders` from now on, also those that don't exist yet. Files are reported by
    /// absolute paths; a relative folder is resolved against the current working directory.
    ///
    /// # Errors
    ///
    /// The system's limit of watches is reached, or a path is empty.
    pub fn watch(folders: impl IntoIterator<Item = PathBuf>) -> io::Result<Arrivals> {
        let (sender, events) = channel();
        let folders = folders.into_iter().map(|folder| Ok((path::absolute(folder)?, None)));
        let mut arrivals = Arrivals {
            watcher: notify::recommended_watcher(sender).map_err(io::Error::other)?,
            events,
            folders: folders.collect::<io::Result<_>>()?,
            next_check: Instant::now(),
            files: BTreeMap::new(),
            folder_events: VecDeque::new(),
        };
        arrivals.check_folders()?;
        // The files that exist now are not new.
        arrivals.files.clear();
        arrivals.folder_events.clear();
        Ok(arrivals)
    }

    /// Waits for the next arrival.
    ///
    /// # Errors
    ///
    /// The watcher has failed, or the system's limit of watches is reached.
    pub fn wait(&mut self) -> io::Result<Arrival> {
        loop {
            let now = Instant::now();
            let due = self.files.values().copied().fold(self.next_check, Instant::min);
            let due = if self.folder_events.is_empty() { due } else { now };
            // Events are handled before a file is reported: one may say that it is written again.
            match self.events.recv_timeout(due.saturating_duration_since(now)) {
                Ok(event) => self.handle_event(&event.map_err(io::Error::other)?),
                Err(error @ RecvTimeoutError::Disconnected) => return Err(io::Error::other(error)),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(event) = self.folder_events.pop_front() {
                        return Ok(event);
                    }
                    let settled = self.files.iter().find(|(_, report_at)| **report_at <= due);
                    if let Some(file) = settled.map(|(file, _)| file.clone()) {
                        self.files.remove(&file);
                        return Ok(Arrival::File(file));
                    }
                    self.check_folders()?;
                }
            }
        }
    }

    fn handle_event(&mut self, event: &Event) {
        if event.need_rescan() {
            // The watcher has lost events.
            for folder in self.folders.clone().keys() {
                self.queue_plugins_in(folder);
            }
            self.next_check = Instant::now();
        }
        // A rename with two paths is also reported as one event for each path.
        let [path] = event.paths.as_slice() else { return };
        let is_complete = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => true,
            EventKind::Create(CreateKind::File) if is_link(path) => true,
            EventKind::Modify(ModifyKind::Name(RenameMode::From) | ModifyKind::Data(_)) => false,
            EventKind::Remove(_) => false,
            _ => return,
        };
        let is_watched = |folder| self.folders.get(folder).is_some_and(Option::is_some);
        let is_plugin =
            path.file_name().is_some_and(is_plugin_name) && path.parent().is_some_and(is_watched);
        if is_complete && is_plugin {
            self.files.insert(path.clone(), Instant::now() + SETTLE_TIME);
        } else if !is_complete {
            self.files.remove(path);
            self.unwatch(path);
        }
    }

    /// Checks which folders have appeared and disappeared.
    fn check_folders(&mut self) -> io::Result<()> {
        self.next_check = Instant::now() + FOLDER_CHECK_INTERVAL;
        for (folder, watched) in self.folders.clone() {
            let current = folder_id(&folder);
            if watched != current {
                self.unwatch(&folder);
            }
            if current.is_none() {
                continue;
            }
            // Also if it is watched already: the kernel removes a watch when the file system is
            // unmounted, even if it is mounted again, and when the same folder is unwatched under
            // another path.
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) if watched != current => {
                    self.folders.insert(folder.clone(), current);
                    self.queue_plugins_in(&folder);
                    self.folder_events.push_back(Arrival::FolderBack(folder));
                }
                Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => {
                    return Err(io::Error::other(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Stops watching `folder`, which is no longer at its path, and reports that.
    fn unwatch(&mut self, folder: &Path) {
        if self.folders.get_mut(folder).and_then(Option::take).is_some() {
            // The kernel may have removed the watch already.
            let _ = self.watcher.unwatch(folder);
            self.files.retain(|file, _| file.parent() != Some(folder));
            self.folder_events.push_back(Arrival::FolderGone(folder.to_path_buf()));
            self.next_check = Instant::now();
        }
    }

    /// Queues all plug-ins in `folder` to be reported.
    fn queue_plugins_in(&mut self, folder: &Path) {
        let report_at = Instant::now() + SETTLE_TIME;
        self.files.extend(
            plugins_in(folder).unwrap_or_default().into_iter().map(|file| (file, report_at)),
        );
    }
}

/// Whether `file`, which was just created, is a symbolic link or another name of an existing file.
/// No event for its completion follows then.
fn is_link(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}

fn folder_id(folder: &Path) -> Option<FolderId> {
    let metadata = fs::metadata(folder).ok().filter(fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}
