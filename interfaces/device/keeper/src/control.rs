//! Requests for an upgrade: a socket in the file system, for root and the keeper's user.

use rustix::fs::{Mode, fchmod, stat, unlink};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    bind, connect, listen, recv, send, socket_with,
};
use rustix::process::geteuid;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest question in bytes: the path of a program, and arguments.
const MAX_QUESTION: usize = 8192;

/// The longest answer in bytes.
const MAX_ANSWER: usize = 8192;

/// The socket of a keeper that is asked for upgrades. Its file is removed with it.
#[derive(Debug)]
pub(crate) struct Control {
    listener: OwnedFd,
    path: PathBuf,
    /// Device and inode of its file.
    file: (u64, u64),
    /// Who has connected and not asked yet. Others wait in the backlog.
    asker: Option<Asker>,
}

/// What it is asked for.
#[derive(Debug)]
pub(crate) struct Request {
    /// The program; `None` for the one at the same path.
    pub(crate) program: Option<PathBuf>,
    /// Further arguments for its first start.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) asker: Asker,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) struct Asker(OwnedFd);

impl Asker {
    /// Sends the answer. One who has left or doesn't read it doesn't get it.
    pub(crate) fn answer(self, result: &Result<String, String>) {
        let (kind, text) = match result {
            Ok(text) => (b'+', text),
            Err(text) => (b'-', text),
        };
        let length = text.floor_char_boundary(MAX_ANSWER - 1);
        let answer = [&[kind], &text.as_bytes()[..length]].concat();
        let _ = send(&self.0, &answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

impl Control {
    /// Listens at `path`. The socket of a keeper that was killed is replaced.
    pub(crate) fn listen(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let listener = socket()?;
        rustix::io::ioctl_fionbio(&listener, true)?;
        // `bind` copies the permissions to the file.
        fchmod(&listener, Mode::RUSR | Mode::WUSR)?;
        if let Err(errno) = bind(&listener, &address) {
            if errno != Errno::ADDRINUSE {
                return Err(errno.into());
            }
            let taken = |why| io::Error::new(io::ErrorKind::AddrInUse, why);
            match connect(socket()?, &address) {
                Err(Errno::CONNREFUSED) if is_socket(path) => {}
                Err(Errno::CONNREFUSED) => return Err(taken("it exists and is no socket")),
                _ => return Err(taken("a keeper listens there already")),
            }
            unlink(path)?;
            bind(&listener, &address)?;
        }
        let found = stat(path)?;
        listen(&listener, 8)?;
        let file = (found.st_dev, found.st_ino);
        Ok(Control { listener, path: path.to_path_buf(), file, asker: None })
    }

    /// Takes who asks, or what is asked. It doesn't block.
    pub(crate) fn proceed(&mut self) -> Option<Request> {
        let Some(asker) = &self.asker else {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let asker = Asker(accept_with(&self.listener, flags).ok()?);
            // The mode of the file may have been changed.
            let uid = socket_peercred(&asker.0).ok()?.uid;
            if uid.is_root() || uid == geteuid() {
                self.asker = Some(asker);
            } else {
                let text = "only root and the user of the keeper may ask it for an upgrade";
                asker.answer(&Err(text.to_string()));
            }
            return None;
        };
        let mut bytes = [0; MAX_QUESTION];
        let received = retry_on_intr(|| recv(&asker.0, &mut bytes, RecvFlags::empty()));
        if received == Err(Errno::AGAIN) {
            return None;
        }
        let asker = self.asker.take()?;
        match received.map(|(length, _)| bytes[..length].split_first()) {
            Ok(Some((b'U', question))) => {
                let mut parts = question.split(|byte| *byte == 0).map(OsStr::from_bytes);
                let program = parts.next().filter(|path| !path.is_empty()).map(PathBuf::from);
                let arguments = parts.map(OsStr::to_os_string).collect();
                Some(Request { program, arguments, asker })
            }
            _ => None,
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.asker.as_ref().map_or(self.listener.as_fd(), |asker| asker.0.as_fd())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let found = stat(&self.path).map(|found| (found.st_dev, found.st_ino));
        if found == Ok(self.file) {
            let _ = unlink(&self.path);
        }
    }
}

fn socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// Why a server was not upgraded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// Nobody listens there.
    #[error("no keeper listens at {}", path.display())]
    NoKeeper {
        /// The path.
        path: PathBuf,
    },
    /// The keeper did not do it. The server is the old one.
    #[error("{0}")]
    Refused(String),
    /// The keeper ended before it answered.
    #[error("the keeper ended before it answered")]
    Ended,
    /// A system call failed.
    #[error("{}: {source}", path.display())]
    System {
        /// The keeper's socket.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// Asks the keeper that listens at `control` to restart its server, with the program that is now
/// at the server's path, or with another one. Its first start gets `arguments` beside those that
/// every server gets. Returns, when the new server is ready, what the keeper says. If that fails,
/// the keeper starts the old program again, without them.
///
/// # Errors
///
/// [`UpgradeError`].
pub fn upgrade(
    control: &Path,
    program: Option<&Path>,
    arguments: &[OsString],
) -> Result<String, UpgradeError> {
    let system = |errno: Errno| match errno {
        Errno::NOENT | Errno::CONNREFUSED => UpgradeError::NoKeeper { path: control.into() },
        Errno::PIPE | Errno::CONNRESET => UpgradeError::Ended,
        errno => UpgradeError::System { path: control.into(), source: errno.into() },
    };
    let address = SocketAddrUnix::new(control).map_err(system)?;
    let socket = socket().map_err(system)?;
    connect(&socket, &address).map_err(system)?;
    let mut question = vec![b'U'];
    question.extend(program.map_or(&[][..], |program| program.as_os_str().as_bytes()));
    for argument in arguments {
        question.push(0);
        question.extend(argument.as_bytes());
    }
    if question.len() > MAX_QUESTION {
        return Err(system(Errno::TOOBIG));
    }
    let asked = send(&socket, &question, SendFlags::NOSIGNAL);
    let mut bytes = vec![0; MAX_ANSWER];
    // A keeper that permits nothing may have answered before it was asked. Then the first error is
    // that it has not read the question, and the answer comes after it.
    let mut receive = || retry_on_intr(|| recv(&socket, &mut bytes[..], RecvFlags::empty()));
    let received = match receive() {
        Err(Errno::CONNRESET) => receive(),
        received => received,
    };
    let (length, _) = received.map_err(|errno| system(asked.err().unwrap_or(errno)))?;
    let (kind, text) = bytes[..length].split_first().ok_or(UpgradeError::Ended)?;
    let text = String::from_utf8_lossy(text).into_owned();
    match kind {
        b'+' => Ok(text),
        _ => Err(UpgradeError::Refused(text)),
    }
}
