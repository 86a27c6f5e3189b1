//! The tree as a FUSE file system: lookups, listings, reads and writes, each answered by the
//! framework.

use crate::catch_panic;
use crate::handles::{Content, Handles, Listing};
use crate::inodes::{Inodes, ROOT, preferred_number};
use crate::serial_queues::SerialQueues;
use cma_framework::Attributes;
use cma_framework::attributes::{AttributeError, Entry, LONGEST_TEXT};
use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::process::{getegid, geteuid};
use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The time for which the kernel may cache entries and their attributes: none.
const TTL: Duration = Duration::ZERO;

/// The reported size of every attribute until it is read, as in sysfs. The true size is only known
/// after a read.
const PAGE: u64 = 4096;

/// The longest write that the kernel passes in one call. It splits longer ones, and each part could
/// be taken for a complete text. So a part must be longer than any attribute accepts; it may be
/// shorter than this by a page.
const LONGEST_PIECE: u32 = 128 << 10;
const _: () = assert!(LONGEST_PIECE as usize - 4096 > LONGEST_TEXT);

/// The longest name of a file.
const LONGEST_NAME: u32 = 255;

/// The tree. No lock is held while the framework answers, and calls of the framework that may block
/// are made by the serial queues.
#[derive(Debug)]
pub(crate) struct AttributeFs {
    attributes: Attributes,
    queues: SerialQueues,
    inodes: Mutex<Inodes>,
    handles: Arc<Mutex<Handles>>,
    /// The time stamp of every file.
    mounted: SystemTime,
}

impl AttributeFs {
    pub(crate) fn new(attributes: Attributes) -> io::Result<Self> {
        Ok(AttributeFs {
            attributes,
            queues: SerialQueues::start()?,
            inodes: Mutex::new(Inodes::new()),
            handles: Arc::default(),
            mounted: SystemTime::now(),
        })
    }

