//! The choice of a port for each region: as text, and whether it suits the regions.

use crate::hugetlb;
use cma_framework::config::{Place, RegionSpec};
use cma_framework::{Alignment, Pages};
use std::fmt;
use std::str::FromStr;

/// The kind of a region's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Port {
    /// Addresses alone.
    #[default]
    Simulated,
    /// Ordinary memory.
    Memfd,
    /// Huge pages.
    Hugetlb,
    /// Huge pages, or ordinary memory where huge pages are unavailable.
    Auto,
}

impl Port {
    /// All of them.
    pub const ALL: [Port; 4] = [Port::Simulated, Port::Memfd, Port::Hugetlb, Port::Auto];

    /// Its name in texts.
    pub const fn name(self) -> &'static str {
        match self {
            Port::Simulated => "simulated",
            Port::Memfd => "memfd",
            Port::Hugetlb => "hugetlb",
            Port::Auto => "auto",
        }
    }

    /// The port of a region whose memory is of this kind
    /// ([`Backing`](cma_framework::memory::Backing)); `None` for addresses alone. No port for a
    /// kind that none here has.
    pub fn of_kind(kind: Option<&str>) -> Option<Port> {
        let name = kind.unwrap_or(Port::Simulated.name());
        let ports = [Port::Simulated, Port::Memfd, Port::Hugetlb];
        ports.into_iter().find(|port| port.name() == name)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The choice of a port for each region.
///
/// As text: `hugetlb`, or `fw=memfd,b1=hugetlb,auto`: some regions by name, and one port for the
/// rest, `simulated` if none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// For all other regions.
    pub rest: Port,
    /// By the region's name.
    pub named: Vec<(String, Port)>,
}

impl Choice {
    /// The port of the region of that name; `None` is a private one.
    pub fn port(&self, region: Option<&str>) -> Port {
        let named = self.named.iter().find(|(name, _)| Some(name.as_str()) == region);
        named.map_or(self.rest, |(_, port)| *port)
    }
}

impl From<Port> for Choice {
    fn from(rest: Port) -> Self {
        Choice { rest, named: Vec::new() }
    }
}

impl FromStr for Choice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let mut rest = None;
        let mut named: Vec<(String, Port)> = Vec::new();
        for item in text.split(',').map(str::trim) {
            let (region, port) = match item.split_once('=') {
                Some((region, port)) => (Some(region.trim()), port.trim()),
                None => (None, item),
            };
            let known = Port::ALL.into_iter().find(|known| known.name() == port);
            let port = known.ok_or_else(|| ChoiceError::NoPort { word: port.to_string() })?;
            match region {
                Some("") => return Err(ChoiceError::NoRegion { item: item.to_string() }),
                Some(region) if named.iter().any(|(name, _)| name == region) => {
                    return Err(ChoiceError::Twice { what: format!("region {region}") });
                }
                Some(region) => named.push((region.to_string(), port)),
                None if rest.is_some() => {
                    return Err(ChoiceError::Twice { what: "the rest".to_string() });
                }
                None => rest = Some(port),
            }
        }
        Ok(Choice { rest: rest.unwrap_or_default(), named })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named.iter().try_for_each(|(name, port)| write!(f, "{name}={port},"))?;
        write!(f, "{}", self.rest)
    }
}

/// Why a text is not a valid [`Choice`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChoiceError {
    /// A word that names no port.
    #[error(
        "\"{}\" is no kind of memory: expected simulated, memfd, hugetlb or auto, or a list such as fw=memfd,b1=hugetlb,auto",
        word.escape_debug()
    )]
    NoPort {
        /// The word.
        word: String,
    },
    /// No name before the `=`.
    #[error("\"{}\" names no region before the =", item.escape_debug())]
    NoRegion {
        /// The item.
        item: String,
    },
    /// A region, or the rest, has two ports.
    #[error("the memory of {} is given twice", what.escape_debug())]
    Twice {
        /// The region, or the rest.
        what: String,
    },
}

impl Choice {
    /// The problems of this choice for these regions. Nothing is reserved.
    ///
    /// `huge_page` is the size of a huge page in bytes, `None` for a machine without them
    /// ([`default_page_size`](hugetlb::default_page_size)).
    ///
    /// ```
    /// use cma_framework::config::parse_regions;
    /// use cma_memory::Choice;
    ///
    /// let regions = parse_regions("fw=3M;b1=32M")?.into_iter().map(|region| region.spec);
    /// let found = "b2=memfd,hugetlb".parse::<Choice>()?.check(regions, Some(2 << 20));
    /// let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    /// assert_eq!(found, [
    ///     "memory is chosen for region \"b2\", which is not configured",
    ///     "region fw gets no memory: 3M is not whole huge pages of 2M: make it 4M",
    /// ]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check<'a>(
        &self,
        regions: impl IntoIterator<Item = RegionSpec<'a>>,
        huge_page: Option<u64>,
    ) -> Vec<Unfit> {
        let regions: Vec<RegionSpec<'_>> = regions.into_iter().collect();
        let configured = |name: &str| regions.iter().any(|region| region.name == name);
        let unknown = self.named.iter().filter(|(name, _)| !configured(name));
        let unknown = unknown.map(|(name, _)| Unfit::NoSuchRegion { region: name.clone() });
        unknown
            .chain(regions.iter().filter_map(|region| self.check_one(region, huge_page)))
            .collect()
    }

    fn check_one(&self, spec: &RegionSpec<'_>, huge_page: Option<u64>) -> Option<Unfit> {
        let port = self.port(Some(spec.name));
        if !matches!(port, Port::Hugetlb | Port::Auto) {
            return None;
        }
        let alignment = Alignment::new(spec.alignment.unwrap_or(0)).unwrap_or_default();
        let place = match spec.place {
            Place::At(start) => start.align_up(alignment).map_or(Place::Anywhere, Place::At),
            place => place,
        };
        let reason = hugetlb::misfit(huge_page, Pages::covering(spec.size), place)?;
        let region = spec.name.to_string();
        Some(match port {
            Port::Auto => Unfit::Ordinary { region, reason },
            _ => Unfit::NoMemory { region, reason },
        })
    }
}

/// A problem of a [`Choice`] for certain regions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It names a region that is not configured.
    #[error("memory is chosen for region \"{}\", which is not configured", region.escape_debug())]
    NoSuchRegion {
        /// The name.
        region: String,
    },
    /// A region can't have the chosen memory on any machine with huge pages of this size.
    #[error("region {region} gets no memory: {reason}")]
    NoMemory {
        /// The region's name.
        region: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The choice is `auto`, and the region always gets ordinary memory.
    #[error("region {region} gets ordinary memory: {reason}")]
    Ordinary {
        /// The region's name.
        region: String,
        /// Why it can't have huge pages, and what to do.
        reason: String,
    },
}

impl Unfit {
    /// Whether a region gets no memory, or the choice names an unknown region. The system works in
    /// spite of any other problem.
    pub fn is_error(&self) -> bool {
        !matches!(self, Unfit::Ordinary { .. })
    }
}
