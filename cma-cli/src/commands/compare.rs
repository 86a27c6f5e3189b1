//! `cma compare`: allocators side by side on recorded traces.

use super::replay::{read, shown};
use super::size::no_demand;
use crate::contenders::Contender;
use crate::options::{CompareArgs, Options};
use crate::outcome::{CommandError, Outcome};
use crate::show::{BOLD, Column, DIM, Out, counted, plain, table, width, wrapped};
use cma_analysis::{
    Allocator, Demand, Pressure, Score, Smallest, Spread, Unserved, Verdict, pressure,
    smallest_region, speeds,
};
use cma_framework::config::Bytes;
use cma_framework::errors::RegisterError;
use cma_framework::{PageRange, Pages};
use cma_trace::Trace;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::Serialize;
use std::io::{self, Write};

pub(crate) fn run(
    options: &Options,
    args: &CompareArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    let (contenders, mut outcome) = Contender::chosen(options, &args.allocator)?;
    if contenders.len() < 2 {
        return Err(CommandError::OneAllocator);
    }
    let names: Vec<_> = contenders.iter().map(|contender| contender.name.clone()).collect();
    let mut scores = Vec::new();
    for path in &args.traces {
        let name = shown(path).display().to_string();
        let compared = read(path).and_then(|trace| {
            let compared = Compared::of(&name, &trace, &contenders, args)?;
            Ok((trace, compared))
        });
        let (trace, compared) = match compared {
            Ok(compared) => compared,
            Err(error) => {
                outcome = outcome.max(error.report());
                continue;
            }
        };
        let refused = compared.rows.iter().any(|row| row.error().is_some());
        outcome = outcome.max(Outcome::refused_if(refused));
        if options.json {
            for row in compared.json(&name, &names, args.runs) {
                writeln!(out, "{}", serde_json::to_string(&row).map_err(io::Error::from)?)?;
            }
        } else {
            compared.write(&name, &trace, &names, args.runs, out)?;
            writeln!(out)?;
        }
        scores.push(compared.scores());
    }
    if scores.is_empty() {
        return Ok(outcome);
    }
    let verdict = Verdict::of(&names, &scores, args.runs).to_string();
    if options.json {
        let verdict = serde_json::json!({ "verdict": verdict });
        writeln!(out, "{verdict}")?;
    } else {
        wrapped(&verdict, width()).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(outcome)
}

/// The allocators on one trace.
struct Compared {
    peak: Pages,
    /// The region in which they are compared.
    region: PageRange,
    /// The region in which they are measured.
    wide: PageRange,
    rows: Vec<Row>,
}

/// One of the allocators.
struct Row {
    smallest: Result<Smallest, Unserved>,
    /// These two are the reason if the allocator refuses the region or its parameters.
    pressure: Result<Pressure, RegisterError>,
    speed: Result<Spread, RegisterError>,
}

impl Compared {
    fn of(
        name: &str,
        trace: &Trace,
        contenders: &[Contender],
        args: &CompareArgs,
    ) -> Result<Compared, CommandError> {
        let demand = Demand::of(trace, None).map_err(|reason| no_demand(name, reason))?;
        let style = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let steps = (contenders.len() * (2 + args.runs)) as u64;
        let bar = ProgressBar::new(steps).with_style(style).with_message("smallest regions");
        let allocators: Vec<&Allocator> = contenders.iter().map(|c| &c.allocator).collect();
        let smallest: Vec<_> = allocators
            .par_iter()
            .map(|allocator| {
                let found = smallest_region(&demand, allocator, &|| ());
                bar.inc(1);
                found
            })
            .collect();
        let peak = demand.peak().pages;
        let first = demand.start().page();
        let wide = smallest.iter().map(|found| match found {
            Ok(found) => found.largest,
            Err(unserved) => unserved.largest,
        });
        let wide = PageRange::from_pages(first, wide.max().unwrap_or(peak).get());
        let served = smallest.iter().filter_map(|found| Some(found.as_ref().ok()?.region.pages()));
        let pages = args.region.map(Pages::covering).or_else(|| served.min());
        let region = pages.map_or(wide, |pages| PageRange::from_pages(first, pages.get()));
        bar.set_message("pressure");
        let pressures: Vec<_> = allocators
            .par_iter()
            .map(|allocator| {
                let found = pressure(trace, allocator, region);
                bar.inc(1);
                found
            })
            .collect();
        bar.set_message("speed");
        // On this thread alone: a measurement next to others measures their noise.
        let speeds = speeds(trace, &allocators, wide, args.runs, || bar.inc(1));
        bar.finish_and_clear();
        let rows = smallest.into_iter().zip(pressures).zip(speeds);
        let rows = rows.map(|((smallest, pressure), speed)| Row { smallest, pressure, speed });
        Ok(Compared { peak, region, wide, rows: rows.collect() })
    }

    fn scores(&self) -> Vec<Score> {
        let score = |row: &Row| Score {
            region: row.smallest.as_ref().ok().map(|found| found.region.pages()),
            peak: self.peak,
            speed: row.speed.as_ref().ok().copied(),
        };
        self.rows.iter().map(score).collect()
    }

    fn json<'a>(
        &'a self,
        trace: &'a str,
        names: &'a [String],
        runs: usize,
    ) -> impl Iterator<Item = CompareRow<'a>> {
        self.rows.iter().zip(names).map(move |(row, allocator)| {
            let pressure = row.pressure.as_ref().ok();
            let speed = row.speed.as_ref().ok();
            CompareRow {
                trace,
                allocator,
                peak_live_bytes: self.peak.bytes(),
                smallest_region_bytes: row.smallest.as_ref().ok().map(|found| found.region.bytes()),
                compared_in_bytes: self.region.bytes(),
                refused: pressure.map(|found| found.refused),
                least_free_range_bytes: pressure.map(|found| found.least_free_range.bytes()),
                median_free_range_bytes: pressure.map(|found| found.median_free_range.bytes()),
                measured_in_bytes: self.wide.bytes(),
                runs,
                ns_per_op_lower_quartile: speed.map(|speed| tenth(speed.lower)),
                ns_per_op_median: speed.map(|speed| tenth(speed.median)),
                ns_per_op_upper_quartile: speed.map(|speed| tenth(speed.upper)),
                error: row.error(),
            }
        })
    }

    fn write(
        &self,
        name: &str,
        trace: &Trace,
        names: &[String],
        runs: usize,
        out: &mut Out,
    ) -> io::Result<()> {
        use Column::{Left, Right};
        writeln!(out, "{BOLD}{}{BOLD:#}", plain(name))?;
        let text = format!(
            "{}, at most {} live; refusals and free ranges in a region of {}, ns/op in one of {}, {}",
            counted(trace.figures().operations, "operation"),
            Bytes(self.peak.bytes()),
            Bytes(self.region.bytes()),
            Bytes(self.wide.bytes()),
            match runs {
                1 => "of one run".to_string(),
                _ => format!("median and quartiles of {runs} runs"),
            },
        );
        wrapped(&text, width()).iter().try_for_each(|line| writeln!(out, "{line}"))?;
        let mut columns = vec![
            Left("allocator"),
            Right("smallest region"),
            Right("of the peak"),
            Right("refused"),
            Right("least free"),
            Right("median free"),
            Right("ns/op"),
        ];
        if runs > 1 {
            columns.push(Right("quartiles"));
        }
        #[allow(clippy::cast_precision_loss, reason = "a ratio for display")]
        let overhead = |pages: Pages| pages.get() as f64 / self.peak.get() as f64;
        let rows = self.rows.iter().zip(names).map(|(row, name)| {
            let smallest = row.smallest.as_ref().ok().map(|found| found.region.pages());
            let shown = |shown: Option<String>| shown.unwrap_or_else(|| "-".to_string());
            let pressure = row.pressure.as_ref().ok();
            let speed = row.speed.as_ref().ok();
            let mut cells = vec![
                name.clone(),
                shown(smallest.map(|pages| Bytes(pages.bytes()).to_string())),
                shown(smallest.map(|pages| format!("{:.3}", overhead(pages)))),
                shown(pressure.map(|found| found.refused.to_string())),
                shown(pressure.map(|found| Bytes(found.least_free_range.bytes()).to_string())),
                shown(pressure.map(|found| Bytes(found.median_free_range.bytes()).to_string())),
                shown(speed.map(|speed| format!("{:.0}", speed.median))),
                shown(speed.map(|speed| format!("{:.0} to {:.0}", speed.lower, speed.upper))),
            ];
            cells.truncate(columns.len());
            cells
        });
        table(out, 0, &columns, rows)?;
        for (row, name) in self.rows.iter().zip(names) {
            if let Some(reason) = row.error() {
                writeln!(out, "{DIM}{}{DIM:#}", plain(&format!("{name}: {reason}")))?;
            }
        }
        Ok(())
    }
}

impl Row {
    /// What it lacks first, and why.
    fn error(&self) -> Option<String> {
        let refused = [self.pressure.as_ref().err(), self.speed.as_ref().err()];
        let unserved = self.smallest.as_ref().err().map(ToString::to_string);
        unserved.or_else(|| Some(refused.into_iter().flatten().next()?.to_string()))
    }
}

/// Further decimals are noise.
fn tenth(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

/// One line of JSON.
#[derive(Serialize)]
struct CompareRow<'a> {
    trace: &'a str,
    allocator: &'a str,
    peak_live_bytes: u64,
    smallest_region_bytes: Option<u64>,
    compared_in_bytes: u64,
    refused: Option<u64>,
    least_free_range_bytes: Option<u64>,
    median_free_range_bytes: Option<u64>,
    measured_in_bytes: u64,
    runs: usize,
    ns_per_op_lower_quartile: Option<f64>,
    ns_per_op_median: Option<f64>,
    ns_per_op_upper_quartile: Option<f64>,
    error: Option<String>,
}
