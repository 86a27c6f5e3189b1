//! The sealed copy of a file that is checked, tried in another process, and run.
//!
//! The copy is a memory file with seals against changes. So what was checked and tried is what
//! runs, even if the file has changed meanwhile.

use super::{LoadFailure, PluginInterface, elf};
use memmap2::Mmap;
use rustix::fs::{
    MemfdFlags, OFlags, SealFlags, SeekFrom, fcntl_add_seals, fcntl_get_seals, memfd_create, seek,
};
use rustix::io::Errno;
use std::fs::{self, File, FileType};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The size limit of a file in bytes. Plug-ins with full debug information have about 10 MiB.
pub(super) const SIZE_LIMIT: u64 = 256 << 20;

/// The buffer size for copying a file and for comparing copies, in bytes.
const BLOCK: usize = 64 << 10;

const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// A checked, sealed copy of a library, which the dynamic linker can open.
#[derive(Debug)]
pub(super) struct Image(File);

impl Image {
    /// Copies the file at `path` and checks the copy. A file of a wrong kind, with a wrong ELF
    /// header or over the size limit is refused before it is copied.
    pub(super) fn read(path: &Path) -> Result<Image, LoadFailure> {
        // Before the open, because opening a device can have side effects.
        check_kind(fs::metadata(path).map_err(access_failure)?.file_type())?;
        // `NONBLOCK`: opening a FIFO that has replaced the file meanwhile would block until a
        // writer opens it.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let file =
            File::options().read(true).custom_flags(flags).open(path).map_err(access_failure)?;
        let metadata = file.metadata().map_err(access_failure)?;
        check_kind(metadata.file_type())?;
        let mut start = [0; elf::START];
        let length = read_at_most(&file, &mut start, 0).map_err(access_failure)?;
        elf::check_start(&start[..length])?;
        if metadata.len() > SIZE_LIMIT {
            return Err(LoadFailure::TooLarge { limit: SIZE_LIMIT });
        }
        let image = Image(sealed_copy(&file, path)?);
        elf::check(&image.content().map_err(LoadFailure::NoCopy)?)?;
        Ok(image)
    }

    /// The image that another process of this program has made, checked and sent as a descriptor.
    pub(super) fn received(copy: OwnedFd) -> io::Result<Image> {
        if fcntl_get_seals(&copy)?.contains(SEALS) {
            Ok(Image(copy.into()))
        } else {
            Err(io::Error::other("the copy of the plug-in is not sealed"))
        }
    }

    /// The interface that it exports.
    pub(super) fn interface(&self) -> io::Result<PluginInterface> {
        elf::check(&self.content()?).map_err(io::Error::other)
    }

    /// The same image, through another descriptor.
    pub(super) fn try_clone(&self) -> io::Result<Image> {
        self.0.try_clone().map(Image)
    }

    /// The sealed copy.
    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Whether both have the same content.
    pub(super) fn is_same(&self, other: &Image) -> io::Result<bool> {
        let size = self.0.metadata()?.len();
        if size != other.0.metadata()?.len() {
            return Ok(false);
        }
        let (mut ours, mut theirs) = ([0; BLOCK], [0; BLOCK]);
        for at in (0..size).step_by(BLOCK) {
            let length = usize::try_from(size - at).map_or(BLOCK, |left| left.min(BLOCK));
            self.0.read_exact_at(&mut ours[..length], at)?;
            other.0.read_exact_at(&mut theirs[..length], at)?;
            if ours[..length] != theirs[..length] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn content(&self) -> io::Result<Mmap> {
        // SAFETY: the file is sealed against writing and shrinking, so the mapped bytes never
        // change and never go away.
        unsafe { Mmap::map(&self.0) }
    }
}

/// Refuses files that are not regular.
fn check_kind(kind: FileType) -> Result<(), LoadFailure> {
    if kind.is_file() {
        Ok(())
    } else if kind.is_dir() {
        Err(LoadFailure::Folder)
    } else if kind.is_fifo() {
        Err(LoadFailure::NotRegular { what: "FIFO" })
    } else if kind.is_socket() {
        Err(LoadFailure::NotRegular { what: "socket" })
    } else {
        Err(LoadFailure::NotRegular { what: "device" })
    }
}

fn access_failure(error: io::Error) -> LoadFailure {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => LoadFailure::Missing,
        _ if Errno::from_io_error(&error) == Some(Errno::LOOP) => LoadFailure::LinkLoop,
        _ => LoadFailure::Unreadable(error),
    }
}

/// A sealed copy of `file`, which `/proc/PID/maps` shows with the file name of `path`. Holes remain
/// holes.
fn sealed_copy(file: &File, path: &Path) -> Result<File, LoadFailure> {
    const LONGEST: usize = 249; // memfd_create(2)
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let name = &name[..name.len().min(LONGEST)];
    let copy = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|errno| LoadFailure::NoCopy(errno.into()))?;
    let copy = File::from(copy);
    let size = copy_content(file, &copy, SIZE_LIMIT)?;
    let seal = || -> io::Result<()> {
        copy.set_len(size)?;
        Ok(fcntl_add_seals(&copy, SEALS)?)
    };
    seal().map_err(LoadFailure::NoCopy)?;
    Ok(copy)
}

/// Copies the content of `from`, which may grow meanwhile or have no known size. Returns the number
/// of bytes, which is at most `limit`.
fn copy_content(from: &File, to: &File, limit: u64) -> Result<u64, LoadFailure> {
    let mut block = [0; BLOCK];
    let mut at = 0;
    loop {
        let next = next_data(from, at).map_err(access_failure)?;
        at = next.unwrap_or_else(|end| end);
        if at > limit {
            return Err(LoadFailure::TooLarge { limit });
        } else if next.is_err() {
            return Ok(at);
        }
        let length = read_at_most(from, &mut block, at).map_err(access_failure)?;
        to.write_all_at(&block[..length], at).map_err(LoadFailure::NoCopy)?;
        at += length as u64;
        if length < BLOCK {
            return Ok(at);
        }
    }
}

/// The offset of the next data of `file` at or after `at`, as far as its file system knows, or
/// `Err` with the end of the file if only a hole follows.
fn next_data(file: &File, at: u64) -> io::Result<Result<u64, u64>> {
    match seek(file, SeekFrom::Data(at)) {
        // Some file systems and devices return an offset before `at`.
        Ok(data) => Ok(Ok(data.max(at))),
        Err(Errno::NXIO) => Ok(Err(seek(file, SeekFrom::End(0))?.max(at))),
        Err(_) => Ok(Ok(at)),
    }
}

/// Reads from `file` at `at` until `bytes` are full or the file ends. Returns the bytes read.
fn read_at_most(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], at + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
