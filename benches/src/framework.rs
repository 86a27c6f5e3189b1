//! The whole path as a contestant: the map, the regions' locks and books, the ABI boundary of a
//! plug-in loaded from a library, and its algorithm.

use crate::contestant::Contestant;
use cma_api::{Alignment, PAGE_SIZE, PageRange};
use cma_framework::config::{Bytes, Map};
use cma_framework::loader::SearchPath;
use cma_framework::{AllocatorChoice, Chunk, Cma, Device, Plugin};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::marker::PhantomData;

/// The plug-in that the framework runs with.
pub trait PluginSource {
    /// The name in tables of requests through a [`Device`].
    const BY_DEVICE: &'static str;
    /// The name in tables of requests that name the device.
    const BY_NAMES: &'static str;
    /// The name in tables of requests through a [`Device`] that keeps what it frees.
    const KEEPING: &'static str;

    /// The plug-in.
    fn plugin() -> Plugin;
}

/// Best fit, from its library.
#[derive(Debug)]
pub enum BestFitPlugin {}

impl PluginSource for BestFitPlugin {
    const BY_DEVICE: &'static str = "framework (device)";
    const BY_NAMES: &'static str = "framework (names)";
    const KEEPING: &'static str = "framework (keeping)";

    fn plugin() -> Plugin {
        from_library("best_fit")
    }
}

/// TLSF, from its library.
#[derive(Debug)]
pub enum TlsfPlugin {}

impl PluginSource for TlsfPlugin {
    const BY_DEVICE: &'static str = "framework (device) on tlsf";
    const BY_NAMES: &'static str = "framework (names) on tlsf";
    const KEEPING: &'static str = "framework (keeping) on tlsf";

    fn plugin() -> Plugin {
        from_library("tlsf")
    }
}

/// The plug-in in `libcma_<name>_plugin.so`, which cargo built beside this program.
fn from_library(name: &str) -> Plugin {
    let file = format!("{DLL_PREFIX}cma_{name}_plugin{DLL_SUFFIX}");
    let candidates = SearchPath::from_environment(&[]).candidates().into_iter();
    let mut files = candidates.filter_map(|candidate| Some(candidate.ok()?.path));
    let path = files
        .find(|path| path.ends_with(&file))
        .expect("cargo builds the plug-ins on which this crate depends");
    Plugin::load(path).expect("a plug-in for this framework")
}

/// A framework with the plug-in of `S`. `region<n>` is the n-th of `regions`, and the device
/// `camera<n>` is routed to it by the last of at least nine rules.
///
/// # Panics
///
/// If the regions overlap or are invalid.
pub fn framework<S: PluginSource>(regions: &[PageRange]) -> Cma {
    let cma = Cma::new();
    cma.allocator_register(S::plugin()).expect("the first of its name");
    for (n, range) in regions.iter().enumerate() {
        let name = format!("region{n}");
        cma.region_register(Some(&name), range.start(), range.bytes(), AllocatorChoice::Default)
            .expect("regions that don't overlap");
    }
    cma.set_map(Map::parse(&framework_map(regions.len())).expect("a valid map"));
    cma
}

/// The map of a [`framework`] with that many regions.
pub(crate) fn framework_map(regions: usize) -> String {
    let rules = (0..regions).map(|n| format!(";camera{n}=region{n}"));
    String::from("a=x;b=x;c/f=x;c/g=x;d*=x;e=x;camera0/q=x;f=x") + &rules.collect::<String>()
}

/// A caller that keeps the handle of its device.
#[derive(Debug)]
pub struct ByDevice<S> {
    device: Device,
    source: PhantomData<S>,
}

impl<S> ByDevice<S> {
    /// A contestant with this device, whose framework may have other users.
    pub fn of(device: Device) -> Self {
        ByDevice { device, source: PhantomData }
    }
}

impl<S: PluginSource> Contestant for ByDevice<S> {
    const NAME: &'static str = S::BY_DEVICE;
    type Chunk = Chunk;

    fn new(region: PageRange, _most_live: u32) -> Self {
        ByDevice::of(framework::<S>(&[region]).device("camera0", None).expect("a valid name"))
    }

    #[inline]
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<Chunk> {
        self.device.alloc(u64::from(pages) * PAGE_SIZE, alignment.bytes()).ok()
    }

    #[inline]
    fn free(&mut self, chunk: Chunk) {
        drop(chunk);
    }

    fn first_page(&self, chunk: &Chunk) -> u64 {
        chunk.range().first_page()
    }
}

/// A caller whose device keeps up to a 64th of the region of what it frees.
#[derive(Debug)]
pub struct Keeping<S>(ByDevice<S>);

impl<S: PluginSource> Contestant for Keeping<S> {
    const NAME: &'static str = S::KEEPING;
    type Chunk = Chunk;

    fn new(region: PageRange, most_live: u32) -> Self {
        let ByDevice { device, source } = ByDevice::new(region, most_live);
        Keeping(ByDevice { device: device.keeping(Bytes(region.bytes() / 64)), source })
    }

    #[inline]
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<Chunk> {
        self.0.allocate(pages, alignment)
    }

    #[inline]
    fn free(&mut self, chunk: Chunk) {
        self.0.free(chunk);
    }

    fn first_page(&self, chunk: &Chunk) -> u64 {
        self.0.first_page(chunk)
    }
}

/// A caller that names the device in each request.
#[derive(Debug)]
pub struct ByNames<S> {
    cma: Cma,
    source: PhantomData<S>,
}

impl<S: PluginSource> Contestant for ByNames<S> {
    const NAME: &'static str = S::BY_NAMES;
    type Chunk = Chunk;

    fn new(region: PageRange, _most_live: u32) -> Self {
        ByNames { cma: framework::<S>(&[region]), source: PhantomData }
    }

    #[inline]
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<Chunk> {
        self.cma.alloc("camera0", None, u64::from(pages) * PAGE_SIZE, alignment.bytes()).ok()
    }

    #[inline]
    fn free(&mut self, chunk: Chunk) {
        drop(chunk);
    }

    fn first_page(&self, chunk: &Chunk) -> u64 {
        chunk.range().first_page()
    }
}
