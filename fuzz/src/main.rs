//! `cma-fuzz`: runs fuzz targets for a bounded time, and replays inputs.

use clap::Parser;
use cma_fuzz::{Campaign, Failure, Limit, TARGETS, Target, Watchdog, artifacts_folder};
use std::error::Error;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};
use std::time::Duration;

/// Tests the parsers and allocators with generated inputs; README.md of `fuzz` has more.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Options {
    /// The targets to run; all without any
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// The time for each target, in seconds
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    seconds: f64,
    /// The number of inputs for each target, in place of a time
    #[arg(long, conflicts_with = "seconds")]
    runs: Option<u64>,
    /// The seed of the generated inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs one target on this file alone; may be repeated
    #[arg(long, value_name = "FILE")]
    input: Vec<PathBuf>,
    /// The time limit of a run, in seconds; a longer run is a failure
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    timeout: f64,
    /// Writes each input to this file before it runs, to have it if a signal ends the process
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Lists the targets
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("cma-fuzz: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Prints a line. A line that can't be printed is lost.
fn say(line: &str) {
    let _ = writeln!(stdout(), "{line}");
}

/// Carries out the options. Returns whether all targets passed.
fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    if options.list {
        TARGETS.iter().for_each(|target| say(&format!("{:<11} {}", target.name, target.about)));
        return Ok(true);
    }
    let targets = targets(&options.targets)?;
    if options.input.is_empty() {
        let passed = targets.iter().map(|target| campaign(options, target));
        return passed.collect::<Result<Vec<bool>, _>>().map(|passed| !passed.contains(&false));
    }
    let [target] = targets[..] else { return Err("--input needs one target".into()) };
    let inputs = options.input.iter().map(|path| fs::read(path).map_err(|error| at(path, &error)));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let runs = Limit::Runs(inputs.len() as u64);
    Ok(finish(options, target, inputs, runs)?)
}

fn targets(names: &[String]) -> Result<Vec<&'static Target>, String> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let target = |name: &String| {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        Target::named(name)
            .ok_or_else(|| format!("there is no target {name}; there are {}", known.join(", ")))
    };
    names.iter().map(target).collect()
}

fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Runs one target on its corpus and on generated inputs. Returns whether it passed.
fn campaign(options: &Options, target: &'static Target) -> Result<bool, Box<dyn Error>> {
    let corpus = target.corpus().map_err(|error| at(&target.corpus_folder(), &error))?;
    let corpus = corpus.into_iter().map(|(_, input)| input).collect();
    let limit = match options.runs {
        Some(runs) => Limit::Runs(runs),
        None => Limit::Time(Duration::try_from_secs_f64(options.seconds)?),
    };
    Ok(finish(options, target, corpus, limit)?)
}

/// Runs `target` and reports. Returns whether it passed.
fn finish(
    options: &Options,
    target: &'static Target,
    corpus: Vec<Vec<u8>>,
    limit: Limit,
) -> Result<bool, String> {
    let timeout = options.timeout;
    let limit_of_run =
        Duration::try_from_secs_f64(timeout).map_err(|error| format!("--timeout: {error}"))?;
    let watchdog = Watchdog::start(limit_of_run, move |input| {
        say(&format!("{:<11} FAILED: a run takes longer than {timeout} s", target.name));
        if let Err(error) = store(target, input) {
            say(&format!("cma-fuzz: {error}"));
        }
        exit(1);
    });
    let keep = |input: &[u8]| {
        if let Some(path) = &options.keep
            && let Err(error) = fs::write(path, input)
        {
            say(&format!("cma-fuzz: {}", at(path, &error)));
        }
    };
    match Campaign::new(target, corpus, options.seed, watchdog).run(limit, keep) {
        Ok(report) => {
            say(&format!(
                "{:<11} {:>8} runs, {:>3} % accepted, {:>3} classes of outcomes",
                target.name,
                report.runs,
                report.accepted * 100 / report.runs.max(1),
                report.outcomes
            ));
            Ok(true)
        }
        Err(failure) => {
            let Failure { input, found_bytes, run, panic } = *failure;
            say(&format!(
                "{:<11} FAILED in run {run}: {}\n  at {}\n  input of {} bytes, shrunk from \
                 {found_bytes}: \"{}\"",
                target.name,
                panic.message,
                panic.location,
                input.len(),
                input[..input.len().min(400)].escape_ascii()
            ));
            store(target, &input)?;
            Ok(false)
        }
    }
}

/// Writes a failing input to a file and prints how to run it again.
fn store(target: &Target, input: &[u8]) -> Result<(), String> {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let folder = artifacts_folder(target);
    let path = folder.join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, input))
        .map_err(|error| at(&path, &error))?;
    say(&format!(
        "  run it again: cargo run -p cma-fuzz --release -- {} --input {}",
        target.name,
        path.display()
    ));
    Ok(())
}
