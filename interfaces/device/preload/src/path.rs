//! Paths that lead to the device.

use crate::device_file::device_file;
use crate::server;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, CWD, OFlags, Stat, fcntl_getfl, fstat, readlinkat_raw, statat};
use std::ffi::{CStr, c_int};

const FOLDER: &CStr = c"/dev";
const NAME: &[u8] = b"cma";
const PATH: &[u8] = b"/dev/cma";

/// The most symbolic links that the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// The kernel's limit for a path, with its terminating zero.
const PATH_MAX: usize = 4096;

/// A path that leads to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DevicePath {
    /// Without a slash after it.
    Device,
    /// With a slash after it: the device is no folder, so this is an error.
    WithSlash,
}

/// Whether `path`, which the kernel has resolved from `folder`, leads to the device: also by
/// another path to `/dev`, and, if `follow`, through symbolic links.
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

/// A path up to its last slash, inclusive, and the rest.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|letter| *letter == b'/').map_or(0, |slash| slash + 1))
}

fn names_device(folder: BorrowedFd<'_>, path: &[u8]) -> bool {
    let (parent, name) = split(path);
    path == PATH || name == NAME && is_dev(folder, parent)
}

/// Whether the device is one of the folders in the path.
fn passes_device(folder: BorrowedFd<'_>, path: &[u8]) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, letter)| **letter == b'/');
    slashes
        .map(|(at, _)| &path[..at])
        .any(|before| before.ends_with(NAME) && names_device(folder, before))
}

/// Whether a folder is `/dev`. Not inlined, because its buffer takes much of the stack, of which
/// signal handlers have little.
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

/// The path with a terminating zero, if it fits.
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

/// Whether the symbolic link at `path` leads to the device, or to an open file of the device among
/// this process's descriptors.
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

/// Whether a link is one in `/proc/self/fd` to an open file of the device, which the kernel itself
/// can't open because it is a socket.
fn is_own_descriptor(folder: BorrowedFd<'_>, link: &CStr) -> bool {
    let number = split(link.to_bytes()).1;
    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<c_int>().ok());
    let Some(number) = number.filter(|number| *number >= 0) else { return false };
    // SAFETY: it is only passed to `fstat`, which fails if it isn't open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let (Ok(of_link), Ok(own)) = (statat(folder, link, AtFlags::empty()), fstat(descriptor)) else {
        return false;
    };
    (of_link.st_dev, of_link.st_ino) == (own.st_dev, own.st_ino)
        && (device_file(number).is_some() || stands_for_device(number, &own))
}

/// Whether a descriptor with the given `status` stands for the path of the device (`O_PATH`): it
/// was opened on the path of the server's socket.
pub(crate) fn stands_for_device(number: c_int, status: &Stat) -> bool {
    if number < 0 {
        return false;
    }
    // SAFETY: it is only passed to system calls, which fail if it isn't open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfl(descriptor).is_ok_and(|flags| flags.contains(OFlags::PATH))
        && statat(CWD, server::path(), AtFlags::empty())
            .is_ok_and(|server| (server.st_dev, server.st_ino) == (status.st_dev, status.st_ino))
}
