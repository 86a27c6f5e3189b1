//! The boards that are known by name.

use cma_framework::config::Platform;

/// A board that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnownBoard {
    Aquila,
    Goni,
    GalaxyS2,
}

impl KnownBoard {
    const ALL: [KnownBoard; 3] = [KnownBoard::Aquila, KnownBoard::Goni, KnownBoard::GalaxyS2];

    /// The board without `--platform`.
    pub(crate) const DEFAULT: KnownBoard = KnownBoard::Goni;

    /// The board of that name.
    pub(crate) fn named(name: &str) -> Option<KnownBoard> {
        KnownBoard::ALL.into_iter().find(|known| known.platform().name == name)
    }

    /// Their names, separated by commas.
    pub(crate) fn names() -> String {
        KnownBoard::ALL.map(|known| known.platform().name).join(", ")
    }

    /// Its constants.
    pub(crate) fn platform(self) -> &'static Platform {
        match self {
            KnownBoard::Aquila => &cma_platform_aquila::PLATFORM,
            KnownBoard::Goni => &cma_platform_goni::PLATFORM,
            KnownBoard::GalaxyS2 => &cma_platform_galaxy_s2::PLATFORM,
        }
    }
}
