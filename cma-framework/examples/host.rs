//! A host: it describes its regions, loads allocator plug-ins while it runs, and serves two
//! devices.
//!
//! ```sh
//! cargo build --release   # builds the plug-ins that come with the framework
//! cargo run --release -p cma-framework --example host -- target/release/deps
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example that shows what happens")]

use cma_framework::config::{Bank, Growth};
use cma_framework::loader::{SearchPath, Trial, load_all, trial_child};
use cma_framework::reserve::Banks;
use cma_framework::{Cma, EarlyState};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A plug-in that crashes while it is loaded crashes a copy of this process, not this one. The
    // copy starts here.
    if let Some(code) = trial_child() {
        return code;
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let cma = Cma::new();

    // The configuration of a board or a command line: a region for the codec, one for all devices.
    cma.command_line(Some("codec=8M/1M:buddy;common=24M"), Some("vdec=codec,common;*=common"))?;
    // The memory of the regions; here a bank that exists as addresses alone.
    let mut banks = Banks::new(&[Bank::new(0x4000_0000, 64 << 20)], Growth::Up);
    cma.early_regions_reserve(&mut banks);
    for early in cma.initialise() {
        let name = early.description().name.as_deref().unwrap_or("(private)");
        match early.state() {
            EarlyState::Registered(region) => println!("region {name} at {}", region.range()),
            other => println!("region {name} failed: {other:?}"),
        }
    }

    // Allocators are loaded later, and attached to the regions that wait for them.
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let trial = Trial::of_this_program();
    for (_, plugin) in load_all(&SearchPath::from_environment(&folders), Some(&trial)) {
        match plugin {
            Ok(plugin) => {
                let attached = cma.allocator_register(plugin.clone())?.attached;
                let attached: Vec<_> = attached.iter().map(ToString::to_string).collect();
                println!(
                    "allocator {} {} serves [{}]",
                    plugin.name(),
                    plugin.version(),
                    attached.join(", ")
                );
            }
            Err(error) => println!("not loaded: {error}"),
        }
    }

    // A driver that allocates often holds a `Device`. A frame is a guard, which frees its chunk
    // when it is dropped.
    let decoder = cma.device("vdec", None)?;
    let frames =
        (0..4).map(|_| decoder.alloc(3_133_440, 64 << 10)).collect::<Result<Vec<_>, _>>()?;
    for frame in &frames {
        println!("frame at {} in region {}", frame.start(), frame.region());
    }
    // Other drivers keep the address, and free the chunk by it.
    let address = cma.alloc("camera", None, 5 << 20, 0)?.into_addr();
    cma.free(address)?;

    // The error of a refused request has the reason of each region that was tried.
    match cma.alloc("vdec", None, 20 << 20, 0) {
        Ok(chunk) => println!("20 MiB at {}", chunk.start()),
        Err(error) => println!("20 MiB: {error}"),
    }
    Ok(())
}
