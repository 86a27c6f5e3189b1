//! The server's socket in the file system: created without a race, replaced when its server was
//! killed, removed when the server ends.

use crate::lasting::RecoverError;
use crate::log;
use crate::socket_options;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    FlockOperation, Gid, Mode, OFlags, Stat, chmod, chown, fchmod, flock, open, stat, unlink,
};
use rustix::io::{self, Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen,
    socket_with,
};
use rustix::process::getegid;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

/// The path of a server's socket, and its permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    path: PathBuf,
    mode: u32,
    group: Option<u32>,
}

/// Why a server can't listen at its address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another server listens there.
    #[error("a server is listening at {} already", path.display())]
    Live {
        /// The path.
        path: PathBuf,
    },
    /// A file that is no socket is there.
    #[error("{} exists and is no socket; remove it or choose another path", path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// A socket that was passed on is not what a server listens on.
    #[error(
        "the socket that was passed on is {found}; expected a listening Unix socket of type SEQPACKET with a path"
    )]
    Unsuitable {
        /// What it is.
        found: &'static str,
    },
    /// What a server before this one left can't be continued.
    #[error(transparent)]
    Recover(Box<RecoverError>),
    /// A system call failed.
    #[error("{}: {source}", path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// Its error.
        source: std::io::Error,
    },
}

impl Address {
    /// The default mode of the socket.
    pub const MODE: u32 = 0o666;

    /// An address at that path, open to every user. The [`Rules`](crate::Rules) decide what each
    /// user may have; the kernel reports the user, so a client can't forge it.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Address { path: path.as_ref().to_path_buf(), mode: Self::MODE, group: None }
    }

    /// The same path with these permissions. A client needs write permission to connect.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Address { mode, ..self }
    }

    /// The same path, whose socket belongs to the group of that number.
    #[must_use]
    pub fn group(self, gid: u32) -> Self {
        Address { group: Some(gid), ..self }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path from the root on.
    pub(crate) fn absolute_path(&self) -> PathBuf {
        std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    /// Starts listening.
    pub(crate) fn listen(&self) -> Result<Listener, BindError> {
        let path = self.absolute_path();
        let system = |errno: Errno| BindError::System { path: path.clone(), source: errno.into() };
        let address = SocketAddrUnix::new(&path).map_err(system)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(system)?;
        socket_options::refuse_descriptors(socket.as_fd());
        // `bind` copies the socket's permissions to the file: no client can connect before they are
        // set.
        fchmod(&socket, Mode::empty()).map_err(system)?;
        let _lock = self.lock_folder();
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                self.remove_stale(&path, &address)?;
                bind(&socket, &address)
            }
            bound => bound,
        }
        .map_err(system)?;
        let file = stat(&path).map_err(system)?;
        let listener =
            Listener { file: Some(file), socket, address: Address { path: path.clone(), ..*self } };
        listen(&listener.socket, BACKLOG).map_err(system)?;
        if let Some(gid) = self.group {
            chown(&path, None, Some(Gid::from_raw(gid))).map_err(system)?;
        }
        chmod(&path, Mode::from_raw_mode(self.mode)).map_err(system)?;
        Ok(listener)
    }

    /// Locks the folder, so that of two servers that start at the same moment neither takes the
    /// other's new socket for a stale one. Every user who may read the folder can lock it, so this
    /// gives up after a second and returns `None`.
    fn lock_folder(&self) -> Option<OwnedFd> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(folder.unwrap_or(Path::new(".")), flags, Mode::empty()).ok()?;
        let locked = (0..100).any(|_| {
            let locked = flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok();
            if !locked {
                std::thread::sleep(Duration::from_millis(10));
            }
            locked
        });
        locked.then_some(folder)
    }

    /// Removes the socket of a server that was killed.
    fn remove_stale(&self, path: &Path, address: &SocketAddrUnix) -> Result<(), BindError> {
        let system =
            |errno: Errno| BindError::System { path: path.to_path_buf(), source: errno.into() };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let probe =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(system)?;
        match connect(&probe, address) {
            // No server listens, or the file is no socket: the error is the same.
            Err(Errno::CONNREFUSED) if is_socket(path) => {
                log::emit(
                    || tracing::info!(path = %path.display(), "socket of a killed server removed"),
                );
                unlink(path).map_err(system)
            }
            Err(Errno::CONNREFUSED) => Err(BindError::Occupied { path: path.to_path_buf() }),
            Err(Errno::NOENT) => Ok(()),
            // Also with a full backlog, or a socket of another type, a server listens.
            Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => {
                Err(BindError::Live { path: path.to_path_buf() })
            }
            Err(error) => Err(system(error)),
        }
    }
}

