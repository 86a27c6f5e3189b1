//! The measurements.

use crate::{BEST_FIT, CONTESTANTS, DEVICE, KEEPING, NAMES, OFFSET};
use cma_benches::framework::{self, ByDevice};
use cma_benches::latency::p999;
use cma_benches::ours::Ours;
use cma_benches::replay::{ReplayResult, median_ratio};
use cma_benches::start::Installed;
use cma_benches::threads::{Regions, million_pairs, speedup};
use cma_benches::{Workload, instructions, peers};
use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A contestant and the function that times its single allocations.
type LatencyEntry = (&'static str, fn(&Workload) -> f64);

const LATENCIES: [LatencyEntry; 3] = [
    (BEST_FIT, p999::<Ours<cma_best_fit::BestFit>>),
    (DEVICE, p999::<ByDevice<framework::BestFitPlugin>>),
    (OFFSET, p999::<peers::OffsetAllocator>),
];

/// The contestants whose instructions are counted.
pub(crate) const COUNTED: [&str; 5] = [BEST_FIT, DEVICE, NAMES, KEEPING, OFFSET];

/// Starts of `cma`.
const STARTS: usize = 21;

/// No round starts that would probably end later than this.
const LIMIT: Duration = Duration::from_secs(240);

/// The measurements, with one entry per round unless they say otherwise.
pub(crate) struct Measured {
    /// By workload and contestant.
    placing: HashMap<(String, &'static str), Vec<ReplayResult>>,
    /// p99.9 of an allocation on W1 in nanoseconds, by contestant.
    pub(crate) latency: HashMap<&'static str, Vec<f64>>,
    /// The speedup of two threads over one: on two regions, on one, and on one with caches.
    pub(crate) threads: [Vec<f64>; 3],
    /// Million pairs per second of toggled pages in one pool, of one thread and of two: without
    /// caches and with them.
    pub(crate) toggles: [[Vec<f64>; 2]; 2],
    /// Bytes per live chunk after W1 and after W4 with 100 k chunks, in the order of the output.
    pub(crate) memory: Vec<(String, [f64; 2])>,
    /// Instructions per pair on W1, by contestant, or why they were not counted.
    pub(crate) instructions: HashMap<&'static str, Result<f64, String>>,
    /// Milliseconds from the start of `cma` to its first chunk, one entry per start, or why there
    /// are none.
    pub(crate) start: Result<Vec<f64>, String>,
}

impl Measured {
    /// The measurements of at most that many rounds, and of all of them if they are `heavy`.
    pub(crate) fn by(rounds: usize, heavy: bool) -> Measured {
        let mut workloads = vec![
            Workload::mixed(),
            Workload::mixed_pow2(),
            Workload::video(),
            Workload::pages(),
            Workload::live(1_000),
            Workload::live(10_000),
            Workload::live(100_000),
            Workload::huge_pages(),
            Workload::ffmpeg(),
            Workload::gstreamer(),
        ];
        if heavy {
            workloads.push(Workload::live(1_000_000));
        }
        let start = starts();
        // After the build of `cma`, which may take minutes.
        let begin = Instant::now();
        eprintln!("instructions");
        let instructions = COUNTED.map(|contestant| {
            let rounds = Path::new(env!("CARGO_BIN_EXE_rounds"));
            (contestant, instructions::per_pair(rounds, &workloads[0], contestant))
        });
        let mut measured = Measured {
            memory: memory(),
            start,
            instructions: instructions.into(),
            placing: HashMap::new(),
            latency: HashMap::new(),
            threads: Default::default(),
            toggles: Default::default(),
        };
        for round in 1..=rounds {
            eprintln!("round {round} of {rounds}");
            let begin_of_round = Instant::now();
            measured.add_round(round, &workloads, heavy);
            if begin.elapsed() + begin_of_round.elapsed() > LIMIT && !heavy {
                break;
            }
        }
        measured
    }

    fn add_round(&mut self, round: usize, workloads: &[Workload], heavy: bool) {
        for workload in workloads {
            let mut order = CONTESTANTS;
            order.rotate_left(round % CONTESTANTS.len());
            for entry in order {
                if (entry.serves)(workload) && (heavy || !(entry.is_heavy)(workload)) {
                    let place =
                        self.placing.entry((workload.name.clone(), entry.name)).or_default();
                    place.push((entry.replay)(workload));
                }
            }
        }
        // A few slow allocations decide these figures, so they vary more than averages, and run
        // more often.
        let mut latencies = LATENCIES;
        for _ in 0..LATENCIES.len() {
            latencies.rotate_left(1);
            for (name, time) in latencies {
                self.latency.entry(name).or_default().push(time(&workloads[0]));
            }
        }
        let threads = [Workload::threads(0), Workload::threads(1)];
        for (n, regions) in [Regions::Own, Regions::SHARED, Regions::CACHED].into_iter().enumerate()
        {
            self.threads[n].push(speedup::<framework::BestFitPlugin>(&threads, regions));
        }
        let toggles = [Workload::toggles(0), Workload::toggles(1)];
        for (n, regions) in [Regions::SHARED, Regions::CACHED].into_iter().enumerate() {
            let pairs = million_pairs::<framework::BestFitPlugin>(&toggles, regions);
            self.toggles[n].iter_mut().zip(pairs).for_each(|(rounds, pairs)| rounds.push(pairs));
        }
    }

    /// The number of rounds that were run.
    pub(crate) fn rounds(&self) -> usize {
        self.threads[0].len()
    }

    pub(crate) fn outcomes(
        &self,
        workload: &str,
        contestant: &'static str,
    ) -> Option<&[ReplayResult]> {
        self.placing.get(&(workload.to_owned(), contestant)).map(Vec::as_slice)
    }

    pub(crate) fn times(&self, workload: &str, contestant: &'static str) -> Vec<f64> {
        let outcomes = self.outcomes(workload, contestant).unwrap_or_default();
        outcomes.iter().map(|outcome| outcome.nanoseconds_per_pair).collect()
    }

    /// The ratio of the times of two contestants.
    pub(crate) fn ratio(&self, workload: &str, of: &'static str, to: &'static str) -> f64 {
        median_ratio(&self.times(workload, of), &self.times(workload, to))
    }
}

/// Runs the program `memory`, which counts heap bytes: counting would cost time here.
fn memory() -> Vec<(String, [f64; 2])> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_memory")).output().expect("cargo builds the program");
    let text = String::from_utf8(output.stdout).expect("the program writes text");
    let line = |line: &str| {
        let mut fields = line.split('\t');
        let name = fields.next()?.to_owned();
        let mut number = || fields.next()?.parse().ok();
        Some((name, [number()?, number()?]))
    };
    text.lines().map(|text| line(text).expect("a name and two numbers")).collect()
}

/// Builds `cma`, which is another package's program, and times its starts.
fn starts() -> Result<Vec<f64>, String> {
    let rounds = Path::new(env!("CARGO_BIN_EXE_rounds"));
    let built = rounds.parent().ok_or("the folder of the programs is unknown")?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let build = Command::new(cargo).args(["build", "--release", "--package", "cma-cli"]).status();
    match build {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("cargo can't build cma ({status})")),
        Err(error) => return Err(format!("cargo can't be started: {error}")),
    }
    eprintln!("starts of cma");
    let measure = || {
        let installed = Installed::from(built)?;
        let milliseconds = |_| Ok(installed.first_chunk()?.as_secs_f64() * 1e3);
        (0..STARTS).map(milliseconds).collect::<io::Result<Vec<f64>>>()
    };
    measure().map_err(|error| error.to_string())
}
