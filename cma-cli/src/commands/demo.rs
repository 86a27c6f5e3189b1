//! `cma demo`: the framework at work, from a board's description to a comparison of its allocators.

mod asks;

use crate::commands::{regions, replay};
use crate::failure::{Failure, Outcome};
use crate::host::{Found, Host};
use crate::options::Options;
use crate::show::{BAD, BOLD, Column, DIM, GOOD, Out, counted, plain, table, wrapped};
use anstyle::Style;
use asks::{Ask, Asks, asks};
use cma_framework::config::{Bytes, COMMON};
use cma_framework::{AllocError, AllocatorChoice, AllocatorState, Chunk, PAGE_SIZE, Pages, Plugin};
use cma_trace::Trace;
use std::env;
use std::io::{self, Write};
use std::path::Path;

/// Where the text of a section stands.
const INDENT: usize = 3;

/// Where lines of words end.
const WIDTH: usize = 100;

pub(crate) fn run(options: &Options, out: &mut Out) -> Result<Outcome, Failure> {
    let host = Host::boot(options)?;
    board(&host, out)?;
    let (mut outcome, plugins) = late_allocators(&host, options, out)?;
    let Asks { codec, camera } = asks(&host.cma.map());
    let all: Vec<Ask> = codec.into_iter().chain(camera.iter().cloned()).collect();
    let chunks = requests(&host, &all, out)?;
    outcome =
        outcome.max(Outcome::refused_if(chunks.len() < all.len() || !host.left_out().is_empty()));
    if let Some(ask) = camera.first() {
        refusal(&host, ask, out)?;
    }
    change(&host, &chunks, out)?;
    outcome = outcome.max(end(&host, chunks, out)?);
    recorded(&plugins, out)?;
    next(out)?;
    Ok(outcome)
}

/// Words in lines that fit, under one another.
fn paragraph(out: &mut Out, indent: usize, style: Style, text: &str) -> io::Result<()> {
    for line in wrapped(text, WIDTH - indent) {
        writeln!(out, "{:indent$}{style}{line}{style:#}", "")?;
    }
    Ok(())
}

/// What happens next, and why it is so.
fn title(out: &mut Out, what: &str, why: &str) -> io::Result<()> {
    writeln!(out, "\n{BOLD}{what}{BOLD:#}\n   {DIM}{why}{DIM:#}\n")
}

/// The regions, before there is any allocator.
fn board(host: &Host, out: &mut Out) -> Result<(), Failure> {
    let banks: Vec<_> =
        host.board.banks.iter().map(|bank| size_at(bank.0.bytes(), bank.0.start())).collect();
    writeln!(
        out,
        "{BOLD}cma{BOLD:#} on the board {}, memory {} (simulated: addresses only)",
        host.board.name,
        banks.join(", ")
    )?;
    title(
        out,
        "1. The board's regions come first. No allocator is there yet, so each waits for one.",
        "A region is a reserved address range, described long before anything can divide it.",
    )?;
    Ok(regions::write(host, INDENT, out)?)
}

fn size_at(bytes: u64, start: cma_framework::DmaAddr) -> String {
    format!("{}@{start}", Bytes(bytes))
}

/// The plug-ins, and which regions each serves as it arrives.
fn late_allocators(
    host: &Host,
    options: &Options,
    out: &mut Out,
) -> Result<(Outcome, Vec<Plugin>), Failure> {
    title(
        out,
        "2. Allocators come late: plug-ins, each tried in a process of its own, then loaded here.",
        "The first one is the default: it serves every region that asked for none by name.",
    )?;
    let found = Found::some_on_path(options)?;
    let mut outcome = found.report();
    let mut registered = Vec::new();
    for plugin in found.plugins {
        let (attachments, went) = host.register_one(plugin.clone());
        outcome = outcome.max(went);
        let names: Vec<_> = attachments.attached.iter().map(ToString::to_string).collect();
        let file = plugin.path().map(short).unwrap_or_default();
        writeln!(
            out,
            "   {BOLD}{:9}{BOLD:#} {} {DIM}{file}{DIM:#}",
            plugin.name(),
            plugin.version()
        )?;
        let refused: Vec<_> =
            attachments.failed.iter().map(|(region, _)| region.to_string()).collect();
        if !names.is_empty() {
            paragraph(out, INDENT + 10, GOOD, &format!("now serves {}", names.join(", ")))?;
        }
        if !refused.is_empty() {
            paragraph(out, INDENT + 10, BAD, &format!("refuses {}", refused.join(", ")))?;
        }
        if names.is_empty() && refused.is_empty() {
            writeln!(out, "   {:9} no region waits for it", "")?;
        }
        registered.push(plugin);
    }
    Ok((outcome, registered))
}

