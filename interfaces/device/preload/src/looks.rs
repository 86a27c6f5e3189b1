//! Looking at the device before it is opened: a program that asks whether it is there, and what it is, finds a character device.
//!
//! As with opening, the file system is asked first. What is looked at through a descriptor is what the kernel says it is.

use crate::device;
use crate::exports::{is_device, last_errno, set_errno};
use crate::real::Real;
use rustix::fs::{AtFlags, CWD, statat};
use rustix::io::Errno;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::transmute;

/// Whether the kernel has found nothing at `path`, and it is the device's.
unsafe fn is_device_instead(folder: c_int, path: *const c_char) -> bool {
    // SAFETY: that is what the kernel says when it has read the path.
    last_errno() == Errno::NOENT && unsafe { is_device(folder, path) } && {
        let there = device::is_there();
        set_errno(Errno::NOENT);
        there
    }
}

/// What may be done with the device: all but running it.
fn may(mode: c_int) -> c_int {
    if mode & libc::X_OK == 0 {
        return 0;
    }
    set_errno(Errno::ACCESS);
    -1
}

/// The mode of the device's file.
const MODE: libc::mode_t = libc::S_IFCHR | 0o666;

/// Its number among the system's devices: of those without a major number of their own, one that nothing has.
const DEVICE: (c_uint, c_uint) = (10, 0x63_6d61);

/// The inode that no file in `/dev` has.
const INODE: u64 = 0x634d_6142;

/// What the device is.
fn stat_of_device() -> libc::stat {
    // SAFETY: all its fields are numbers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    stat.st_dev = statat(CWD, c"/dev", AtFlags::empty()).map_or(0, |dev| dev.st_dev);
    stat.st_ino = INODE;
    stat.st_mode = MODE;
    stat.st_nlink = 1;
    stat.st_rdev = libc::makedev(DEVICE.0, DEVICE.1);
    stat.st_blksize = 4096;
    stat
}

/// The same for who asks in this way.
fn statx_of_device() -> libc::statx {
    let stat = stat_of_device();
    // SAFETY: all its fields are numbers.
    let mut statx: libc::statx = unsafe { std::mem::zeroed() };
    statx.stx_mask = libc::STATX_BASIC_STATS;
    statx.stx_blksize = 4096;
    statx.stx_nlink = 1;
    statx.stx_mode = MODE as u16;
    statx.stx_ino = INODE;
    (statx.stx_rdev_major, statx.stx_rdev_minor) = DEVICE;
    (statx.stx_dev_major, statx.stx_dev_minor) = (libc::major(stat.st_dev), libc::minor(stat.st_dev));
    statx
}

/// Functions of the C library that look at a path: their own answer, or, where the file system has no such file and it is the device's, what
/// stands behind the arrow.
macro_rules! looks {
    ($($name:ident($($argument:ident: $type:ty),*) at ($folder:expr, $path:expr) => $answer:expr;)*) => {
        /// All of them.
        pub(crate) static REAL: [&Real; [$(stringify!($name)),*].len()] = [$({
            static REAL: Real = Real::new(match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => unreachable!(),
            });
            &REAL
        }),*];

        /// Their places in the list.
        #[allow(non_camel_case_types, reason = "the C library's names")]
        enum Place { $($name),* }

        $(
            #[unsafe(no_mangle)]
            unsafe extern "C-unwind" fn $name($($argument: $type),*) -> c_int {
                let found = REAL[Place::$name as usize].place();
                if found.is_null() {
                    set_errno(Errno::NOSYS);
                    return -1;
                }
                // SAFETY: the C library's function of this name is of this type.
                let real = unsafe { transmute::<*mut c_void, unsafe extern "C-unwind" fn($($type),*) -> c_int>(found) };
                // SAFETY: the caller's arguments, as they are.
                let answer = unsafe { real($($argument),*) };
                // SAFETY: the kernel has looked at the path.
                if answer != -1 || !unsafe { is_device_instead($folder, $path) } {
                    return answer;
                }
                $answer
            }
        )*
    };
}

/// Writes an answer where the caller wants it.
unsafe fn put<T>(place: *mut T, what: T) -> c_int {
    // SAFETY: the caller's place, which the C library would write to in the same way.
    unsafe { place.write(what) };
    0
}

const HERE: c_int = libc::AT_FDCWD;

looks! {
    access(path: *const c_char, mode: c_int) at (HERE, path) => may(mode);
    eaccess(path: *const c_char, mode: c_int) at (HERE, path) => may(mode);
    euidaccess(path: *const c_char, mode: c_int) at (HERE, path) => may(mode);
    faccessat(folder: c_int, path: *const c_char, mode: c_int, flags: c_int) at (folder, path) => may(mode);
    // SAFETY: the caller's place.
    stat(path: *const c_char, place: *mut libc::stat) at (HERE, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place, for the same structure where addresses have 64 bits.
    stat64(path: *const c_char, place: *mut libc::stat) at (HERE, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place.
    lstat(path: *const c_char, place: *mut libc::stat) at (HERE, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place.
    lstat64(path: *const c_char, place: *mut libc::stat) at (HERE, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place.
    fstatat(folder: c_int, path: *const c_char, place: *mut libc::stat, flags: c_int) at (folder, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place.
    fstatat64(folder: c_int, path: *const c_char, place: *mut libc::stat, flags: c_int) at (folder, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place.
    statx(folder: c_int, path: *const c_char, flags: c_int, mask: c_uint, place: *mut libc::statx) at (folder, path) => unsafe { put(place, statx_of_device()) };
    // What programs call that were built for an older C library.
    // SAFETY: the caller's place.
    __xstat(version: c_int, path: *const c_char, place: *mut libc::stat) at (HERE, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place.
    __xstat64(version: c_int, path: *const c_char, place: *mut libc::stat) at (HERE, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place.
    __lxstat(version: c_int, path: *const c_char, place: *mut libc::stat) at (HERE, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place.
    __lxstat64(version: c_int, path: *const c_char, place: *mut libc::stat) at (HERE, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place.
    __fxstatat(version: c_int, folder: c_int, path: *const c_char, place: *mut libc::stat, flags: c_int) at (folder, path) => unsafe { put(place, stat_of_device()) };
    // SAFETY: the caller's place.
    __fxstatat64(version: c_int, folder: c_int, path: *const c_char, place: *mut libc::stat, flags: c_int) at (folder, path) => unsafe { put(place, stat_of_device()) };
}
