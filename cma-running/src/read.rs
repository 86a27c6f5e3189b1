//! Reading the state of a server's regions from its attributes.

use crate::entry::EntryKind;
use crate::error::Error;
use crate::lines::Text;
use crate::server::Session;
use crate::state::{AllocatorStatus, Books, RegionState, State};
use cma_framework::{DmaAddr, PAGE_SIZE, PageRange};

impl State {
    pub(crate) fn read(session: &Session<'_>) -> Result<State, Error> {
        let mut regions = Vec::new();
        for entry in session.list("regions")? {
            if entry.kind != EntryKind::Folder {
                continue;
            }
            match RegionState::read(session, &entry.name) {
                Ok(region) => regions.push(region),
                // It was unregistered meanwhile.
                Err(Error::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        regions.sort_by_key(|region| region.range.first_page());
        Ok(State { regions })
    }
}

impl RegionState {
    fn read(session: &Session<'_>, folder: &str) -> Result<RegionState, Error> {
        let attribute = |name: &str| -> Result<Text, Error> {
            let path = format!("regions/{folder}/{name}");
            Ok(Text { text: session.read(&path)?, path })
        };
        let start = DmaAddr::new(attribute("base_pfn")?.number()?.saturating_mul(PAGE_SIZE));
        let size = attribute("size")?;
        let range = PageRange::from_bytes(start, size.number()?);
        let allocator = attribute("alloc")?.line();
        let books = match Books::read(&attribute) {
            Ok(books) => Some(books),
            // `problem` says why.
            Err(Error::NotRead { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(RegionState {
            name: Some(attribute("name")?.line()).filter(|name| !name.is_empty()),
            range: range.ok_or_else(|| size.malformed(1))?,
            allocator: AllocatorStatus::parse(&allocator),
            problem: Some(attribute("problem")?.line()).filter(|problem| !problem.is_empty()),
            books,
        })
    }
}

impl AllocatorStatus {
    /// The attribute `alloc`: a name, `-`, `[wanted]`, nothing for the default, or `(out of
    /// service)`.
    fn parse(text: &str) -> Self {
        let between = |open, close| {
            text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)).map(str::to_string)
        };
        if let Some(name) = between('(', ')') {
            AllocatorStatus::OutOfService { name }
        } else if let Some(wanted) = between('[', ']') {
            AllocatorStatus::Waiting { wanted: Some(wanted) }
        } else {
            match text {
                "" => AllocatorStatus::Waiting { wanted: None },
                "-" => AllocatorStatus::Serving { name: None },
                name => AllocatorStatus::Serving { name: Some(name.to_string()) },
            }
        }
    }
}

impl Books {
    fn read(attribute: &impl Fn(&str) -> Result<Text, Error>) -> Result<Books, Error> {
        let number = |name: &str| attribute(name)?.number();
        Ok(Books {
            // First: of a stuck region no further attribute is tried.
            free_bytes: number("free")?,
            largest_free_bytes: number("maxchunk")?.saturating_mul(PAGE_SIZE),
            high_water_bytes: number("high_water")?,
            chunks_placed: number("chunks_placed")?,
            requests_refused: number("requests_refused")?,
            chunks_freed: number("chunks_freed")?,
            waiters: attribute("waiters")?.lines()?,
            failures: attribute("failures")?.lines()?,
            chunks: attribute("owners")?.lines()?,
        })
    }
}
