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

/// The service manager, which restarts the service. The unit needs `FileDescriptorStoreMax=` for as
/// many descriptors as are stored; more are dropped by the manager without an answer.
#[derive(Debug)]
pub struct ServiceManager {
    socket: OwnedFd,
    manager: SocketAddrUnix,
    /// The stored names, with the descriptors that came at the start and were not taken yet.
    stored: BTreeMap<Name, Option<OwnedFd>>,
}

impl ServiceManager {
    /// The manager that started this process, from `NOTIFY_SOCKET`, `LISTEN_PID`, `LISTEN_FDS` and
    /// `LISTEN_FDNAMES`. `None` without a manager.
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
        ServiceManager::new(manager, passed).map(Some)
    }

    /// A manager with that address, which has passed these descriptors.
    ///
    /// # Errors
    ///
    /// No socket can be made.
    pub fn new(
        manager: SocketAddrUnix,
        passed: impl IntoIterator<Item = (Name, OwnedFd)>,
    ) -> Result<Self, KeeperError> {
        let family = AddressFamily::UNIX;
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(system("socket"))?;
        let stored = passed.into_iter().map(|(name, descriptor)| (name, Some(descriptor)));
        Ok(ServiceManager { socket, manager, stored: stored.collect() })
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

impl Keeper for ServiceManager {
    fn put(&mut self, name: &Name, descriptor: impl AsFd) -> Result<(), KeeperError> {
        if self.stored.contains_key(name) {
            return Err(KeeperError::InUse { name: name.clone() });
        }
        // The manager would close a descriptor at its hang-up, before the server has seen it.
        let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        self.notify(&text, Some(descriptor.as_fd()))?;
        self.barrier()?;
        self.stored.insert(name.clone(), None);
        Ok(())
    }

    fn remove(&mut self, name: &Name) -> Result<(), KeeperError> {
        if !self.stored.contains_key(name) {
            return Err(KeeperError::Unknown { name: name.clone() });
        }
        self.notify(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None)?;
        self.barrier()?;
        self.stored.remove(name);
        Ok(())
    }

    fn take(&mut self) -> Result<Vec<(Name, OwnedFd)>, KeeperError> {
        let take = |(name, descriptor): (&Name, &mut Option<OwnedFd>)| {
            Some((name.clone(), descriptor.take()?))
        };
        Ok(self.stored.iter_mut().filter_map(take).collect())
    }
}
