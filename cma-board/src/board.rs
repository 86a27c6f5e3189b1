//! A board that owns its description.

use cma_framework::config::{
    AllocatorSpec, Bank, ConfigError, Growth, Map, Place, Platform, RegionSpec,
};
use cma_framework::reserve::Banks;
use cma_memory::Choice;

/// A board: its memory banks, the regions and the map it starts with, and the kind of memory behind
/// its addresses.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// Its name, if the description gives one.
    pub name: Option<String>,
    /// Its memory banks, without the parts that are withheld from the system.
    pub banks: Vec<Bank>,
    /// The end of a bank from which regions without a fixed start are placed.
    pub growth: Growth,
    /// Its regions, in the order in which they are reserved.
    pub regions: Vec<BoardRegion>,
    /// Its map.
    pub map: Map,
    /// The kind of memory for each region; `None` leaves the choice to the host.
    pub memory: Option<Choice>,
}

impl PartialEq for Board {
    /// Two maps are equal when their rules are, however they are written.
    fn eq(&self, other: &Board) -> bool {
        self.name == other.name
            && self.banks == other.banks
            && self.growth == other.growth
            && self.regions == other.regions
            && self.map.rules().eq(other.map.rules())
            && self.memory == other.memory
    }
}

impl Eq for Board {}

impl Board {
    /// The same board as a constant describes.
    ///
    /// # Errors
    ///
    /// The first constant of the map that the grammar doesn't allow.
    pub fn of(platform: &Platform) -> Result<Board, ConfigError> {
        Ok(Board {
            name: Some(platform.name.to_string()),
            banks: platform.banks.to_vec(),
            growth: platform.growth,
            regions: platform.regions.iter().map(BoardRegion::from).collect(),
            map: platform.parsed_map()?,
            memory: None,
        })
    }

    /// Its name, for messages.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or("a board without a name")
    }

    /// Its regions, as the framework takes them.
    pub fn specs(&self) -> Vec<RegionSpec<'_>> {
        self.regions.iter().map(BoardRegion::spec).collect()
    }

    /// Its regions as `cma=` text.
    pub fn regions_text(&self) -> String {
        self.regions.iter().map(|region| region.spec().to_string()).collect::<Vec<_>>().join(";")
    }

    /// Its map as `cma.map=` text, in one line.
    pub fn map_text(&self) -> String {
        self.map.rules().map(|rule| rule.to_string()).collect::<Vec<_>>().join(";")
    }

    /// Its banks as the text of `--banks`: `size@start;...`.
    pub fn banks_text(&self) -> String {
        self.banks.iter().map(Bank::to_string).collect::<Vec<_>>().join(";")
    }

    /// Its memory as addresses alone.
    pub fn memory_banks(&self) -> Banks {
        Banks::new(&self.banks, self.growth)
    }
}

/// A region of a board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoardRegion {
    /// The name by which the map reaches it.
    pub name: String,
    /// The size in bytes; not 0.
    pub size: u64,
    /// Where it may lie.
    pub place: Place,
    /// The alignment of its start in bytes, a power of two.
    pub alignment: Option<u64>,
    /// Its allocator; `None` for the default.
    pub allocator: Option<BoardAllocator>,
    /// Whether a kernel must not map it for itself: a device tree's `no-map`. The framework maps
    /// no region for itself, so this matters only where the board is written as a device tree.
    pub no_map: bool,
}

/// An allocator by name, with its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoardAllocator {
    /// The allocator's registered name.
    pub name: String,
    /// Its parameters, unchanged; empty for none.
    pub params: String,
}

impl BoardRegion {
    /// The region as the framework takes it.
    pub fn spec(&self) -> RegionSpec<'_> {
        RegionSpec {
            name: &self.name,
            size: self.size,
            place: self.place,
            alignment: self.alignment,
            allocator: self.allocator.as_ref().map(|allocator| AllocatorSpec {
                name: &allocator.name,
                params: &allocator.params,
            }),
        }
    }
}

impl From<&RegionSpec<'_>> for BoardRegion {
    fn from(spec: &RegionSpec<'_>) -> Self {
        BoardRegion {
            name: spec.name.to_string(),
            size: spec.size,
            place: spec.place,
            alignment: spec.alignment,
            allocator: spec.allocator.map(|allocator| BoardAllocator {
                name: allocator.name.to_string(),
                params: allocator.params.to_string(),
            }),
            no_map: false,
        }
    }
}
