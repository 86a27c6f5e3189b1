//! Plug-ins that arrive in a folder while the program runs: which files, and when they are whole.
//!
//! A file that is being copied is not loaded half: the system tells when whoever writes it closes
//! it. One that is renamed or linked into the folder is whole at once. What is written to a file
//! that has come to rest makes it arrive again.

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

/// How long nothing may happen to a file before it is at rest: a build that writes it in several
/// goes is done by then.
const REST: Duration = Duration::from_millis(200);

/// How often is looked whether the folders are there, and the same: nobody tells that one has come,
/// was unmounted, or went with the folder it lies in.
const LOOK: Duration = Duration::from_secs(1);

/// Watches folders for plug-ins. Made by [`watch`](Self::watch).
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
    /// The folders, each with what is watched; nothing while it is not there.
    folders: BTreeMap<PathBuf, Option<Identity>>,
    /// When the folders are looked at next.
    look: Instant,
    /// The files that have arrived, each with the moment from which on it is at rest.
    files: BTreeMap<PathBuf, Instant>,
    /// Folders that came or went, still to be told.
    news: VecDeque<Arrival>,
}

/// The device and inode of a folder.
type Identity = (u64, u64);

/// What happened in a watched folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A file with the [name of a plug-in](is_plugin_name) is there and whole, new or with new
    /// content.
    File(PathBuf),
    /// The folder is gone: removed, renamed, unmounted, or another one is in its place. It is
    /// waited for.
    FolderGone(PathBuf),
    /// A folder that was not there is. The plug-ins in it follow.
    FolderBack(PathBuf),
}

impl Arrivals {
    /// Watches `folders` from now on. One that is not there is waited for. What arrives is named by
    /// absolute paths; a relative folder begins at the working directory of now.
    ///
    /// # Errors
    ///
    /// When the system gives no more watches, or a path is empty.
    pub fn watch(folders: impl IntoIterator<Item = PathBuf>) -> io::Result<Arrivals> {
        let (sender, events) = channel();
        let folders = folders.into_iter().map(|folder| Ok((path::absolute(folder)?, None)));
        let mut arrivals = Arrivals {
            watcher: notify::recommended_watcher(sender).map_err(io::Error::other)?,
            events,
            folders: folders.collect::<io::Result<_>>()?,
            look: Instant::now(),
            files: BTreeMap::new(),
            news: VecDeque::new(),
        };
        arrivals.look_at_folders()?;
        // What is in them now was there before.
        arrivals.files.clear();
        arrivals.news.clear();
        Ok(arrivals)
    }

    /// Waits for the next arrival.
    ///
    /// # Errors
    ///
    /// What the system says against it.
    pub fn wait(&mut self) -> io::Result<Arrival> {
        loop {
            let now = Instant::now();
            let due = self.files.values().copied().fold(self.look, Instant::min);
            let due = if self.news.is_empty() { due } else { now };
            // All that has happened comes before what is due: a file may no longer be at rest.
            match self.events.recv_timeout(due.saturating_duration_since(now)) {
                Ok(event) => self.heed(&event.map_err(io::Error::other)?),
                Err(error @ RecvTimeoutError::Disconnected) => return Err(io::Error::other(error)),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(news) = self.news.pop_front() {
                        return Ok(news);
                    }
                    let at_rest = self.files.iter().find(|(_, rest)| **rest <= due);
                    if let Some(file) = at_rest.map(|(file, _)| file.clone()) {
                        self.files.remove(&file);
                        return Ok(Arrival::File(file));
                    }
                    self.look_at_folders()?;
                }
            }
        }
    }

    fn heed(&mut self, event: &Event) {
        if event.need_rescan() {
            // Something happened, somewhere.
            self.folders.clone().keys().for_each(|folder| self.all_in(folder));
            self.look = Instant::now();
        }
        // A renaming that has two paths is told of each as well.
        let [path] = event.paths.as_slice() else { return };
        let is_whole = match event.kind {
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
        if is_whole && is_plugin {
            self.files.insert(path.clone(), Instant::now() + REST);
        } else if !is_whole {
            self.files.remove(path);
            self.lose(path);
        }
    }

    /// Takes note of the folders that have come and of those that are gone.
    fn look_at_folders(&mut self) -> io::Result<()> {
        self.look = Instant::now() + LOOK;
        for (folder, watched) in self.folders.clone() {
            let there = identity(&folder);
            if watched != there {
                self.lose(&folder);
            }
            if there.is_none() {
                continue;
            }
            // Again if it was watched: that ends when a file system is unmounted, even if it is
            // back, and when the same folder is lost under another path.
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) if watched != there => {
                    self.folders.insert(folder.clone(), there);
                    self.all_in(&folder);
                    self.news.push_back(Arrival::FolderBack(folder));
                }
                Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => {
                    return Err(io::Error::other(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// What was watched at `folder` is gone from there.
    fn lose(&mut self, folder: &Path) {
        if self.folders.get_mut(folder).and_then(Option::take).is_some() {
            // The system may have ended it already.
            let _ = self.watcher.unwatch(folder);
            self.files.retain(|file, _| file.parent() != Some(folder));
            self.news.push_back(Arrival::FolderGone(folder.to_path_buf()));
            self.look = Instant::now();
        }
    }

    /// All plug-ins in `folder` have arrived.
    fn all_in(&mut self, folder: &Path) {
        let rest = Instant::now() + REST;
        self.files
            .extend(plugins_in(folder).unwrap_or_default().into_iter().map(|file| (file, rest)));
    }
}

/// Whether `file`, which was just created, is a link to one that is there: nobody will write to it
/// and close it.
fn is_link(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|about| about.is_symlink() || about.nlink() > 1)
}

fn identity(folder: &Path) -> Option<Identity> {
    let about = fs::metadata(folder).ok().filter(fs::Metadata::is_dir)?;
    Some((about.dev(), about.ino()))
}
