//! Which paths are the device's.

use crate::device_file::device_file;
use crate::server;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, CWD, OFlags, Stat, fcntl_getfl, fstat, readlinkat_raw, statat};
use std::ffi::{CStr, c_int};

const FOLDER: &CStr = c"/dev";
const NAME: &[u8] = b"cma";
const PATH: &[u8] = b"/dev/cma";

/// How many symbolic links the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// The room that the kernel has for a path, with the zero that ends it.
const PATH_MAX: usize = 4096;

/// What a path is of the device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DevicePath {
    /// The device.
    Device,
    /// The device, as if it were a folder: it has a slash behind it.
    WithSlash,
}

/// What `path`, which the kernel has looked at from `folder`, is of the device's: also by another
/// way into `/dev`, and, if `follow`, by a symbolic link.
pub(crate) fn classify(folder: BorrowedFd<'_>, path: &CStr, follow: bool) -> Option<DevicePath> {
    let whole = path.to_bytes();
    let name = without_slashes(whole);
    let is_folder = name.len() < whole.len();
    if passes_device(folder, name) {
        return Some(DevicePath::WithSlash);
    }
    let is_device = names_device(folder, name)
        || (follow || is_folder) && is_link(folder, name) && leads_to_device(folder, name);
    is_device.then_some(if is_folder { DevicePath::WithSlash } else { DevicePath::Device })
}

fn without_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|letter| *letter != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

/// A path up to and with its last slash, and what is behind it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|letter| *letter == b'/').map_or(0, |slash| slash + 1))
}

fn names_device(folder: BorrowedFd<'_>, path: &[u8]) -> bool {
    let (parent, name) = split(path);
    path == PATH || name == NAME && is_dev(folder, parent)
}

/// Whether a part of the path that has to be a folder is the device.
fn passes_device(folder: BorrowedFd<'_>, path: &[u8]) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, letter)| **letter == b'/');
    slashes
        .map(|(at, _)| &path[..at])
        .any(|before| before.ends_with(NAME) && names_device(folder, before))
}

/// Whether a folder is `/dev`. Apart, because it takes much of the stack, and signal handlers have
/// little.
#[inline(never)]
fn is_dev(folder: BorrowedFd<'_>, parent: &[u8]) -> bool {
    let mut place = [0; PATH_MAX];
    let parent = if parent.is_empty() { Some(c".") } else { terminated(&mut place, parent) };
    let Some(parent) = parent else { return false };
    let is_same = |found: Stat, dev: Stat| (found.st_dev, found.st_ino) == (dev.st_dev, dev.st_ino);
    let found = statat(folder, parent, AtFlags::empty());
    found.is_ok_and(|found| {
        statat(CWD, FOLDER, AtFlags::empty()).is_ok_and(|dev| is_same(found, dev))
    })
}

/// A path with a zero behind it, if there is room for it.
fn terminated<'p>(place: &'p mut [u8; PATH_MAX], path: &[u8]) -> Option<&'p CStr> {
    place.get_mut(..path.len())?.copy_from_slice(path);
    *place.get_mut(path.len())? = 0;
    CStr::from_bytes_until_nul(place).ok()
}

#[inline(never)]
fn is_link(folder: BorrowedFd<'_>, path: &[u8]) -> bool {
    let mut place = [0; PATH_MAX];
    let path = terminated(&mut place, path);
    path.is_some_and(|path| readlinkat_raw(folder, path, &mut [0; 1]).is_ok())
}

/// Whether the symbolic link at `path` leads to the device, or to an open file of it among this
/// process' descriptors.
#[inline(never)]
fn leads_to_device(folder: BorrowedFd<'_>, path: &[u8]) -> bool {
    let (mut current, mut target) = ([0; PATH_MAX], [0; PATH_MAX]);
    let Some(mut length) = terminated(&mut current, path).map(CStr::count_bytes) else {
        return false;
    };
    for _ in 0..MOST_LINKS {
        let Ok(link) = CStr::from_bytes_until_nul(&current) else { return false };
        let Ok(read) = readlinkat_raw(folder, link, &mut target) else { return false };
        if is_own_descriptor(folder, link) {
            return true;
        }
        let target = without_slashes(&target[..read]);
        let start = if target.starts_with(b"/") { 0 } else { split(&current[..length]).0.len() };
        let Some(place) = current.get_mut(start..=start + target.len()) else { return false };
        place[..target.len()].copy_from_slice(target);
        place[target.len()] = 0;
        length = start + target.len();
        if names_device(folder, &current[..length]) {
            return true;
        }
    }
    false
}

/// Whether a link is one of `/proc/self/fd` that stands for an open file of the device. The kernel
/// opens no sockets.
fn is_own_descriptor(folder: BorrowedFd<'_>, link: &CStr) -> bool {
    let number = split(link.to_bytes()).1;
    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<c_int>().ok());
    let Some(number) = number.filter(|number| *number >= 0) else { return false };
    // SAFETY: it is only looked at; if it isn't open, so says the kernel.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let (Ok(of_link), Ok(own)) = (statat(folder, link, AtFlags::empty()), fstat(descriptor)) else {
        return false;
    };
    (of_link.st_dev, of_link.st_ino) == (own.st_dev, own.st_ino)
        && (device_file(number).is_some() || stands_for_device(number, &own))
}

/// Whether a descriptor, of which `status` was found, stands for the path of the device (`O_PATH`):
/// it is one for the path of the server's socket.
pub(crate) fn stands_for_device(number: c_int, status: &Stat) -> bool {
    if number < 0 {
        return false;
    }
    // SAFETY: it is only looked at; if it isn't open, so says the kernel.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfl(descriptor).is_ok_and(|flags| flags.contains(OFlags::PATH))
        && statat(CWD, server::path(), AtFlags::empty())
            .is_ok_and(|server| (server.st_dev, server.st_ino) == (status.st_dev, status.st_ino))
}
