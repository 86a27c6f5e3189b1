//! A frame of video in memory that a device could use: physically contiguous where this machine
//! permits that.
//!
//! ```sh
//! cargo run -p cma-memory --example frame                     # ordinary memory, with the reason
//! echo 32 | sudo tee /proc/sys/vm/nr_hugepages                # the pool of huge pages
//! sudo target/debug/examples/frame                            # at its physical address
//! sudo target/debug/examples/frame memfd                      # as requested
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example that shows what happens")]

use cma_framework::config::{Bank, Growth};
use cma_framework::reserve::Banks;
use cma_framework::{Cma, Plugin};
use cma_memory::{Choice, Port, Ports};
use std::error::Error;
use std::process::ExitCode;

const WIDTH: usize = 1920;
/// Codecs work on blocks of 16 lines, so that 1080 become 1088.
const LINES: usize = 1088;
/// Luma, and half as much of chroma.
const SIZE: usize = WIDTH * LINES * 3 / 2;

fn main() -> ExitCode {
    match show() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn show() -> Result<(), Box<dyn Error>> {
    let choice = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => Choice::from(Port::Auto),
    };
    let cma = Cma::new();
    cma.command_line(Some("frames=16M"), Some("camera/frame=frames"))?;
    let banks = Banks::new(&[Bank::new(0x4000_0000, 256 << 20)], Growth::Up);
    let mut ports = Ports::new(banks, choice);
    cma.early_regions_reserve(&mut ports);
    for outcome in ports.outcomes() {
        println!("region {outcome}");
    }
    cma.initialise();
    let region = cma.region("frames").ok_or("no region, no frame")?;
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>())?;

    let camera = cma.device("camera", Some("frame"))?;
    // A chunk that is shared later must consist of whole pieces of its memory.
    let whole = region.backing().map_or(4096, |backing| backing.granule.bytes());
    let mut frame =
        camera.alloc((SIZE as u64).next_multiple_of(whole), whole.max(64 << 10))?.map()?;
    draw(&mut frame[..SIZE]);
    println!("frame at {}, in {} bytes", frame.start(), frame.len());

    // A device would read the same bytes.
    let lit = frame[..WIDTH].iter().filter(|luma| **luma > 127).count();
    println!("{lit} of the {WIDTH} dots of its first line are bright");
    frame.chunks(WIDTH).step_by(68).take(LINES / 68).for_each(|line| println!("{}", shades(line)));

    // Another process would get these files, and could access nothing else.
    let frame = frame.share();
    let pieces = frame.pieces()?.collect::<Result<Vec<_>, _>>()?;
    println!("for another process: {} of {} bytes each", pieces.len(), pieces[0].len);
    Ok(())
}

/// A frame in NV12: a plane of luma with a ramp and a disc, and one of chroma, a pair of bytes
/// for each four dots, without colour.
fn draw(frame: &mut [u8]) {
    let (luma, chroma) = frame.split_at_mut(WIDTH * LINES);
    for (y, line) in luma.chunks_mut(WIDTH).enumerate() {
        for (x, dot) in line.iter_mut().enumerate() {
            let (dx, dy) = (x.abs_diff(WIDTH / 2), y.abs_diff(LINES / 2));
            *dot = if dx * dx + dy * dy < 400 * 400 { 255 } else { (x * 256 / WIDTH) as u8 };
        }
    }
    chroma.fill(128);
}

/// A line of the frame for a terminal.
fn shades(line: &[u8]) -> String {
    line.chunks(WIDTH / 64)
        .map(|dots| [' ', '.', ':', '+', '#'][usize::from(dots[0]) * 5 / 256])
        .collect()
}
