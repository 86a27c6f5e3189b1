//! `cma demo`: a tour. The steps of a host are those of the crate `loader-demo`, on the system that
//! the command line describes; a comparison of the allocators follows.

mod requests;

use crate::commands::{regions, replay};
use crate::found_plugins::FoundPlugins;
use crate::host::Host;
use crate::options::Options;
use crate::outcome::{CommandError, Outcome};
use crate::show::{BOLD, DIM, Out, plain, wrapped};
use cma_framework::config::Bytes;
use cma_framework::{Pages, Plugin};
use cma_trace::Trace;
use requests::Devices;
use std::env;
use std::io::{self, Write};
use std::path::Path;

/// The indentation of the text under a title.
const INDENT: usize = 3;

/// The longest line of prose.
const WIDTH: usize = 100;

pub(crate) fn run(options: &Options, out: &mut Out) -> Result<Outcome, CommandError> {
    let host = Host::boot(options)?;
    board(&host, out)?;
    let (registered, plugins) = late_allocators(&host, options, out)?;
    let served = devices(&host, out)?;
    recorded(&plugins, out)?;
    next(out)?;
    Ok(registered.max(served).max(Outcome::refused_if(!host.left_out().is_empty())))
}

/// The title of a step, and the reason for it.
fn title(out: &mut Out, what: &str, why: &str) -> io::Result<()> {
    writeln!(out, "\n{BOLD}{what}{BOLD:#}\n   {DIM}{why}{DIM:#}\n")
}

/// Takes a step of the demo, and prints its report under the title.
fn step<T>(out: &mut Out, step: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
    let mut report = Vec::new();
    let result = step(&mut report)?;
    for line in String::from_utf8_lossy(&report).lines() {
        writeln!(out, "{:INDENT$}{}", "", plain(line))?;
    }
    Ok(result)
}

/// The regions, before there is any allocator.
fn board(host: &Host, out: &mut Out) -> Result<(), CommandError> {
    let banks = host.board.banks.iter().map(|bank| bank.0);
    let banks: Vec<_> =
        banks.map(|bank| format!("{}@{}", Bytes(bank.bytes()), bank.start())).collect();
    let has_memory = host.cma.regions().iter().any(|region| region.backing().is_some());
    writeln!(
        out,
        "{BOLD}cma{BOLD:#} on the board {}, memory {}{}",
        host.board.title(),
        banks.join(", "),
        if has_memory { "" } else { " (simulated: addresses only)" }
    )?;
    title(
        out,
        "1. The board's regions come first. No allocator is loaded yet, so each region waits.",
        "A region is a reserved address range. It is described before any allocator is needed.",
    )?;
    Ok(regions::write(host, INDENT, out)?)
}

/// The plug-ins, and which regions each serves as it arrives.
fn late_allocators(
    host: &Host,
    options: &Options,
    out: &mut Out,
) -> Result<(Outcome, Vec<Plugin>), CommandError> {
    title(
        out,
        "2. Allocators come late: plug-ins, each tried in a child process, then loaded here.",
        "The first one is the default: it serves every region that requests none by name.",
    )?;
    let found = FoundPlugins::at_least_one(options)?;
    let mut outcome = found.report();
    for plugin in &found.plugins {
        let is_accepted = step(out, |out| loader_demo::register(&host.cma, plugin.clone(), out))?;
        outcome = outcome.max(Outcome::refused_if(!is_accepted));
    }
    Ok((outcome, found.plugins))
}

/// Requests of devices, one that is refused, a change of the allocator, and the frees.
fn devices(host: &Host, out: &mut Out) -> Result<Outcome, CommandError> {
    let cma = &host.cma;
    title(
        out,
        "3. Devices request by name and type. The map says which regions may serve them.",
        "Drivers name no region, so a system is retuned by another map and not by another driver.",
    )?;
    let devices = Devices::of(&cma.map());
    let requests = devices.requests();
    let chunks = step(out, |out| loader_demo::serve(cma, &requests, out))?;
    let is_refused = chunks.len() < requests.len();
    title(
        out,
        "4. A request that can't be served is refused with a reason for each region tried.",
        "The reasons distinguish a full region, a fragmented one, a bad fit and a missing allocator.",
    )?;
    if let Some(request) = requests.last() {
        step(out, |out| loader_demo::exceed_the_largest_hole(cma, request, out))?;
    }
    title(
        out,
        "5. A region can change its allocator while it is in use. No chunk moves.",
        "The new allocator adopts every live chunk where it is, or the old one stays.",
    )?;
    step(out, |out| loader_demo::swap_allocators(cma, &chunks, out))?;
    let is_consistent = step(out, |out| loader_demo::free_all(cma, chunks, out))?;
    Ok(Outcome::refused_if(is_refused || !is_consistent))
}

/// The requests of a recorded program, on every allocator.
fn recorded(plugins: &[Plugin], out: &mut Out) -> Result<(), CommandError> {
    title(
        out,
        "6. The requests of a recorded program, replayed on each allocator.",
        "The region is an eighth larger than the peak of live memory, so packing matters.",
    )?;
    let trace = Trace::read(cma_trace::DEMO)
        .map_err(|reason| CommandError::Trace { path: "the demo's own trace".into(), reason })?;
    let peak = trace.peak_live().get();
    let region_bytes = Pages::new((peak + peak / 8).next_multiple_of(256)).bytes();
    for line in wrapped(trace.source(), WIDTH - INDENT) {
        writeln!(out, "{:INDENT$}{line}", "")?;
    }
    writeln!(out, "   {DIM}(comes with cma-trace: traces/ffmpeg-transcode-1080p.trace.gz){DIM:#}")?;
    writeln!(out, "   {}", replay::summary(&trace, &replay::one_region(region_bytes)))?;
    // In so small a region some allocators refuse requests. That is a result, and no failure of the
    // demo.
    let (reports, _) = replay::replay(&trace, "demo", plugins, region_bytes);
    replay::write(out, INDENT, &reports)?;
    if cfg!(debug_assertions) {
        writeln!(
            out,
            "   {DIM}(an unoptimised build: ns/op means nothing; cargo run --release){DIM:#}"
        )?;
    }
    Ok(())
}

/// Commands to try next.
fn next(out: &mut Out) -> io::Result<()> {
    writeln!(out, "\n{BOLD}Next:{BOLD:#}")?;
    let program = env::args_os().next().unwrap_or_else(|| "cma".into());
    let program = relative(Path::new(&program));
    for (arguments, what) in [
        (
            "--cma 'a=8M:buddy;b=8M:bitmap;c=8M' --map '*=a,b,c'",
            "each region waits for its own allocator",
        ),
        ("--platform galaxy-s2 check", "warnings about a phone's real map"),
        ("shell", "by hand; --help has the rest"),
    ] {
        writeln!(out, "   {program} {arguments:53} {DIM}{what}{DIM:#}")?;
    }
    Ok(())
}

/// The path from the current folder, if it lies below it.
fn relative(path: &Path) -> String {
    let here = env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok());
    plain(&below.unwrap_or(path).display().to_string())
}
