//! One reserver for all regions of a program, and the outcome for each.

use crate::addresses::Addresses;
use crate::choice::{Choice, Port};
use crate::hugetlb::Hugetlb;
use crate::memfd::Memfd;
use cma_framework::PageRange;
use cma_framework::memory::Backing;
use cma_framework::reserve::{ReserveError, ReserveRequest, Reserved, Reserver};
use std::fmt;

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
    outcomes: Vec<Outcome>,
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
            outcomes: Vec::new(),
        }
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

    fn reserve_from_port(
        &mut self,
        request: &ReserveRequest,
    ) -> Result<(Reserved, Option<String>), ReserveError> {
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

impl Reserver for Ports {
    fn announce(&mut self, requests: &[ReserveRequest]) {
        let needs_huge_pages = |request: &&ReserveRequest| {
            matches!(self.choice.port(request.name.as_deref()), Port::Hugetlb | Port::Auto)
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