/// The number of connections that can wait to be accepted.
const BACKLOG: i32 = 1024;

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// The group of a new file at that path.
fn default_group(path: &Path) -> u32 {
    let folder = path.parent().and_then(|folder| stat(folder).ok());
    let inherited =
        folder.filter(|folder| Mode::from_raw_mode(folder.st_mode).contains(Mode::SGID));
    inherited.map_or_else(|| getegid().as_raw(), |folder| folder.st_gid)
}

/// A listening socket, and its file, which is removed with it.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    address: Address,
    /// `None` if another process made it, which also removes it.
    file: Option<Stat>,
}

/// The path of a socket that was passed on, if a server can listen on it.
pub(crate) fn socket_path(socket: &OwnedFd) -> Result<PathBuf, BindError> {
    let unsuitable = |found| BindError::Unsuitable { found };
    let kind = socket_type(socket).map_err(|_| unsuitable("no socket"))?;
    let address = getsockname(socket).ok().and_then(|address| address.try_into().ok());
    let address: SocketAddrUnix = address.ok_or(unsuitable("no Unix socket"))?;
    if kind != SocketType::SEQPACKET {
        return Err(unsuitable("of another type"));
    }
    if !socket_acceptconn(socket).unwrap_or(false) {
        return Err(unsuitable("not listening"));
    }
    let path = address.path_bytes().map(|path| PathBuf::from(OsStr::from_bytes(path)));
    path.filter(|path| path.is_absolute()).ok_or(unsuitable("without a path"))
}

/// Listens on a socket that was passed on. Its file is left to the process that made it.
pub(crate) fn inherit(socket: OwnedFd, path: &Path) -> Result<Listener, BindError> {
    let system = |errno: Errno| BindError::System { path: path.into(), source: errno.into() };
    ioctl_fionbio(&socket, true).map_err(system)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(system)?;
    socket_options::refuse_descriptors(socket.as_fd());
    Ok(Listener { socket, address: Address::new(path), file: None })
}

/// Whether a stored socket is the one of that address, where a socket still is.
pub(crate) fn is_at(socket: &OwnedFd, address: &Address) -> bool {
    let path = address.absolute_path();
    socket_path(socket).is_ok_and(|found| found == path) && is_socket(&path)
}

impl Listener {
    pub(crate) fn path(&self) -> &Path {
        self.address.path()
    }

    /// Takes over the file that a server before this one has made: it gets the permissions of
    /// `address`, and is removed at the end.
    pub(crate) fn own_file(&mut self, address: &Address) -> io::Result<()> {
        let path = self.address.path();
        let file = stat(path)?;
        let gid = address.group.unwrap_or_else(|| default_group(path));
        if gid != file.st_gid {
            chown(path, None, Some(Gid::from_raw(gid)))?;
        }
        chmod(path, Mode::from_raw_mode(address.mode))?;
        self.file = Some(file);
        Ok(())
    }

    /// Removes the file, unless another file is at its path now. The lock keeps a starting server
    /// from replacing it meanwhile, and as long as the socket is open, no other file has its inode
    /// number.
    fn remove(&self) {
        let Some(file) = &self.file else { return };
        let _lock = self.address.lock_folder();
        let is_ours = |found: &Stat| (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino);
        if stat(self.address.path()).as_ref().is_ok_and(is_ours) {
            let _ = unlink(self.address.path());
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The file of a server's socket, for a host that ends the process without ending the server.
#[derive(Clone, Debug)]
pub struct SocketFile(pub(crate) Weak<Listener>);

impl SocketFile {
    /// Removes the file, if its server hasn't done that. A later server's file at the same path
    /// stays.
    pub fn remove(&self) {
        if let Some(listener) = self.0.upgrade() {
            listener.remove();
        }
    }
}
