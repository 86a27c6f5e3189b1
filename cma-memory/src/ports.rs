//! One reserver for all regions of a program, and the outcome for each.

use crate::addresses::{Addresses, ReservedRange};
use crate::choice::{Choice, Port};
use crate::hugetlb::Hugetlb;
use crate::memfd::Memfd;
use cma_framework::PageRange;
use cma_framework::config::Bytes;
use cma_framework::memory::Backing;
use cma_framework::reserve::{ReserveError, ReserveRequest, Reserved, Reserver};
use std::fmt;
use std::os::fd::OwnedFd;

/// Gives each region memory from the port that was chosen for it, and records the outcome.
///
/// ```
/// use cma_framework::Cma;
/// use cma_framework::config::{Bank, Growth};
/// use cma_framework::reserve::Banks;
/// use cma_memory::{Choice, Ports};
///
/// let cma = Cma::new();
/// cma.command_line(Some("fw=1M;frames=64M"), None)?;
/// let banks = Banks::new(&[Bank::new(0x4000_0000, 1 << 30)], Growth::Up);
/// let mut ports = Ports::new(banks, "fw=simulated,auto".parse::<Choice>()?);
/// cma.early_regions_reserve(&mut ports);
/// assert_eq!(ports.outcomes()[0].to_string(), "fw: 0x40000000+0x100000, addresses alone");
/// println!("{}", ports.outcomes()[1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Ports {
    choice: Choice,
    addresses: Addresses,
    memfd: Memfd,
    hugetlb: Hugetlb,
    /// Those that are not requested yet, with their addresses.
    restored: Vec<(RestoredRegion, ReservedRange)>,
    outcomes: Vec<Outcome>,
}

/// A region of a process that has ended, to be made again with its memory.
#[derive(Debug)]
pub struct RestoredRegion {
    /// Its name; `None` for a private one.
    pub name: Option<String>,
    /// Its place.
    pub range: PageRange,
    /// The port that it had, by [`Port::of_kind`]; not [`Port::Auto`].
    pub port: Port,
    /// The files that [`Region::lasting`](cma_framework::Region::lasting) returned there, in that
    /// order.
    pub files: Vec<OwnedFd>,
}

/// The outcome of one region's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The region's name; `None` for a private one.
    pub region: Option<String>,
    /// Its addresses, and the memory behind them: `None` for addresses alone.
    pub result: Result<(PageRange, Option<Backing>), ReserveError>,
    /// Why it got another memory than the preferred one.
    pub remark: Option<String>,
}

