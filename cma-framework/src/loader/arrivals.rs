//! Plug-ins that arrive in a folder while the program runs: which files, and when they are whole.
//!
//! A file that is being copied is not loaded half: the system tells when whoever writes it closes it. One that is renamed or
//! linked into the folder is whole at once. What is written to a file that has come to rest makes it arrive again.

use super::is_plugin_name;
use super::search::plugins_in;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long nothing may happen to a file before it is at rest: a build that writes it in several goes is done by then.
const REST: Duration = Duration::from_millis(200);

/// How often is looked for a folder that is not there.
const MISSED: Duration = Duration::from_secs(1);

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
    inotify: OwnedFd,
    folders: Vec<Folder>,
    /// The files that have arrived, each with the moment from which on it is at rest.
    files: BTreeMap<PathBuf, Instant>,
    /// Folders that came or went, still to be told.
    news: Vec<Arrival>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Nothing while it is not there.
    watch: Option<i32>,
}

/// What happened in a watched folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A file with the [name of a plug-in](is_plugin_name) is there and whole, new or with new content.
    File(PathBuf),
    /// The folder is gone: removed, renamed or unmounted. It is waited for.
    FolderGone(PathBuf),
    /// A folder that was not there is. The plug-ins in it follow.
    FolderBack(PathBuf),
}

impl Arrivals {
    /// Watches `folders` from now on. One that is not there is waited for.
    ///
    /// # Errors
    ///
    /// When the system gives no more watches.
    pub fn watch(folders: impl IntoIterator<Item = PathBuf>) -> io::Result<Arrivals> {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let folders = folders.into_iter().map(|path| Folder { path, watch: None }).collect();
        let mut arrivals = Arrivals { inotify, folders, files: BTreeMap::new(), news: Vec::new() };
        arrivals.look_for_folders()?;
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
            if !self.news.is_empty() {
                return Ok(self.news.remove(0));
            }
            let now = Instant::now();
            if let Some(file) =
                self.files.iter().find(|(_, rest)| **rest <= now).map(|(file, _)| file.clone())
            {
                self.files.remove(&file);
                return Ok(Arrival::File(file));
            }
            let missed = self.folders.iter().any(|folder| folder.watch.is_none()).then_some(now + MISSED);
            let until = self.files.values().copied().chain(missed).min();
            let left = until.map(|until| until.saturating_duration_since(now).try_into());
            let left = left.transpose().map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.read()?;
            self.look_for_folders()?;
        }
    }

    /// Takes in what the system has to tell.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events: Vec<(i32, ReadFlags, Option<OsString>)> = Vec::new();
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name =
                        event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_os_string());
                    events.push((event.wd(), event.events(), name));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for (watch, what, name) in events {
            self.heed(watch, what, name);
        }
        Ok(())
    }

    fn heed(&mut self, watch: i32, what: ReadFlags, name: Option<OsString>) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Something happened, somewhere.
            let folders: Vec<_> = self.folders.iter().map(|folder| folder.path.clone()).collect();
            folders.iter().for_each(|folder| self.all_in(folder));
            return;
        }
        let Some(folder) = self.folders.iter_mut().find(|folder| folder.watch == Some(watch)) else { return };
        if what.intersects(ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
            folder.watch = None;
            self.news.push(Arrival::FolderGone(folder.path.clone()));
            let gone = folder.path.clone();
            self.files.retain(|file, _| file.parent() != Some(&gone));
            // The system may have ended it already.
            let _ = remove_watch(&self.inotify, watch);
            return;
        }
        let Some(name) = name.filter(|name| is_plugin_name(name)) else { return };
        let file = folder.path.join(name);
        let is_whole = what.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO)
            || what.contains(ReadFlags::CREATE) && is_link(&file);
        if is_whole {
            self.files.insert(file, Instant::now() + REST);
        } else {
            // It is being written, or gone.
            self.files.remove(&file);
        }
    }

    /// Begins to watch the folders that have come.
    fn look_for_folders(&mut self) -> io::Result<()> {
        let events = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut come = Vec::new();
        for folder in self.folders.iter_mut().filter(|folder| folder.watch.is_none()) {
            match add_watch(&self.inotify, &folder.path, events) {
                Ok(watch) => {
                    folder.watch = Some(watch);
                    come.push(folder.path.clone());
                }
                Err(error @ (Errno::NOSPC | Errno::NOMEM)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        for folder in come {
            self.all_in(&folder);
            self.news.push(Arrival::FolderBack(folder));
        }
        Ok(())
    }

    /// All plug-ins in `folder` have arrived.
    fn all_in(&mut self, folder: &Path) {
        let rest = Instant::now() + REST;
        self.files.extend(plugins_in(folder).unwrap_or_default().into_iter().map(|file| (file, rest)));
    }
}

/// Whether `file`, which was just created, is a link to one that is there: nobody will write to it and close it.
fn is_link(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|about| about.is_symlink() || about.nlink() > 1)
}