    fn path(&self, number: INodeNo) -> Result<String, Errno> {
        lock(&self.inodes).path(number.0).map(str::to_string).ok_or(Errno::ENOENT)
    }

    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        self.attributes.entry(path).map_err(|error| errno(&error))
    }

    fn file_attr(&self, number: u64, entry: &Entry) -> FileAttr {
        let (kind, size) = match entry {
            Entry::Folder => (FileType::Directory, 0),
            Entry::Link { target } => (FileType::Symlink, target.len() as u64),
            Entry::Attribute { .. } => (FileType::RegularFile, PAGE),
        };
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: 0,
            atime: self.mounted,
            mtime: self.mounted,
            ctime: self.mounted,
            crtime: self.mounted,
            kind,
            perm: entry.mode(),
            // Also for folders, where 1 means that the number of subfolders is unknown.
            nlink: 1,
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            rdev: 0,
            blksize: PAGE as u32,
            flags: 0,
        }
    }

    fn look_up(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let name = name.to_str().ok_or(Errno::ENOENT)?;
        let path = join(&self.path(parent)?, name);
        let entry = self.entry(&path)?;
        Ok(self.file_attr(lock(&self.inodes).look_up(&path), &entry))
    }

    fn attr(&self, number: INodeNo, handle: Option<FileHandle>) -> Result<FileAttr, Errno> {
        let attr = self.file_attr(number.0, &self.entry(&self.path(number)?)?);
        match handle.and_then(|handle| lock(&self.handles).get(handle.0)) {
            Some((_, Content::Text(text))) => Ok(FileAttr { size: text.len() as u64, ..attr }),
            _ => Ok(attr),
        }
    }

    /// Sizes and times may be set without effect, because programs set them before a write.
    fn set_attr(
        &self,
        number: INodeNo,
        owner_or_mode: bool,
        size: bool,
    ) -> Result<FileAttr, Errno> {
        if owner_or_mode {
            return Err(Errno::EPERM);
        }
        match self.entry(&self.path(number)?)? {
            Entry::Attribute { writable: false } if size => Err(Errno::EACCES),
            _ => self.attr(number, None),
        }
    }

    fn link(&self, number: INodeNo) -> Result<String, Errno> {
        match self.entry(&self.path(number)?)? {
            Entry::Link { target } => Ok(target),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open_file(
        &self,
        user: u32,
        number: INodeNo,
        access: OpenAccMode,
    ) -> Result<FileHandle, Errno> {
        let path = self.path(number)?;
        match self.entry(&path)? {
            Entry::Attribute { writable: false } if access != OpenAccMode::O_RDONLY => {
                Err(Errno::EACCES)
            }
            Entry::Attribute { .. } => lock(&self.handles).open(user, path).map(FileHandle),
            _ => Err(Errno::EISDIR),
        }
    }

    fn handle(&self, handle: FileHandle) -> Result<(Arc<str>, Content), Errno> {
        lock(&self.handles).get(handle.0).ok_or(Errno::EBADF)
    }

    /// The text of an open file for a read at `offset`. At the start it must be read from the
    /// attribute (`Ok(None)`); further on it is the text of the last read at the start.
    fn text(&self, handle: FileHandle, offset: u64) -> Result<(Arc<str>, Option<Arc<str>>), Errno> {
        match self.handle(handle)? {
            (path, Content::Text(text)) if offset > 0 => Ok((path, Some(text))),
            (_, Content::Evicted) if offset > 0 => Err(Errno::ENOMEM),
            (path, _) => Ok((path, None)),
        }
    }

    fn open_folder(&self, user: u32, number: INodeNo) -> Result<FileHandle, Errno> {
        let path = self.path(number)?;
        match self.entry(&path)? {
            Entry::Attribute { .. } => Err(Errno::ENOTDIR),
            _ => lock(&self.handles).open(user, path).map(FileHandle),
        }
    }

    /// The listing of an open folder. At the start it is read anew; further on it is the last one.
    fn folder(&self, handle: FileHandle, from: u64) -> Result<Arc<Listing>, Errno> {
        let path = match self.handle(handle)? {
            (_, Content::Listing(folder)) if from > 0 => return Ok(folder),
            (_, Content::Evicted) if from > 0 => return Err(Errno::ENOMEM),
            (path, _) => path,
        };
        let dots = [".", ".."].map(|name| (name.to_string(), Entry::Folder));
        let inner = self.attributes.list(&path).map_err(|error| errno(&error))?;
        let folder: Arc<Listing> = Arc::new(dots.into_iter().chain(inner).collect());
        lock(&self.handles).keep(handle.0, Content::Listing(folder.clone()));
        Ok(folder)
    }

    /// Adds the entries from number `from` on to `reply`, as many as fit.
    fn list(
        &self,
        number: INodeNo,
        handle: FileHandle,
        from: u64,
        reply: &mut ReplyDirectory,
    ) -> Result<(), Errno> {
        let path = self.path(number)?;
        let folder = self.folder(handle, from)?;
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        for (next, (name, entry)) in (1..).zip(folder.iter()).skip(from) {
            let inner = match name.as_str() {
                "." => number.0,
                ".." => path.rsplit_once('/').map_or(ROOT, |(parent, _)| preferred_number(parent)),
                name => preferred_number(&join(&path, name)),
            };
            let kind = match entry {
                Entry::Folder => FileType::Directory,
                Entry::Link { .. } => FileType::Symlink,
                Entry::Attribute { .. } => FileType::RegularFile,
            };
            if reply.add(INodeNo(inner), next, kind, name) {
                break;
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The path of `name` in `folder`.
fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") }
}

fn errno(error: &AttributeError) -> Errno {
    Errno::from_i32(error.errno() as i32)
}

/// Sends at most `size` bytes of `text` from `offset` on.
fn answer_with(reply: ReplyData, text: &str, offset: u64, size: u32) {
    let rest =
        text.as_bytes().get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
    reply.data(&rest[..rest.len().min(size as usize)]);
}

/// Answers `reply` with `result`.
macro_rules! answer {
    ($result:expr, $reply:ident, |$good:pat_param| $answer:expr) => {
        match catch_panic(|| $result) {
            Ok($good) => $answer,
            Err(errno) => $reply.error(errno),
        }
    };
}

impl Filesystem for AttributeFs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        config
            .set_max_write(LONGEST_PIECE)
            .map(drop)
            .map_err(|_| io::ErrorKind::InvalidInput.into())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(self.look_up(parent, name), reply, |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn forget(&self, _: &Request, number: INodeNo, lookups: u64) {
        lock(&self.inodes).forget(number.0, lookups);
    }

    fn getattr(&self, _: &Request, number: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        answer!(self.attr(number, handle), reply, |attr| reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let owner_or_mode = mode.or(uid).or(gid).is_some();
        answer!(self.set_attr(number, owner_or_mode, size.is_some()), reply, |attr| reply
            .attr(&TTL, &attr));
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        answer!(self.link(number), reply, |target| reply.data(target.as_bytes()));
    }

    fn open(&self, who: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        // Direct I/O: a read ends where the text ends, not at the reported size.
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        let opened = self.open_file(who.uid(), number, flags.acc_mode());
        answer!(opened, reply, |handle| reply.opened(handle, direct));
    }

    fn read(
        &self,
        who: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let path = match self.text(handle, offset) {
            Err(errno) => return reply.error(errno),
            Ok((_, Some(text))) => return answer_with(reply, &text, offset, size),
            Ok((path, None)) => path,
        };
        let (attributes, handles) = (self.attributes.clone(), self.handles.clone());
        let queue = format!("{path}, read");
        let read = move || {
            let text: Arc<str> = attributes.read(&path).map_err(|error| errno(&error))?.into();
            lock(&handles).keep(handle.0, Content::Text(text.clone()));
            Ok(text)
        };
        let answer = move |reply, text: Arc<str>| answer_with(reply, &text, offset, size);
        self.queues.submit(queue, who.uid(), reply, read, answer);
    }

    fn write(
        &self,
        who: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: u64,
        text: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let path = match self.handle(handle) {
            Err(errno) => return reply.error(errno),
            Ok((path, _)) => path,
        };
        let (attributes, text) = (self.attributes.clone(), text.to_vec());
        // The text came in one FUSE write, so its length fits into 32 bits.
        let (queue, length) = (format!("{path}, write"), text.len() as u32);
        let write = move || attributes.write(&path, &text).map_err(|error| errno(&error));
        let answer = move |reply: ReplyWrite, ()| reply.written(length);
        self.queues.submit(queue, who.uid(), reply, write, answer);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.handles).close(handle.0);
        reply.ok();
    }

    fn opendir(&self, who: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        answer!(self.open_folder(who.uid(), number), reply, |handle| reply
            .opened(handle, FopenFlags::empty()));
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        from: u64,
        mut reply: ReplyDirectory,
    ) {
        answer!(self.list(number, handle, from, &mut reply), reply, |()| reply.ok());
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        lock(&self.handles).close(handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, PAGE as u32, LONGEST_NAME, PAGE as u32);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        // After this answer the kernel sends no such request again.
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    // Files appear and vanish with the objects that they show; users can't create or remove them.
    // The errnos are those of sysfs.

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EACCES);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EPERM);
    }
}
