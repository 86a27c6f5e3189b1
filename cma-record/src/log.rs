//! The log on the runner's side: the file, created empty, and read.

use cma_record_log::{
    BY_LIBRARY, BY_THREAD, Event, FILE_BYTES, FIXED_WORDS, MAGIC, SLOT_WORDS, SLOTS, Stamp, header,
    process_word, slot_word,
};
use std::fs::{File, Permissions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempDir};

/// The log of a recording. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Log {
    file: NamedTempFile,
    folder: TempDir,
}

impl Log {
    /// Creates one in the folder for temporary files.
    ///
    /// A process of the program may belong to another user. It opens the file by its name, which
    /// nobody else knows: it is random, and the folder can't be listed.
    pub(crate) fn new(at_least: u64, by_thread: bool) -> io::Result<Log> {
        let parent = std::env::temp_dir().canonicalize()?;
        let folder = tempfile::Builder::new()
            .prefix("cma-record-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir_in(parent)?;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        let mut file = tempfile::Builder::new().prefix("").rand_bytes(32).tempfile_in(&folder)?;
        file.as_file().set_permissions(Permissions::from_mode(0o666))?;
        let mut words = vec![0_u64; FIXED_WORDS];
        words[header::MAGIC] = MAGIC;
        words[header::AT_LEAST] = at_least;
        words[header::NAMING] = if by_thread { BY_THREAD } else { BY_LIBRARY };
        words[header::NAMESPACE] =
            std::fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino());
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        file.write_all(&bytes)?;
        file.as_file().set_len(FILE_BYTES as u64)?;
        Ok(Log { file, folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// A folder that lives as long as the log.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// Another handle to the file.
    pub(crate) fn words(&self) -> io::Result<Words> {
        Ok(Words(self.file.as_file().try_clone()?))
    }
}

/// The words of a log.
#[derive(Debug)]
pub(crate) struct Words(File);

impl Words {
    pub(crate) fn get(&self, index: usize) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 8 * index as u64)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// The process id of the process with that number, if it is known and of this namespace.
    pub(crate) fn process_id(&self, number: u32) -> io::Result<Option<ProcessId>> {
        let Some(index) = process_word(number) else { return Ok(Some(ProcessId::NotWatched)) };
        Ok(match self.get(index)? {
            0 => None,
            word => Some(i32::try_from(word).map_or(ProcessId::NotWatched, ProcessId::Known)),
        })
    }

    /// Ends the recording: processes that still run write nothing more.
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.0.write_all_at(&1_u64.to_ne_bytes(), 8 * header::STOPPED as u64)
    }

    /// The events in order, each with its slot.
    pub(crate) fn events(&mut self) -> io::Result<impl Iterator<Item = io::Result<Slot>>> {
        let slots = self.get(header::NEXT)?.min(SLOTS);
        self.0.seek(SeekFrom::Start(8 * slot_word(0) as u64))?;
        let mut reader = BufReader::with_capacity(1 << 18, &self.0);
        Ok((0..slots).filter_map(move |slot| {
            let mut bytes = [0; 8 * SLOT_WORDS];
            if let Err(error) = reader.read_exact(&mut bytes) {
                return Some(Err(error));
            }
            let mut words = [0; SLOT_WORDS];
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_ne_bytes(*bytes);
            }
            // A slot that was reserved and not written belongs to a process that was killed.
            let (stamp, event) = Event::decode(&words)?;
            Some(Ok(Slot { slot, stamp, event }))
        }))
    }
}

/// An event with its place in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) slot: u64,
    pub(crate) stamp: Stamp,
    pub(crate) event: Event,
}

/// What the log says about the id of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessId {
    /// The id in the runner's namespace.
    Known(i32),
    /// The process is in another namespace.
    NotWatched,
}
