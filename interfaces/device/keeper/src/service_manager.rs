//! The descriptor store of systemd; `sd_notify(3)`, `sd_listen_fds(3)`.

use crate::name::Name;
use crate::{Keeper, KeeperError, system};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, IoSlice, retry_on_intr};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg_addr, socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::Timespec;
use std::collections::BTreeMap;
use std::env;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process;

/// The time within which the manager confirms.
const TIMEOUT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

const SPACE: usize = rustix::cmsg_space!(ScmRights(1));

/// The service manager, which restarts the service. It drops descriptors without an answer when it
/// has as many as `FileDescriptorStoreMax=` of the unit says, so this counts them.
#[derive(Debug)]
pub struct ServiceManager {
    socket: OwnedFd,
    manager: SocketAddrUnix,
    /// The stored names, with the descriptors that came at the start and were not taken yet. Those
    /// that the manager has passed for another reason may have a name in common.
    stored: BTreeMap<Name, Vec<OwnedFd>>,
    /// The most descriptors.
    room: usize,
    /// The bytes of all stored names, each with its separator.
    bytes: usize,
}

/// The most bytes of the names. The manager starts the next server with all of them in
/// `LISTEN_FDNAMES`, and Linux executes no program with a longer variable (`MAX_ARG_STRLEN`). The
/// name of the variable and that of a barrier take some.
const MAX_BYTES: usize = (128 << 10) - 64;

impl ServiceManager {
    /// The manager that started this process, from `NOTIFY_SOCKET`, `LISTEN_PID`, `LISTEN_FDS` and
    /// `LISTEN_FDNAMES`. `FDSTORE` is the most descriptors that it stores: systemd sets it from
    /// version 254 on, and a unit can, as `Environment=FDSTORE=`. `None` without a manager, or
    /// when it stores none.
    ///
    /// # Errors
    ///
    /// A system call failed, or the address is none.
    ///
    /// # Safety
    ///
    /// The process has not used its descriptors from 3 on, as far as `LISTEN_FDS` counts them, and
    /// this is called once.
    pub unsafe fn from_environment() -> Result<Option<Self>, KeeperError> {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let room = env::var("FDSTORE").ok().and_then(|room| room.parse().ok()).unwrap_or(0);
        if room == 0 {
            return Ok(None);
        }
        let address = address.as_encoded_bytes();
        let manager = match address.split_first() {
            Some((b'@', name)) => SocketAddrUnix::new_abstract_name(name),
            _ => SocketAddrUnix::new(address),
        };
        let count = env::var("LISTEN_PID")
            .ok()
            .filter(|pid| *pid == process::id().to_string())
            .and_then(|_| env::var("LISTEN_FDS").ok()?.parse().ok())
            .unwrap_or(0);
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let passed = (3..).zip(names.split(':')).take(count).filter_map(|(number, name)| {
            // SAFETY: the manager has opened it for this process, and the caller guarantees that
            // nobody else has it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            // Descriptors start without close-on-exec.
            let _ = rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC);
            Some((Name::new(name).ok()?, descriptor))
        });
        let manager = manager.map_err(system("NOTIFY_SOCKET"))?;
        ServiceManager::new(manager, passed, room).map(Some)
    }

    /// A manager with that address, which has passed these descriptors, and stores `room`.
    ///
    /// # Errors
    ///
    /// No socket can be made.
    pub fn new(
        manager: SocketAddrUnix,
        passed: impl IntoIterator<Item = (Name, OwnedFd)>,
        room: usize,
    ) -> Result<Self, KeeperError> {
        let family = AddressFamily::UNIX;
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(system("socket"))?;
        let (mut stored, mut bytes) = (BTreeMap::<_, Vec<_>>::new(), 0);
        for (name, descriptor) in passed {
            bytes += bytes_of(&name);
            stored.entry(name).or_default().push(descriptor);
        }
        Ok(ServiceManager { socket, manager, stored, room, bytes })
    }

    fn notify(&self, text: &str, descriptor: Option<BorrowedFd<'_>>) -> Result<(), KeeperError> {
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        let sent = retry_on_intr(|| {
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                beside.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            let bytes = [IoSlice::new(text.as_bytes())];
            let flags = SendFlags::NOSIGNAL;
            sendmsg_addr(&self.socket, &self.manager, &bytes, &mut beside, flags)
        });
        sent.map(drop).map_err(|errno| match errno {
            Errno::CONNREFUSED | Errno::NOENT => KeeperError::Ended,
            errno => system("sendmsg")(errno),
        })
    }

    /// Waits until the manager has read all messages: it closes the descriptor of a barrier then.
    fn barrier(&self) -> Result<(), KeeperError> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(system("pipe"))?;
        self.notify("BARRIER=1", Some(theirs.as_fd()))?;
        drop(theirs);
        // Without events of interest, the end of the pipe is reported.
        let mut polled = [PollFd::new(&ours, PollFlags::empty())];
        match retry_on_intr(|| poll(&mut polled, Some(&TIMEOUT))).map_err(system("poll"))? {
            0 => Err(KeeperError::Refused(Errno::TIMEDOUT)),
            _ => Ok(()),
        }
    }
}

/// The bytes of a long name of a connection or a chunk.
const BYTES_OF_LONG_NAME: usize = 20;

/// The bytes that a name takes in `LISTEN_FDNAMES`.
fn bytes_of(name: &Name) -> usize {
    name.as_str().len() + 1
}

impl Keeper for ServiceManager {
    fn put(&mut self, name: &Name, descriptor: impl AsFd) -> Result<(), KeeperError> {
        if self.stored.contains_key(name) {
            return Err(KeeperError::InUse { name: name.clone() });
        }
        let (held, bytes) = (self.stored.len(), self.bytes + bytes_of(name));
        if held >= self.room {
            return Err(KeeperError::Full { held, bytes: None });
        }
        if bytes > MAX_BYTES {
            return Err(KeeperError::Full { held, bytes: Some(MAX_BYTES) });
        }
        // The manager would close a descriptor at its hang-up, before the server has seen it.
        let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        self.notify(&text, Some(descriptor.as_fd()))?;
        self.barrier()?;
        self.stored.insert(name.clone(), Vec::new());
        self.bytes = bytes;
        Ok(())
    }

    fn remove(&mut self, name: &Name) -> Result<(), KeeperError> {
        if !self.stored.contains_key(name) {
            return Err(KeeperError::Unknown { name: name.clone() });
        }
        self.notify(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None)?;
        self.barrier()?;
        self.stored.remove(name);
        self.bytes -= bytes_of(name);
        Ok(())
    }

    fn take(&mut self) -> Result<Vec<(Name, OwnedFd)>, KeeperError> {
        let take = |(name, descriptors): (&Name, &mut Vec<OwnedFd>)| {
            let name = name.clone();
            std::mem::take(descriptors)
                .into_iter()
                .map(move |descriptor| (name.clone(), descriptor))
        };
        Ok(self.stored.iter_mut().flat_map(take).collect())
    }

    fn room(&self) -> Option<usize> {
        Some(self.room.min(MAX_BYTES / BYTES_OF_LONG_NAME))
    }
}
