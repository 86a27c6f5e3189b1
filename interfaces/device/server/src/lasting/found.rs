//! What a keeper has at the start of a server.

use super::error::RecoverError;
use super::keeper::AnyKeeper;
use super::names::Stored;
use super::records::{JournalWords, MapFile};
use cma_framework::{DmaAddr, PageRange};
use cma_journal::{Contents, FileError, Mapped, ReadError, Record};
use cma_keeper::{Keeper, Name};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::collections::BTreeMap;
use std::fmt;

/// What a server before this one left with its keeper, or nothing at a first start. A
/// [`Server`](crate::Server) [continues](crate::Server::bind_lasting) it, and is continued by the
/// next one.
///
/// ```no_run
/// use cma_device_server::{Address, Discard, Lasting, Limits, Rules, Server, Shutdown};
/// use cma_framework::Cma;
/// use cma_keeper::KeeperProcess;
///
/// let keeper = KeeperProcess::from_stdin()?.ok_or("no keeper has started this process")?;
/// let lasting = Lasting::take(keeper)?;
/// let cma = Cma::new();
/// // ... regions at the same places, and allocators
/// let (address, limits) = (Address::new("/run/cma.sock"), Limits::default());
/// let rules = Rules::parse("*=*")?;
/// let server =
///     Server::bind_lasting(&address, cma, limits, rules, lasting, &Discard::default())?;
/// server.run(&Shutdown::new()?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lasting {
    pub(super) keeper: Box<dyn AnyKeeper>,
    pub(super) map: MapFile,
    /// The newest journal that was completed, if there is any.
    pub(super) journal: Option<FoundJournal>,
    /// All descriptors of servers.
    pub(super) stored: BTreeMap<Stored, OwnedFd>,
    /// Descriptors of these names belong to others.
    others: Vec<(Name, OwnedFd)>,
}

pub(super) struct FoundJournal {
    pub(super) number: u32,
    pub(super) words: JournalWords,
    pub(super) read: Result<Contents, ReadError>,
}

/// A region that a server before this one had.
#[derive(Debug)]
#[non_exhaustive]
pub struct RecordedRegion {
    /// Its name; `None` for a private region.
    pub name: Option<String>,
    /// Its place.
    pub range: PageRange,
    /// The kind of its memory, such as `memfd`; `None` for a region that is addresses alone.
    pub memory: Option<String>,
    /// The files of its own, in their order; none where each chunk has its memory.
    pub files: Vec<OwnedFd>,
}

/// What a server may lose at its start. By default it stops instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discard {
    /// Records that are damaged.
    pub damaged: bool,
    /// Names of regions, or ranges of private ones, whose chunks end if the configuration doesn't
    /// have the region.
    pub regions: Vec<String>,
}

impl RecordedRegion {
    /// Its name, or the range of a private region: what [`Discard`] names it by.
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.range.to_string())
    }
}

impl Lasting {
    /// Takes what the keeper has. Nothing is changed.
    ///
    /// # Errors
    ///
    /// [`RecoverError`]: the keeper doesn't answer, or a journal can't be mapped.
    pub fn take(keeper: impl Keeper + Send + 'static) -> Result<Self, RecoverError> {
        Self::take_with(keeper, |file| Ok(Box::new(Mapped::new(file)?)))
    }

    /// The same with another memory than a mapping for the file of a journal. Tests count its
    /// stores.
    ///
    /// # Errors
    ///
    /// As of [`take`](Self::take).
    pub fn take_with(
        keeper: impl Keeper + Send + 'static,
        map: impl Fn(BorrowedFd<'_>) -> Result<JournalWords, FileError> + Send + 'static,
    ) -> Result<Self, RecoverError> {
        let (mut keeper, map) = (Box::new(keeper), Box::new(map));
        let (mut stored, mut others) = (BTreeMap::new(), Vec::new());
        for (name, descriptor) in AnyKeeper::take(&mut *keeper)? {
            match Stored::of(&name) {
                Some(kind) => drop(stored.insert(kind, descriptor)),
                None => others.push((name, descriptor)),
            }
        }
        let journal = newest_journal(&stored, &*map)?;
        Ok(Lasting { keeper, map, journal, stored, others })
    }

    /// Whether no server before this one has recorded anything.
    pub fn is_first_start(&self) -> bool {
        self.journal.is_none()
    }

    /// The socket on which the server before this one listened.
    pub(crate) fn listener(&self) -> Option<&OwnedFd> {
        self.stored.get(&Stored::Listener)
    }

    /// The regions that the server before this one had, with copies of their files.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn regions(&self) -> std::io::Result<Vec<RecordedRegion>> {
        let records = self.records().iter();
        let regions = records.filter_map(|(_, record)| match record {
            Record::Region(region) => Some(region),
            _ => None,
        });
        let recorded = regions.filter_map(|region| {
            let range = pages(region.range)?;
            let start = region.range.start();
            let files = self.stored.range(Stored::Home(start, 0)..=Stored::Home(start, usize::MAX));
            // The first one is stored last. Without it the server died before it served.
            let is_complete = self.stored.contains_key(&Stored::Home(start, 0));
            let files = files
                .filter(|_| is_complete)
                .map(|(_, file)| file.try_clone())
                .collect::<std::io::Result<_>>();
            let (name, memory) = (region.name.clone(), region.memory.clone());
            Some(files.map(|files| RecordedRegion { name, range, memory, files }))
        });
        recorded.collect()
    }

    /// The descriptors that the keeper has under other names than a server gives. They are
    /// returned once.
    pub fn take_others(&mut self) -> Vec<(Name, OwnedFd)> {
        std::mem::take(&mut self.others)
    }

    /// Stores another descriptor, which [`take_others`](Self::take_others) of the next server has.
    ///
    /// # Errors
    ///
    /// [`RecoverError::Keeper`].
    pub fn put_other(&mut self, name: &Name, descriptor: impl AsFd) -> Result<(), RecoverError> {
        Ok(self.keeper.put(name, descriptor.as_fd())?)
    }

    /// The most descriptors that the keeper holds, if it has a limit.
    pub(crate) fn room(&self) -> Option<usize> {
        self.keeper.room()
    }

    /// All intact records.
    pub(super) fn records(&self) -> &[(cma_journal::RecordId, Record)] {
        let read = self.journal.as_ref().and_then(|journal| journal.read.as_ref().ok());
        read.map_or(&[], |contents| &contents.records)
    }
}

/// The newest journal whose creation was completed. If there are several, a server has ended
/// between making the newer one and removing the older one, and both have the same records.
fn newest_journal(
    stored: &BTreeMap<Stored, OwnedFd>,
    map: &dyn Fn(BorrowedFd<'_>) -> Result<JournalWords, FileError>,
) -> Result<Option<FoundJournal>, RecoverError> {
    for (kind, file) in stored.iter().rev() {
        let Stored::Journal(number) = *kind else { continue };
        let words = map(rustix::fd::AsFd::as_fd(file))?;
        let read = Contents::read(&words);
        if read != Err(ReadError::Unfinished) {
            return Ok(Some(FoundJournal { number, words, read }));
        }
    }
    Ok(None)
}

/// The pages of a recorded range; `None` unless it consists of whole pages.
pub(super) fn pages(span: cma_journal::Span) -> Option<PageRange> {
    PageRange::from_bytes(DmaAddr::new(span.start()), span.size())
}

impl fmt::Debug for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = self.records().len();
        f.debug_struct("Lasting")
            .field("records", &records)
            .field("descriptors", &self.stored.len())
            .finish_non_exhaustive()
    }
}
