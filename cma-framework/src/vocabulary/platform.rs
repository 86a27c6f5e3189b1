//! A board's defaults, as constants.

use super::{Bank, Map, RegionSpec, RuleSpec};

/// A board: its memory banks, and the regions and the map it starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The name by which a user selects it.
    pub name: &'static str,
    /// Its memory banks.
    pub banks: &'static [Bank],
    /// The end of a bank from which regions without a fixed start are placed.
    pub growth: Growth,
    /// Its regions, in the order in which they are reserved.
    pub regions: &'static [RegionSpec<'static>],
    /// Its map.
    pub map: &'static [RuleSpec<'static>],
}

impl Platform {
    /// The regions as `cma=` text.
    pub fn regions_text(&self) -> String {
        self.regions.iter().map(ToString::to_string).collect::<Vec<_>>().join(";")
    }

    /// The map as `cma.map=` text.
    pub fn map_text(&self) -> String {
        self.map.iter().map(ToString::to_string).collect::<Vec<_>>().join(";")
    }

    /// The parsed map.
    ///
    /// # Errors
    ///
    /// The first constant that the grammar doesn't allow.
    pub fn parsed_map(&self) -> Result<Map, super::ConfigError> {
        Map::from_rules(self.map)
    }
}

/// The end from which a bank is filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Growth {
    /// From its lowest address up.
    #[default]
    Up,
    /// From its highest address down, as boards do whose kernel chooses the start.
    Down,
}
