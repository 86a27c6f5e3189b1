//! `cma conform`: the conformance suite on plug-ins.

use crate::found_plugins::FoundPlugins;
use crate::notice::Notice;
use crate::options::{ConformArgs, Options};
use crate::outcome::{CommandError, Outcome};
use crate::show::{BAD, BOLD, GOOD, Out, plain};
use cma_conform::guarantees::{ALL, Guarantee};
use cma_conform::{DEFAULT_SEED, Examination, Finding, Placing, Subject};
use cma_framework::loader::{PluginInterface, Trial, Tried};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(crate) fn run(
    options: &Options,
    args: &ConformArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    if args.list {
        for (name, _) in ALL {
            writeln!(out, "{name}")?;
        }
        return Ok(Outcome::Done);
    }
    let is_wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|it| it == name);
    let wanted: Vec<_> = ALL.iter().copied().filter(|(name, _)| is_wanted(name)).collect();
    let mut outcome = Outcome::Done;
    for given in &args.plugins {
        let (named, params) = with_parameters(given);
        let path = path_of(options, named)?;
        // A trial shows that the library can be loaded. It is loaded in child processes only.
        let tried = match Trial::of_this_program().run(&path) {
            Ok(tried) => tried,
            Err(error) => {
                Notice::from(&error).report();
                outcome = outcome.max(Outcome::NotDone);
                continue;
            }
        };
        let interface = tried
            .interface()
            .map_err(|source| CommandError::Conform { plugin: given.clone(), source })?;
        let examined = Examined { given, path: &path, params, placing: args.placing, interface };
        let done = examined.by(&tried, args.seed.unwrap_or(DEFAULT_SEED), &wanted, options, out)?;
        outcome = outcome.max(done);
    }
    Ok(outcome)
}

/// The plug-in or its name, and the parameters in brackets behind it. A file whose name has
/// brackets is one.
fn with_parameters(given: &str) -> (&str, &str) {
    match given.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        Some(parts) if !Path::new(given).exists() => parts,
        _ => (given, ""),
    }
}

/// The library of the plug-in that is named by its file, or by the name of its allocator.
fn path_of(options: &Options, named: &str) -> Result<PathBuf, CommandError> {
    if named.contains('/') || Path::new(named).exists() {
        return Ok(named.into());
    }
    let found = FoundPlugins::at_least_one(options)?;
    let plugin = found.plugins.iter().find(|plugin| plugin.name() == named);
    let path = plugin.and_then(|plugin| plugin.path()).map(Path::to_path_buf);
    path.ok_or_else(|| CommandError::UnknownAllocator {
        wanted: named.to_string(),
        known: found.plugins.iter().map(|plugin| plugin.name().to_string()).collect(),
    })
}

/// A plug-in, as it was named, with its parameters and the rule that is declared for it.
struct Examined<'a> {
    given: &'a str,
    path: &'a Path,
    params: &'a str,
    placing: Placing,
    interface: PluginInterface,
}

/// The verdict on a guarantee, as JSON.
#[derive(Debug, Serialize)]
struct VerdictRow<'a> {
    plugin: &'a str,
    placing: String,
    guarantee: &'a str,
    kept: bool,
    /// The kind of the violation, and the violation in words.
    violation: Option<&'a str>,
    what: Option<String>,
    /// The calls with their answers, and whether they are the shortest that were found, which show
    /// the violation on a new allocator.
    calls: Vec<String>,
    shortened: bool,
    region_start: Option<u64>,
    region_bytes: Option<u64>,
    test: Option<String>,
}

impl Examined<'_> {
    /// Checks the guarantees `wanted`, and prints the verdicts.
    fn by(
        &self,
        tried: &Tried,
        seed: u64,
        wanted: &[(&'static str, Guarantee)],
        options: &Options,
        out: &mut Out,
    ) -> Result<Outcome, CommandError> {
        let failed =
            |source: io::Error| CommandError::Conform { plugin: self.given.to_string(), source };
        // It lives as long as the process, as what is loaded does.
        let params: &'static str = self.params.to_string().leak();
        let subject = || {
            let copy = tried.try_clone().map_err(|error| error.to_string())?;
            let plugin = copy.load().map_err(|error| error.to_string())?;
            Ok(Subject { algorithm: plugin.algorithm(), params, placing: self.placing })
        };
        let examination = Examination::new(subject).map_err(failed)?.with_seed(seed);
        let style = ProgressStyle::with_template("{wide_msg} {pos}/{len}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(wanted.len() as u64).with_style(style);
        let mut broken = 0;
        for (name, guarantee) in wanted {
            bar.set_message(name.replace('_', " "));
            bar.tick();
            let mut shortening = |calls| {
                bar.set_message(format!("{}: broken, {calls} calls", name.replace('_', " ")));
            };
            let finding = examination.examine(name, *guarantee, &mut shortening).map_err(failed)?;
            bar.inc(1);
            broken += usize::from(finding.is_some());
            bar.suspend(|| self.print(name, finding.as_ref(), options, out))?;
        }
        bar.finish_and_clear();
        if !options.json {
            self.summarise(wanted.len(), broken, out)?;
        }
        Ok(Outcome::refused_if(broken > 0))
    }

    fn print(
        &self,
        guarantee: &str,
        finding: Option<&Finding>,
        options: &Options,
        out: &mut Out,
    ) -> io::Result<()> {
        let test = finding
            // `cma-testkit` loads plug-ins in Rust alone.
            .filter(|_| self.interface == PluginInterface::Rust)
            .and_then(|it| it.test(self.path, self.params, self.placing));
        if options.json {
            let region = finding.and_then(|it| it.calls().first()).map(|call| call.region);
            let row = VerdictRow {
                plugin: self.given,
                placing: self.placing.to_string(),
                guarantee,
                kept: finding.is_none(),
                violation: finding.map(Finding::kind),
                what: finding.map(Finding::what),
                calls: finding.map(Finding::lines).unwrap_or_default(),
                shortened: finding.is_some_and(Finding::is_shortened),
                region_start: region.map(|region| region.start().get()),
                region_bytes: region.map(|region| region.pages().bytes()),
                test,
            };
            writeln!(out, "{}", serde_json::to_string(&row)?)?;
        } else if let Some(finding) = finding {
            writeln!(out, "{finding}")?;
            if !finding.is_shortened() {
                writeln!(out, "    (these calls alone don't show it)")?;
            }
            if let Some(test) = test {
                writeln!(out, "    as a test:\n")?;
                for line in test.lines() {
                    writeln!(out, "    {line}")?;
                }
            }
            writeln!(out)?;
        }
        out.flush()
    }

    fn summarise(&self, all: usize, broken: usize, out: &mut Out) -> io::Result<()> {
        let given = plain(self.given);
        match (broken, all) {
            (0, 1) => {
                writeln!(out, "{BOLD}{given}{BOLD:#}: {GOOD}the guarantee is kept{GOOD:#}")
            }
            (0, all) => {
                writeln!(out, "{BOLD}{given}{BOLD:#}: {GOOD}all {all} guarantees are kept{GOOD:#}")
            }
            (broken, all) => writeln!(
                out,
                "{BOLD}{given}{BOLD:#}: {BAD}{broken} of {all} guarantees broken{BAD:#}"
            ),
        }
    }
}
