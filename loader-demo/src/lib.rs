//! The smallest complete host of `cma-framework`, to copy from when embedding it.
//!
//! [`run`] takes the steps of every host in their order: regions get memory at boot, allocators are
//! loaded later, drivers request chunks, an allocator is replaced while its chunks are live, and
//! all chunks are freed. Each step is a function that reports to `out` what it did. `cma demo`
//! takes the same steps on the system that its command line describes.

#![forbid(unsafe_code)]
#![allow(clippy::missing_errors_doc, reason = "each step fails only when `out` can't be written")]

mod request;

pub use request::{REQUESTS, Request};

use cma_framework::config::{Bytes, COMMON, Platform};
use cma_framework::loader::{SearchPath, Trial, load_all};
use cma_framework::reserve::Banks;
use cma_framework::{
    AllocError, AllocatorChoice, AllocatorState, Chunk, Cma, EarlyState, PAGE_SIZE, Plugin,
};
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

/// Runs all steps on `board`, with plug-ins from `folders` and the usual places. Returns whether
/// nothing was refused, apart from the request of [`exceed_the_largest_hole`]. It is an error when
/// the board can't be used or no plug-in is found.
pub fn run(
    board: &Platform,
    folders: &[PathBuf],
    requests: &[Request<'_>],
    out: &mut dyn Write,
) -> Result<bool, Box<dyn Error>> {
    let (cma, booted) = boot(board, out)?;
    let loaded = load_allocators(&cma, folders, out)?;
    if cma.allocators().is_empty() {
        return Err("no allocator plug-in was found; name a folder that holds some".into());
    }
    let chunks = serve(&cma, requests, out)?;
    if let Some(request) = requests.last() {
        exceed_the_largest_hole(&cma, request, out)?;
    }
    swap_allocators(&cma, &chunks, out)?;
    let served = chunks.len() == requests.len();
    let consistent = free_all(&cma, chunks, out)?;
    Ok(booted && loaded && served && consistent)
}

/// Step 1: gives the board's regions their memory and registers them. Returns whether every region
/// got memory.
///
/// A host does this once and early, while its memory is still in one piece; allocators are not
/// needed yet. [`Banks`] stands for memory that exists as addresses alone. A host with real memory
/// passes its own `Reserver`, or one of the crate `cma-memory`.
pub fn boot(board: &Platform, out: &mut dyn Write) -> Result<(Cma, bool), Box<dyn Error>> {
    let cma = Cma::new();
    cma.set_platform(board)?;
    cma.early_regions_reserve(&mut Banks::of(board));
    let mut complete = true;
    for early in cma.initialise() {
        let name = early.description().name.as_deref().unwrap_or("(private)");
        match early.state() {
            EarlyState::Registered(region) => {
                writeln!(out, "region {name} at {}: {}", region.range(), region.allocator())?;
                continue;
            }
            // A region without memory is no reason to stop: the others work.
            EarlyState::NotReserved(error) => writeln!(out, "region {name}: no memory: {error}")?,
            EarlyState::NotRegistered(_, error) => {
                writeln!(out, "region {name}: not registered: {error}")?;
            }
            _ => writeln!(out, "region {name}: not initialised")?,
        }
        complete = false;
    }
    Ok((cma, complete))
}

/// Step 2: loads the plug-ins on the search path and registers each. Returns whether all could be
/// used.
///
/// A host does this at any time, and again for plug-ins that arrive later. Every library is loaded
/// in a child process first, so one that crashes or hangs ends that child and not the host. A
/// library that can't be loaded is reported, and the others are loaded all the same.
pub fn load_allocators(cma: &Cma, folders: &[PathBuf], out: &mut dyn Write) -> io::Result<bool> {
    let search = SearchPath::from_environment(folders);
    let trial = Trial::of_this_program();
    let mut all = true;
    for (_, loaded) in load_all(&search, Some(&trial)) {
        all &= match loaded {
            Ok(plugin) => register(cma, plugin, out)?,
            Err(error) => {
                writeln!(out, "not loaded: {error}")?;
                false
            }
        };
    }
    Ok(all)
}

/// Registers one plug-in: the regions that wait for an allocator of its name attach to it, and with
/// the first plug-in those that wait for the default allocator. Returns whether none was refused.
pub fn register(cma: &Cma, plugin: Plugin, out: &mut dyn Write) -> io::Result<bool> {
    writeln!(out, "{} {}: {}", plugin.name(), plugin.version(), plugin.description())?;
    let attachments = match cma.allocator_register(plugin) {
        Ok(attachments) => attachments,
        Err(error) => {
            writeln!(out, "   not registered: {error}")?;
            return Ok(false);
        }
    };
    if !attachments.attached.is_empty() {
        let regions: Vec<_> = attachments.attached.iter().map(ToString::to_string).collect();
        writeln!(out, "   now serves {}", regions.join(", "))?;
    }
    for (region, reason) in &attachments.failed {
        writeln!(out, "   refuses {region}: {reason}")?;
    }
    if attachments.attached.is_empty() && attachments.failed.is_empty() {
        writeln!(out, "   no region waits for it")?;
    }
    Ok(attachments.failed.is_empty())
}

/// Step 3: serves requests. Returns the chunks.
///
/// A [`Chunk`] is a guard: a host keeps it as long as the device uses the memory, and drops it to
/// free. Drivers that request often hold a `cma_framework::Device` in place of the name.
pub fn serve(cma: &Cma, requests: &[Request<'_>], out: &mut dyn Write) -> io::Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    for request in requests {
        match cma.alloc(request.device, request.kind, request.size, request.alignment) {
            Ok(chunk) => {
                writeln!(out, "{request}  {} in {}", chunk.start(), chunk.region())?;
                chunks.push(chunk);
            }
            Err(error) => explain(request, &error, out)?,
        }
    }
    Ok(chunks)
}

/// Reports why a request got no chunk: the errno for the driver, and for each region that was tried
/// the reason for the administrator.
fn explain(request: &Request<'_>, error: &AllocError, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{request}  {:?}", error.errno())?;
    match error {
        AllocError::NoRegion(refusals) => refusals
            .iter()
            .try_for_each(|refusal| writeln!(out, "   {}: {}", refusal.region, refusal.reason)),
        error => writeln!(out, "   {error}"),
    }
}

/// Step 4: repeats `request` with a page more than the largest hole of its regions, so that it is
/// refused with reasons.
pub fn exceed_the_largest_hole(
    cma: &Cma,
    request: &Request<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let map = cma.map();
    let groups = map.regions_for(request.device, request.kind.unwrap_or(COMMON));
    let regions = groups.into_iter().flatten().flatten().filter_map(|name| cma.region(name));
    let largest = regions.map(|region| region.status().largest_hole_bytes).max().unwrap_or(0);
    let size = largest + PAGE_SIZE;
    let too_large = Request { purpose: "one page more", size, alignment: 0, ..*request };
    serve(cma, &[too_large], out).map(drop)
}

/// Step 5: gives the region with most live chunks each of the other allocators in turn.
///
/// A host does this to retune a running system. The new allocator adopts every live chunk at its
/// place, or reports why it can't and the old one stays; either way no chunk moves.
pub fn swap_allocators(cma: &Cma, chunks: &[Chunk], out: &mut dyn Write) -> io::Result<()> {
    let used = chunks.iter().map(Chunk::region).max_by_key(|region| region.status().users);
    let Some(region) = used else {
        return writeln!(out, "no region is in use, so none changes its allocator");
    };
    for registered in cma.allocators() {
        let AllocatorState::Attached(Some(old)) = region.allocator() else { break };
        let Some(new) = registered.name.filter(|name| **name != *old) else { continue };
        let live = match region.status().users {
            1 => "1 live chunk".to_string(),
            users => format!("{users} live chunks"),
        };
        match cma.set_region_allocator(region, AllocatorChoice::named(&*new)) {
            Ok(_) => writeln!(out, "{region}: {old} -> {new}: {live} adopted")?,
            Err(error) => writeln!(out, "{region}: {old} stays: {error}")?,
        }
    }
    Ok(())
}

/// Step 6: frees all chunks and checks every region. Returns whether each is one hole again, by the
/// framework's books and by its allocator's.
///
/// Dropping the guards frees. `Region::check` compares the two books; a host calls it for a test
/// or a supervisor.
pub fn free_all(cma: &Cma, chunks: Vec<Chunk>, out: &mut dyn Write) -> io::Result<bool> {
    let count = chunks.len();
    drop(chunks);
    let mut consistent = true;
    for region in cma.regions() {
        let (free, size) = (region.status().free_bytes, region.range().bytes());
        let fault = match region.check() {
            Err(fault) => fault.to_string(),
            Ok(()) if free != size => format!("{} free of {}", Bytes(free), Bytes(size)),
            Ok(()) => continue,
        };
        consistent = false;
        writeln!(out, "{region}: {fault}")?;
    }
    if consistent && count > 0 {
        let all = if count == 1 { "the one chunk is" } else { &format!("all {count} chunks are") };
        writeln!(out, "{all} freed: every region is one hole again")?;
    }
    Ok(consistent)
}
