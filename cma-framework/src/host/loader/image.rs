//! The one copy of a file that is checked, tried in another process, and run.
//!
//! The copy lies in memory and is sealed: nobody can change it, so what was checked and tried is
//! what runs, whatever becomes of the file meanwhile.

use super::{LoadFailure, elf};
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

/// The most bytes that are read of a file. Plug-ins with all their debug information have some ten
/// MiB.
pub(super) const LARGEST: u64 = 256 << 20;

/// The parts in which a file is copied and copies are compared.
const PART: usize = 64 << 10;

const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// A library that can be given to the dynamic linker: a sealed copy in memory, checked.
#[derive(Debug)]
pub(super) struct Image(File);

impl Image {
    /// Copies the file at `path` and checks the copy. What can be refused by its kind, its first
    /// bytes or its size is not copied.
    pub(super) fn read(path: &Path) -> Result<Image, LoadFailure> {
        // Before it is opened, because opening a device can have an effect.
        check_kind(fs::metadata(path).map_err(inaccessible)?.file_type())?;
        // Without waiting: a FIFO may have taken the file's place meanwhile, and waits for a
        // writer.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let file =
            File::options().read(true).custom_flags(flags).open(path).map_err(inaccessible)?;
        let about = file.metadata().map_err(inaccessible)?;
        check_kind(about.file_type())?;
        let mut start = [0; elf::START];
        let length = read_at_most(&file, &mut start, 0).map_err(inaccessible)?;
        elf::check_start(&start[..length])?;
        if about.len() > LARGEST {
            return Err(LoadFailure::TooLarge { limit: LARGEST });
        }
        let image = Image(sealed_copy(&file, path)?);
        elf::check(&image.content().map_err(LoadFailure::NoCopy)?)?;
        Ok(image)
    }

    /// The image whose sealed copy another process of this program has made, checked and sent.
    pub(super) fn received(copy: OwnedFd) -> io::Result<Image> {
        if fcntl_get_seals(&copy)?.contains(SEALS) {
            Ok(Image(copy.into()))
        } else {
            Err(io::Error::other("the copy of the plug-in is not sealed"))
        }
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
        let (mut ours, mut theirs) = ([0; PART], [0; PART]);
        for at in (0..size).step_by(PART) {
            let part = usize::try_from(size - at).map_or(PART, |left| left.min(PART));
            self.0.read_exact_at(&mut ours[..part], at)?;
            other.0.read_exact_at(&mut theirs[..part], at)?;
            if ours[..part] != theirs[..part] {
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

/// Refuses what is no regular file.
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

fn inaccessible(error: io::Error) -> LoadFailure {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => LoadFailure::Missing,
        _ if Errno::from_io_error(&error) == Some(Errno::LOOP) => LoadFailure::LinkLoop,
        _ => LoadFailure::Unreadable(error),
    }
}

/// A sealed copy of `file`, which the process's maps show under the name of `path`. Holes stay
/// holes.
fn sealed_copy(file: &File, path: &Path) -> Result<File, LoadFailure> {
    const LONGEST: usize = 249; // memfd_create(2)
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let name = &name[..name.len().min(LONGEST)];
    let copy = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|errno| LoadFailure::NoCopy(errno.into()))?;
    let copy = File::from(copy);
    let size = copy_content(file, &copy, LARGEST)?;
    let seal = || -> io::Result<()> {
        copy.set_len(size)?;
        Ok(fcntl_add_seals(&copy, SEALS)?)
    };
    seal().map_err(LoadFailure::NoCopy)?;
    Ok(copy)
}

/// Copies the content of `from`, which may grow meanwhile or not know its size, and answers with
/// the number of bytes, which is at most `most`.
fn copy_content(from: &File, to: &File, most: u64) -> Result<u64, LoadFailure> {
    let mut part = [0; PART];
    let mut at = 0;
    loop {
        let next = next_data(from, at).map_err(inaccessible)?;
        at = next.unwrap_or_else(|end| end);
        if at > most {
            return Err(LoadFailure::TooLarge { limit: most });
        } else if next.is_err() {
            return Ok(at);
        }
        let length = read_at_most(from, &mut part, at).map_err(inaccessible)?;
        to.write_all_at(&part[..length], at).map_err(LoadFailure::NoCopy)?;
        at += length as u64;
        if length < PART {
            return Ok(at);
        }
    }
}

/// Where the next data of `file` is at or behind `at`, as far as its file system knows; or `Err`
/// with the end of the file when only a hole follows.
fn next_data(file: &File, at: u64) -> io::Result<Result<u64, u64>> {
    match seek(file, SeekFrom::Data(at)) {
        // Some file systems and devices answer with a place before the one they were asked from.
        Ok(data) => Ok(Ok(data.max(at))),
        Err(Errno::NXIO) => Ok(Err(seek(file, SeekFrom::End(0))?.max(at))),
        Err(_) => Ok(Ok(at)),
    }
}

/// Fills `bytes` from `file`, unless the file ends before.
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
