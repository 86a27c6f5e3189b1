//! The server's side of the keeper's process.

use crate::connections::Connections;
use crate::name::Name;
use crate::store::socket_pair;
use crate::supervisor::ROOM;
use crate::wire::{Message, Part, ReceiveError};
use crate::{Keeper, KeeperError, system};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use std::env;
use std::io::stdin;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The keeper's process, which started this one.
#[derive(Debug)]
pub struct KeeperProcess {
    socket: OwnedFd,
    room: Option<usize>,
}

impl KeeperProcess {
    /// The keeper at the other end of `socket`.
    pub fn new(socket: OwnedFd) -> Self {
        KeeperProcess { socket, room: None }
    }

    /// The keeper that started this process: its socket is standard input. `None` when standard
    /// input is something else.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn from_stdin() -> Result<Option<Self>, KeeperError> {
        let stdin = stdin();
        let is_socket = fstat(&stdin)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket);
        if !is_socket || socket_type(&stdin) != Ok(SocketType::SEQPACKET) {
            return Ok(None);
        }
        let socket = rustix::io::fcntl_dupfd_cloexec(&stdin, 3).map_err(system("fcntl"))?;
        let room = env::var(ROOM).ok().and_then(|room| room.parse().ok());
        Ok(Some(KeeperProcess { socket, room }))
    }

    /// Makes the keeper accept connections at the listening socket that is stored under that name.
    /// It stores each as `connection-N`, and sends it to this server; see [`Connections`]. It reads
    /// nothing from the clients.
    ///
    /// It begins with this call, and it stops when the server ends, or closes the [`Connections`]:
    /// then clients wait in the backlog of the listener. They also wait there while 200 to 300
    /// connections are accepted that the server has not received, and while the keeper has no
    /// descriptor left. So connections are in [`take`](Keeper::take) that this server's predecessor
    /// may not have seen, and none comes between `take` and this call.
    ///
    /// The keeper makes the listener and the connections non-blocking.
    ///
    /// # Errors
    ///
    /// [`KeeperError::Unknown`]: nothing is stored under that name. `EINVAL` or `ENOTSOCK`: it is
    /// no listening socket.
    pub fn accept_on(&mut self, listener: &Name) -> Result<Connections, KeeperError> {
        let (ours, theirs) =
            socket_pair().map_err(|error| system("socketpair")(errno_of(&error)))?;
        self.ask_about(listener, &Message::Accept(listener.clone(), theirs.as_fd()))?;
        Ok(Connections::new(ours))
    }

    /// Reports that this server serves. An upgrade to it is complete then.
    ///
    /// # Errors
    ///
    /// [`KeeperError`].
    pub fn ready(&self) -> Result<(), KeeperError> {
        self.send(&Message::Ready)
    }

    /// Reports why this server is about to end, in at most 1024 bytes; more is cut off.
    ///
    /// # Errors
    ///
    /// [`KeeperError`].
    pub fn failed(&self, why: &str) -> Result<(), KeeperError> {
        self.send(&Message::Failed(why.to_string()))
    }

    /// Asks for something about a stored descriptor.
    fn ask_about(&self, name: &Name, message: &Message<BorrowedFd<'_>>) -> Result<(), KeeperError> {
        match self.ask(message)? {
            None => Ok(()),
            Some(Errno::NOENT) => Err(KeeperError::Unknown { name: name.clone() }),
            Some(errno) => Err(KeeperError::Refused(errno)),
        }
    }

    fn ask(&self, message: &Message<BorrowedFd<'_>>) -> Result<Option<Errno>, KeeperError> {
        self.send(message)?;
        match self.receive()? {
            Message::Done => Ok(None),
            Message::Refused(errno) => Ok(Some(errno)),
            _ => Err(KeeperError::Ended),
        }
    }

    fn send(&self, message: &Message<BorrowedFd<'_>>) -> Result<(), KeeperError> {
        message.send(self.socket.as_fd()).map_err(|errno| match errno {
            Errno::PIPE | Errno::CONNRESET => KeeperError::Ended,
            errno => system("sendmsg")(errno),
        })
    }

    fn receive(&self) -> Result<Message<OwnedFd>, KeeperError> {
        Message::receive(self.socket.as_fd()).map_err(|error| match error {
            ReceiveError::DescriptorLost => system("recvmsg")(Errno::MFILE),
            ReceiveError::System(errno) if errno != Errno::CONNRESET => system("recvmsg")(errno),
            _ => KeeperError::Ended,
        })
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

impl Keeper for KeeperProcess {
    fn put(&mut self, name: &Name, descriptor: impl AsFd) -> Result<(), KeeperError> {
        match self.ask(&Message::Put(name.clone(), descriptor.as_fd()))? {
            None => Ok(()),
            Some(Errno::EXIST) => Err(KeeperError::InUse { name: name.clone() }),
            Some(errno) => Err(KeeperError::Refused(errno)),
        }
    }

    fn remove(&mut self, name: &Name) -> Result<(), KeeperError> {
        self.ask_about(name, &Message::Remove(name.clone()))
    }

    fn pin(&mut self, name: &Name, offset: u64, len: u64) -> Result<(), KeeperError> {
        self.ask_about(name, &Message::Pin(name.clone(), Part { offset, len }))
    }

    fn unpin(&mut self, name: &Name, offset: u64, len: u64) -> Result<(), KeeperError> {
        self.ask_about(name, &Message::Unpin(name.clone(), Part { offset, len }))
    }

    fn room(&self) -> Option<usize> {
        self.room
    }

    fn accept_on(&mut self, listener: &Name) -> Result<Option<Connections>, KeeperError> {
        KeeperProcess::accept_on(self, listener).map(Some)
    }

    fn take(&mut self) -> Result<Vec<(Name, OwnedFd)>, KeeperError> {
        self.send(&Message::Take)?;
        let mut taken = Vec::new();
        let mut lost = None;
        loop {
            match self.receive() {
                Ok(Message::Stored(name, descriptor)) => taken.push((name, descriptor)),
                Ok(Message::Done) => break,
                Ok(Message::Refused(errno)) => return Err(KeeperError::Refused(errno)),
                Ok(_) => return Err(KeeperError::Ended),
                // The other messages are received too, so that the next answer is the right one.
                Err(error @ KeeperError::System { errno: Errno::MFILE, .. }) => lost = Some(error),
                Err(error) => return Err(error),
            }
        }
        lost.map_or(Ok(taken), Err)
    }
}