/// The path as seen from where the user is.
fn short(path: &Path) -> String {
    let here = env::current_dir().ok();
    let short = here.and_then(|here| path.strip_prefix(here).ok());
    plain(&short.unwrap_or(path).display().to_string())
}

/// What devices ask for and get. The chunks that were served are answered.
fn requests(host: &Host, asks: &[Ask], out: &mut Out) -> Result<Vec<Chunk>, Failure> {
    use Column::{Left, Right};
    title(
        out,
        "3. Devices ask by name and type. The map says which regions may serve them.",
        "Drivers name no region, so a system is retuned by another map and not by another driver.",
    )?;
    let mut chunks = Vec::new();
    let mut refused = Vec::new();
    let mut rows = Vec::new();
    for ask in asks {
        let kind = ask.kind.as_deref();
        let map = host.cma.map();
        let allowed = map
            .regions_for(&ask.device, kind.unwrap_or(COMMON))
            .map(|names| names.collect::<Vec<_>>().join(","));
        let got = match host.cma.alloc(&ask.device, kind, ask.size, ask.alignment) {
            Ok(chunk) => {
                let got = format!("{} in {}", chunk.start(), chunk.region());
                chunks.push(chunk);
                got
            }
            Err(error) => {
                refused.push((ask, error));
                "refused".to_string()
            }
        };
        let alignment =
            if ask.alignment == 0 { "-".to_string() } else { Bytes(ask.alignment).to_string() };
        rows.push(vec![
            who(ask),
            ask.what.to_string(),
            Bytes(ask.size.next_multiple_of(PAGE_SIZE)).to_string(),
            alignment,
            allowed.unwrap_or_else(|| "no rule".to_string()),
            got,
        ]);
    }
    let columns = [
        Left("device/type"),
        Left("for"),
        Right("size"),
        Right("aligned"),
        Left("may use"),
        Left("gets"),
    ];
    table(out, INDENT, &columns, rows)?;
    for (ask, error) in refused {
        explain(out, ask, ask.size, &error)?;
    }
    Ok(chunks)
}

fn who(ask: &Ask) -> String {
    match &ask.kind {
        Some(kind) => format!("{}/{kind}", ask.device),
        None => ask.device.clone(),
    }
}

/// Why a request got nothing, region by region.
fn explain(out: &mut Out, ask: &Ask, size: u64, error: &AllocError) -> io::Result<()> {
    let errno = error.errno();
    writeln!(
        out,
        "   {} asks for {}: {BAD}{errno:?}{BAD:#}",
        who(ask),
        Bytes(size.next_multiple_of(PAGE_SIZE))
    )?;
    match error {
        AllocError::NoRegion(refusals) => refusals
            .iter()
            .try_for_each(|refusal| writeln!(out, "      {}: {}", refusal.region, refusal.reason)),
        error => writeln!(out, "      {error}"),
    }
}

/// A request that can't be served: a page more than the largest hole.
fn refusal(host: &Host, ask: &Ask, out: &mut Out) -> Result<(), Failure> {
    title(
        out,
        "4. A request that can't be served says why, for every region that was tried.",
        "The reasons tell a full region from a fragmented one, and a bad fit from a missing allocator.",
    )?;
    let map = host.cma.map();
    let names =
        map.regions_for(&ask.device, ask.kind.as_deref().unwrap_or(COMMON)).into_iter().flatten();
    let holes = names.filter_map(|name| Some(host.cma.region(name)?.status().largest_hole_bytes));
    let size = holes.max().unwrap_or(0) + PAGE_SIZE;
    match host.cma.alloc(&ask.device, ask.kind.as_deref(), size, 0) {
        Ok(chunk) => {
            writeln!(out, "   {} got {} at {}", who(ask), Bytes(chunk.size()), chunk.start())?;
        }
        Err(error) => explain(out, ask, size, &error)?,
    }
    Ok(())
}

