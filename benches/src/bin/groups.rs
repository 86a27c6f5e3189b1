//! Places the objects of a published mix in eight regions, by several ways to choose the region,
//! and prints how many requests each refuses: what a group `a|b` of a list of regions is worth.
//!
//! The mix is that of kvcache-ai/Mooncake#4000, where a store puts each object into one of eight
//! segments of 152 MiB: 16,320 objects, 99.84 % of their bytes in payloads of 10.5 to 12.4 MiB with
//! 80 different sizes, and 31 small objects for each three payloads, all removed one to three steps
//! after they were written. The recording is not public, so this makes the objects anew from that
//! description: 12 writers of 40 steps, which write 34 objects in each. Sizes are rounded up to
//! pages.
#![allow(clippy::print_stdout, reason = "a program whose purpose is to print a table")]

use clap::Parser;
use cma_benches::random::SplitMix64;
use cma_framework::{AllocError, AllocatorChoice, Chunk, Cma, DmaAddr, Plugin, Region};

/// Refused requests and fragmentation of ways to choose a region.
#[derive(Debug, Parser)]
struct Arguments {
    /// The size of each region in MiB; may be repeated.
    #[arg(long, default_values_t = [152, 144, 136, 128])]
    mib: Vec<u64>,
    /// The number of runs, each with another mix.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
}

const REGIONS: u64 = 8;
const WRITERS: usize = 12;
const STEPS: usize = 40;
const MIB: u64 = 1 << 20;

/// The sizes of the small objects, and how many of each a writer writes in a step.
const SMALL: [(u64, usize); 10] = [
    (256, 4),
    (384, 4),
    (448, 3),
    (640, 2),
    (896, 1),
    (1536, 1),
    (2304, 5),
    (3072, 5),
    (3840, 4),
    (9896, 2),
];

/// The payloads that a writer writes in a step.
const PAYLOADS: usize = 3;

/// The different sizes of payloads, from 10.5 MiB to 12.4 MiB.
const PAYLOAD_SIZES: u32 = 80;

/// How the region of an object is chosen. The next ones are tried when it refuses.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// In the order of the list.
    InOrder,
    /// From a random one on.
    Random,
    /// The one with most free memory first.
    MostFree,
    /// The one that fits best: one group.
    Group,
}

impl Way {
    const ALL: [Way; 4] = [Way::Random, Way::MostFree, Way::InOrder, Way::Group];

    fn name(self) -> &'static str {
        match self {
            Way::InOrder => "list `a,b,...`, in order",
            Way::Random => "from a random region on",
            Way::MostFree => "most free memory first",
            Way::Group => r"group `a\|b\|...`, best fit",
        }
    }

    /// The list of regions for the next object.
    fn list(self, regions: &[Region], random: &mut SplitMix64) -> String {
        let mut order: Vec<_> = regions.iter().collect();
        match self {
            Way::InOrder | Way::Group => {}
            Way::Random => order.rotate_left(random.below(regions.len() as u32) as usize),
            Way::MostFree => {
                order.sort_by_key(|region| std::cmp::Reverse(region.status().free_bytes));
            }
        }
        let names: Vec<_> = order.into_iter().filter_map(Region::name).collect();
        names.join(if matches!(self, Way::Group) { "|" } else { "," })
    }
}

/// What one run shows.
struct Outcome {
    refused: usize,
    /// One minus the largest holes over the free memory, after each step of a writer.
    fragmentation: Vec<f64>,
}

/// An object that is live.
struct Object {
    _chunk: Chunk,
    /// The step at whose beginning it is removed.
    until: usize,
}

fn main() -> Result<(), AllocError> {
    let Arguments { mib, runs } = Arguments::parse();
    println!("Refused of 16,320: median, least and most of {runs} runs; median fragmentation.\n");
    let sizes: Vec<_> = mib.iter().map(|mib| format!("{REGIONS} x {mib} MiB")).collect();
    println!("| region of an object | {} |", sizes.join(" | "));
    println!("| --- |{}", " --- |".repeat(mib.len()));
    for way in Way::ALL {
        let cells = mib.iter().map(|mib| cell(way, mib * MIB, runs));
        println!("| {} | {} |", way.name(), cells.collect::<Result<Vec<_>, _>>()?.join(" | "));
    }
    Ok(())
}

fn cell(way: Way, bytes: u64, runs: u64) -> Result<String, AllocError> {
    let outcomes = (0..runs).map(|seed| run(way, bytes, seed)).collect::<Result<Vec<_>, _>>()?;
    let mut refused: Vec<_> = outcomes.iter().map(|outcome| outcome.refused).collect();
    refused.sort_unstable();
    let mut all: Vec<_> = outcomes.into_iter().flat_map(|outcome| outcome.fragmentation).collect();
    all.sort_by(f64::total_cmp);
    let (refusals, median) = (refused[refused.len() / 2], all[all.len() / 2]);
    let (least, most) = (refused[0], refused[refused.len() - 1]);
    Ok(format!("{refusals} ({least} to {most}); {median:.2}"))
}

fn run(way: Way, bytes: u64, seed: u64) -> Result<Outcome, AllocError> {
    let cma = Cma::new();
    let plugin = Plugin::built_in::<cma_best_fit::BestFit>();
    cma.allocator_register(plugin).expect("the first of its name");
    let regions: Vec<_> = (0..REGIONS)
        .map(|number| {
            let start = DmaAddr::new((number + 1) << 30);
            let name = format!("r{number}");
            cma.region_register(Some(&name), start, bytes, AllocatorChoice::Default)
                .expect("regions that don't overlap")
        })
        .collect();
    let mut mix = SplitMix64::new(seed);
    // Of its own, so that the mix doesn't depend on the way.
    let mut choices = SplitMix64::new(!seed);
    let mut writers: Vec<Vec<Object>> = (0..WRITERS).map(|_| Vec::new()).collect();
    let mut outcome = Outcome { refused: 0, fragmentation: Vec::new() };
    for step in 0..STEPS {
        for writer in &mut writers {
            writer.retain(|object| object.until > step);
            for size in objects_of_step(&mut mix) {
                let until = step + 1 + mix.below(3) as usize;
                let list = way.list(&regions, &mut choices);
                match cma.alloc_from(&list, size, 0) {
                    Ok(chunk) => writer.push(Object { _chunk: chunk, until }),
                    Err(AllocError::NoRegion(_)) => outcome.refused += 1,
                    Err(error) => return Err(error),
                }
            }
            outcome.fragmentation.push(fragmentation(&regions));
        }
    }
    Ok(outcome)
}

/// The sizes of the objects that a writer writes in a step.
fn objects_of_step(mix: &mut SplitMix64) -> Vec<u64> {
    let (least, most) = (10.5 * MIB as f64, 12.4 * MIB as f64);
    let of_payload = |number: u32| {
        (least + (most - least) * f64::from(number) / f64::from(PAYLOAD_SIZES - 1)) as u64
    };
    let payloads = (0..PAYLOADS).map(|_| of_payload(mix.below(PAYLOAD_SIZES)));
    let small = SMALL.iter().flat_map(|(size, count)| std::iter::repeat_n(*size, *count));
    payloads.chain(small).collect()
}

fn fragmentation(regions: &[Region]) -> f64 {
    let statuses: Vec<_> = regions.iter().map(Region::status).collect();
    let sum = |bytes: fn(&cma_framework::RegionStatus) -> u64| {
        statuses.iter().map(bytes).sum::<u64>() as f64
    };
    1.0 - sum(|status| status.largest_hole_bytes) / sum(|status| status.free_bytes)
}
