//! `cma size --learn`: what recordings of a program teach packing, as a file.

use super::no_demand;
use crate::commands::replay::{read, shown};
use crate::new_file::NewFile;
use crate::options::{Options, SizeArgs};
use crate::outcome::{CommandError, Outcome};
use crate::show::{Column, Out, counted, plain, table, width, wrapped};
use cma_analysis::{Demand, Effect, Learned, learn};
use cma_framework::Pages;
use cma_framework::config::Bytes;
use cma_packing::{HEADER, Profile};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

pub(super) fn run(
    options: &Options,
    args: &SizeArgs,
    path: &Path,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    if options.map.is_some() {
        return Err(CommandError::LearnByMap);
    }
    let unusable = |reason| CommandError::ProfilePath { path: path.to_path_buf(), reason };
    let parameter = Profile::parameter(path).map_err(unusable)?;
    let unwritten = |source| CommandError::Profile { path: path.to_path_buf(), source };
    // Before the search, which takes its time.
    drop(NewFile::create(path).map_err(unwritten)?);
    let name = |path| shown(path).display().to_string();
    let names: Vec<String> = args.traces.iter().map(|path| name(path)).collect();
    let traces = args.traces.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let mut demands = Vec::new();
    for (trace, name) in traces.iter().zip(&names) {
        demands.push(Demand::of(trace, args.at).map_err(|reason| no_demand(name, reason))?);
    }
    let learned = search(&demands).map_err(|reason| CommandError::NothingToLearn {
        trace: names[reason.recording].clone(),
        reason,
    })?;
    let text = text(&learned, &names);
    let file = NewFile::create(path).map_err(unwritten)?;
    file.write(|file| file.write_all(text.as_bytes())).map_err(unwritten)?;
    let recordings = || names.iter().zip(&learned.effects);
    if options.json {
        for (trace, effect) in recordings() {
            let row = Row::new(trace, effect, &learned, path);
            writeln!(out, "{}", serde_json::to_string(&row).map_err(io::Error::from)?)?;
        }
        return Ok(Outcome::Done);
    }
    use Column::{Left, Right};
    let columns = [Left("trace"), Right("peak"), Right("packing"), Right("with the profile")];
    let row = |(trace, effect): (&String, &Effect)| {
        let peak = Bytes(effect.peak.bytes()).to_string();
        let of_peak = |pages| format!("{:.3}", of_peak(pages, effect));
        vec![plain(trace), peak, of_peak(effect.without), of_peak(effect.with)]
    };
    table(out, 0, &columns, recordings().map(row))?;
    let tried = counted(learned.choices as u64, "choice");
    let found = match learned.is_default() {
        true => format!(
            "no choice of numbers, of {tried}, is clearly better than those without a profile, \
             which {} has therefore",
            path.display()
        ),
        false => format!("{}: the best of {tried} of numbers", path.display()),
    };
    let used = format!("to use it: packing({parameter})");
    for text in [found, used] {
        wrapped(&plain(&text), width()).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(Outcome::Done)
}

/// Learns, with the progress on the terminal.
fn search(demands: &[Demand<'_>]) -> Result<Learned, cma_analysis::CannotLearn> {
    let style = ProgressStyle::with_template("{spinner} {msg} after {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    let learned = learn(demands, &|| {
        bar.inc(1);
        bar.set_message(format!("{} for a size", counted(bar.position(), "search")));
    });
    bar.finish_and_clear();
    learned
}

/// The file: the profile, and in comments what taught it.
fn text(learned: &Learned, names: &[String]) -> String {
    let profile = learned.profile.to_string();
    let rest = profile.strip_prefix(HEADER).unwrap_or(&profile).trim_start();
    let mut text = format!("{HEADER}\n# `cma size --learn` wrote this. It was taught by:\n");
    for (name, effect) in names.iter().zip(&learned.effects) {
        let _ = writeln!(
            text,
            "# - {}: peak {}; needs {:.3} of it, and {:.3} without a profile",
            plain(name),
            Bytes(effect.peak.bytes()),
            of_peak(effect.with, effect),
            of_peak(effect.without, effect)
        );
    }
    text + rest
}

/// `pages` as a multiple of the peak.
fn of_peak(pages: Pages, effect: &Effect) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a ratio for display")]
    let ratio = pages.get() as f64 / effect.peak.get() as f64;
    ratio
}

/// One line of JSON.
#[derive(Serialize)]
struct Row<'a> {
    trace: &'a str,
    profile: String,
    peak_live_bytes: u64,
    /// Without a profile.
    default_region_bytes: u64,
    region_bytes: u64,
    /// The same, divided by `peak_live_bytes`, to four decimals.
    default_overhead: f64,
    overhead: f64,
    steepness: f64,
    share: f64,
    steepest: f64,
    own_grade: f64,
    choices_tried: usize,
}

impl<'a> Row<'a> {
    fn new(trace: &'a str, effect: &Effect, learned: &Learned, path: &Path) -> Self {
        let overhead = |pages| (of_peak(pages, effect) * 1e4).round() / 1e4;
        let rule = learned.profile.rule;
        Row {
            trace,
            profile: path.display().to_string(),
            peak_live_bytes: effect.peak.bytes(),
            default_region_bytes: effect.without.bytes(),
            region_bytes: effect.with.bytes(),
            default_overhead: overhead(effect.without),
            overhead: overhead(effect.with),
            steepness: rule.steepness,
            share: rule.share,
            steepest: rule.steepest,
            own_grade: rule.own_grade,
            choices_tried: learned.choices,
        }
    }
}