/// Other allocators for a region in use: each adopts the chunks where they are, or says why it
/// can't.
fn change(host: &Host, chunks: &[Chunk], out: &mut Out) -> Result<(), Failure> {
    title(
        out,
        "5. A region can change its allocator while it is in use. No chunk moves.",
        "The new allocator adopts every live chunk where it is, or the old one stays.",
    )?;
    let Some(region) = chunks.iter().map(Chunk::region).max_by_key(|region| region.status().users)
    else {
        writeln!(out, "   No region is in use, so there is nothing to show.")?;
        return Ok(());
    };
    for registered in host.cma.allocators() {
        let AllocatorState::Attached(Some(old)) = region.status().allocator else { break };
        let Some(new) = registered.name.filter(|name| **name != *old) else { continue };
        let users = region.status().users;
        match host.cma.set_region_allocator(region, AllocatorChoice::named(&*new)) {
            Ok(_) => writeln!(
                out,
                "   {region}: {old} -> {new}: {GOOD}{} adopted{GOOD:#}",
                counted(users, "live chunk")
            )?,
            Err(error) => writeln!(out, "   {region}: {old} stays: {error}")?,
        }
    }
    Ok(())
}

/// Frees everything and looks at what is left.
fn end(host: &Host, chunks: Vec<Chunk>, out: &mut Out) -> Result<Outcome, Failure> {
    let count = chunks.len();
    drop(chunks);
    let mut outcome = Outcome::Done;
    for region in host.cma.regions() {
        let status = region.status();
        if let Err(broken) = region.check() {
            writeln!(out, "   {BAD}{region}: {broken}{BAD:#}")?;
            outcome = Outcome::Refused;
        } else if status.free_bytes != region.range().bytes() {
            writeln!(
                out,
                "   {BAD}{region}: {} free of {}{BAD:#}",
                Bytes(status.free_bytes),
                Bytes(region.range().bytes())
            )?;
            outcome = Outcome::Refused;
        }
    }
    if outcome == Outcome::Done && count > 0 {
        let what = if count == 1 {
            "the one chunk is".to_string()
        } else {
            format!("all {count} chunks are")
        };
        writeln!(
            out,
            "   Then {what} freed: books and allocators agree that every region is one hole again."
        )?;
    }
    Ok(outcome)
}

/// What a real program asked for, on every allocator.
fn recorded(plugins: &[Plugin], out: &mut Out) -> Result<(), Failure> {
    title(
        out,
        "6. What a real program asked for, replayed on each allocator.",
        "The region is an eighth larger than the most that was live, so packing matters.",
    )?;
    let trace = Trace::read(cma_trace::DEMO)
        .map_err(|reason| Failure::Trace { path: "the demo's own trace".into(), reason })?;
    let peak = trace.peak_live().get();
    let region_bytes = Pages::new((peak + peak / 8).next_multiple_of(256)).bytes();
    paragraph(out, INDENT, Style::new(), trace.source())?;
    writeln!(out, "   {DIM}(comes with cma-trace: traces/ffmpeg-transcode-1080p.trace.gz){DIM:#}")?;
    writeln!(out, "   {}", replay::summary(&trace, region_bytes))?;
    // That some fail in so little room is what is shown here, and no failure of the demo.
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

fn next(out: &mut Out) -> io::Result<()> {
    writeln!(out, "\n{BOLD}Next:{BOLD:#}")?;
    let program = env::args_os().next().unwrap_or_else(|| "cma".into());
    let program = short(Path::new(&program));
    for (arguments, what) in [
        (
            "--cma 'a=8M:buddy;b=8M:bitmap;c=8M' --map '*=a,b,c'",
            "each region waits for its own allocator",
        ),
        ("--platform galaxy-s2 check", "what is odd in a phone's real map"),
        ("shell", "by hand; --help has the rest"),
    ] {
        writeln!(out, "   {program} {arguments:53} {DIM}{what}{DIM:#}")?;
    }
    Ok(())
}