impl Ports {
    /// Regions by `choice`. `addresses`, which may be [`Banks`](cma_framework::reserve::Banks), are
    /// for regions whose memory has no physical ones.
    pub fn new(addresses: impl Into<Addresses>, choice: impl Into<Choice>) -> Self {
        let addresses = addresses.into();
        Ports {
            choice: choice.into(),
            memfd: Memfd::new(addresses.clone()),
            hugetlb: Hugetlb::new(addresses.clone()),
            addresses,
            restored: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// Gives regions of these names the places and the memory that they had in a process that has
    /// ended, whatever the choice is. No other region gets their places. Their chunks are restored
    /// afterwards, by [`Cma::restore_chunk`](cma_framework::Cma::restore_chunk).
    ///
    /// Huge pages are verified to be at their addresses then, and pinned. A page that a chunk has
    /// and that the kernel moved meanwhile makes the region's contiguity
    /// [`Moved`](cma_framework::memory::Contiguity::Moved), which names it. A free page that is
    /// lost is reported by [`Cma::finish_restoring`](cma_framework::Cma::finish_restoring).
    ///
    /// # Errors
    ///
    /// [`ReserveError::Taken`] when two of them overlap each other, or a reserved region.
    pub fn with_restored(mut self, regions: Vec<RestoredRegion>) -> Result<Self, ReserveError> {
        for region in regions {
            let wanted = region.range;
            let taken = || {
                let all = self.restored.iter().map(|(_, addresses)| addresses.range);
                all.clone().find(|taken| taken.overlaps(wanted)).unwrap_or(wanted)
            };
            let addresses = self
                .addresses
                .withhold(wanted)
                .ok_or_else(|| ReserveError::Taken { wanted, taken: taken() })?;
            self.restored.push((region, addresses));
        }
        Ok(self)
    }

    /// The outcome of each request so far, in order.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// The regions that are named in the choice and made no request: misspelt, most likely.
    pub fn unrequested(&self) -> impl Iterator<Item = &str> {
        let requested = |name: &str| {
            self.outcomes.iter().any(|outcome| outcome.region.as_deref() == Some(name))
        };
        self.choice.named.iter().map(|(name, _)| name.as_str()).filter(move |name| !requested(name))
    }

    fn is_restored(&self, request: &ReserveRequest) -> bool {
        self.restored.iter().any(|(region, _)| region.name == request.name)
    }

    fn reserve_from_port(
        &mut self,
        request: &ReserveRequest,
    ) -> Result<(Reserved, Option<String>), ReserveError> {
        let name = |(region, _): &(RestoredRegion, _)| region.name == request.name;
        if let Some(at) = self.restored.iter().position(name) {
            let (region, addresses) = self.restored.swap_remove(at);
            let reserved = restore(request, region, addresses).map_err(ReserveError::Other)?;
            return Ok((reserved, Some("restored".to_string())));
        }
        match self.choice.port(request.name.as_deref()) {
            Port::Simulated => Ok((self.addresses.reserve_permanently(request)?.into(), None)),
            Port::Memfd => Ok((self.memfd.reserve(request)?, None)),
            Port::Hugetlb => Ok((self.hugetlb.reserve(request)?, None)),
            Port::Auto => match self.hugetlb.reserve(request) {
                Ok(reserved) => Ok((reserved, None)),
                Err(error) => {
                    Ok((self.memfd.reserve(request)?, Some(format!("no huge pages: {error}"))))
                }
            },
        }
    }
}

/// Makes a region again.
fn restore(
    request: &ReserveRequest,
    region: RestoredRegion,
    addresses: ReservedRange,
) -> Result<Reserved, String> {
    let (range, name) = (region.range, region.name.as_deref());
    if range.pages() != request.pages {
        let (had, has) = (Bytes(range.bytes()), Bytes(request.pages.bytes()));
        return Err(format!("its size can't change from {had} to {has} with chunks in it"));
    }
    if region.port != Port::Hugetlb && !region.files.is_empty() {
        return Err(format!("a region of the port {} has no files", region.port));
    }
    match region.port {
        Port::Simulated => Ok(addresses.keep().into()),
        Port::Memfd => Ok(Reserved { range, memory: Some(Memfd::region(name, addresses)) }),
        Port::Hugetlb => {
            let memory = Hugetlb::restore(name, addresses, region.files)?;
            Ok(Reserved { range, memory: Some(memory) })
        }
        Port::Auto => Err("a region has one port or another, and not \"auto\"".to_string()),
    }
}

impl Reserver for Ports {
    fn announce(&mut self, requests: &[ReserveRequest]) {
        let needs_huge_pages = |request: &&ReserveRequest| {
            matches!(self.choice.port(request.name.as_deref()), Port::Hugetlb | Port::Auto)
                && !self.is_restored(request)
        };
        let requests: Vec<_> = requests.iter().filter(needs_huge_pages).cloned().collect();
        self.hugetlb.announce(&requests);
    }

    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        let reserved = self.reserve_from_port(request);
        let (result, remark) = match &reserved {
            Ok((reserved, remark)) => {
                let backing = reserved.memory.as_ref().map(|memory| memory.backing());
                (Ok((reserved.range, backing)), remark.clone())
            }
            Err(error) => (Err(error.clone()), None),
        };
        self.outcomes.push(Outcome { region: request.name.clone(), result, remark });
        reserved.map(|(reserved, _)| reserved)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.region.as_deref().unwrap_or("(private)"))?;
        match &self.result {
            Ok((range, Some(backing))) => {
                write!(f, "{range}, {}, {}", backing.kind, backing.contiguity)?;
            }
            Ok((range, None)) => write!(f, "{range}, addresses alone")?,
            Err(error) => write!(f, "no memory: {error}")?,
        }
        match &self.remark {
            Some(remark) => write!(f, " ({remark})"),
            None => Ok(()),
        }
    }
}
