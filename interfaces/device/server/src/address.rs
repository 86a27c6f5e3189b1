//! The server's place in the file system: taken without a window, cleared when its owner was
//! killed, given up when it ends.

use crate::log;
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, Stat, chmod, fchmod, flock, open, stat, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

/// Where a server is to be found, and which users the file system lets through to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    path: PathBuf,
    mode: u32,
}

/// Why a server could not take its address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody listens there.
    #[error("a server is listening at {} already", path.display())]
    Live {
        /// The path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is no socket; the server leaves it alone", path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
}

impl Address {
    /// The mode that a socket has unless it is given another.
    pub const MODE: u32 = 0o666;

    /// At that path, for every user: who may have what is for the [`Rules`](crate::Rules) to say,
    /// which know users and groups, and the kernel doesn't let a client lie about them.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Address { path: path.as_ref().to_path_buf(), mode: Self::MODE }
    }

    /// With these permissions. To connect takes the one to write.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Address { mode, ..self }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Listens here.
    pub(crate) fn listen(&self) -> Result<Listener, BindError> {
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let system = |errno: Errno| BindError::System { path: path.clone(), source: errno.into() };
        let address = SocketAddrUnix::new(&path).map_err(system)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(system)?;
        sys::refuse_descriptors(socket.as_fd());
        // The file will have the permissions that the socket has: nobody comes in before they are
        // as they should be.
        fchmod(&socket, Mode::empty()).map_err(system)?;
        let _turn = self.turn();
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                self.clear(&path, &address)?;
                bind(&socket, &address)
            }
            bound => bound,
        }
        .map_err(system)?;
        let place = stat(&path).map_err(system)?;
        let listener =
            Listener { place, socket, address: Address { path: path.clone(), mode: self.mode } };
        listen(&listener.socket, BACKLOG).map_err(system)?;
        chmod(&path, Mode::from_raw_mode(self.mode)).map_err(system)?;
        Ok(listener)
    }

    /// Two servers that start at the same moment must not each take the other's socket for one that
    /// was left behind: the folder is locked meanwhile. Anybody who may read it can do that, so
    /// nobody waits for long.
    fn turn(&self) -> Option<OwnedFd> {
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

    /// Takes away what a server left that was killed.
    fn clear(&self, path: &Path, address: &SocketAddrUnix) -> Result<(), BindError> {
        let system =
            |errno: Errno| BindError::System { path: path.to_path_buf(), source: errno.into() };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let probe =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(system)?;
        match connect(&probe, address) {
            // Nobody listens. A file that is no socket says the same.
            Err(Errno::CONNREFUSED) if is_socket(path) => {
                log::emit(
                    || tracing::info!(path = %path.display(), "socket of a killed server removed"),
                );
                unlink(path).map_err(system)
            }
            Err(Errno::CONNREFUSED) => Err(BindError::Occupied { path: path.to_path_buf() }),
            Err(Errno::NOENT) => Ok(()),
            // A full queue, or a socket of another type: somebody listens.
            Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => {
                Err(BindError::Live { path: path.to_path_buf() })
            }
            Err(error) => Err(system(error)),
        }
    }
}

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// A socket that listens, and its file, which goes with it.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    address: Address,
    place: Stat,
}

impl Listener {
    /// Takes the file away, unless another one has come to stand in its place. No server that
    /// starts puts one there meanwhile, and as long as the socket is open, no other file has its
    /// number.
    fn remove(&self) {
        let _turn = self.address.turn();
        let ours =
            |there: &Stat| (there.st_dev, there.st_ino) == (self.place.st_dev, self.place.st_ino);
        if stat(self.address.path()).as_ref().is_ok_and(ours) {
            let _ = unlink(self.address.path());
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The file of a server's socket, for who has to end the process while the server can't.
#[derive(Clone, Debug)]
pub struct SocketFile(pub(crate) Weak<Listener>);

impl SocketFile {
    /// Takes it away, if its server hasn't done that. The file of another server that has come to
    /// stand in its place stays.
    pub fn remove(&self) {
        if let Some(listener) = self.0.upgrade() {
            listener.remove();
        }
    }
}
