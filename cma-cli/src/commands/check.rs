//! `cma check`: looks a configuration over without using it, and underlines every finding.

mod refusals;

use crate::failure::{Failure, Outcome};
use crate::host::Found;
use crate::notice::{Notice, Place};
use crate::options::Options;
use crate::show::{GOOD, Out, counted};
use cma_framework::Plugin;
use cma_framework::config::lint::{Finding, Severity, Source, lint};
use cma_framework::config::{ConfigError, Map, ParsedRegion, Span, parse_regions};
use cma_memory::Unfit;
use cma_memory::hugetlb::default_page_size;
use refusals::{Refusal, refusals};
use serde::Serialize;
use std::io::{self, Write};

/// One of the texts.
struct Text {
    /// What JSON calls it.
    key: &'static str,
    place: Place,
    text: String,
}

impl Text {
    fn new(key: &'static str, given: Option<&String>, board: &str, default: String) -> Text {
        match given {
            Some(text) => Text { key, place: Place(format!("--{key}")), text: text.clone() },
            None => Text { key, place: Place(format!("{key} of {board}")), text: default },
        }
    }
}

/// What is wrong, from the grammar, from the linter or from an allocator.
struct Remark<'a> {
    severity: Severity,
    message: String,
    help: Option<String>,
    text: &'a Text,
    /// Nothing for a remark about the whole text.
    span: Option<Span>,
}

/// As many remarks are drawn.
const DRAWN: usize = 40;

/// The same as JSON.
#[derive(Serialize)]
struct Row<'a> {
    severity: &'static str,
    message: &'a str,
    help: Option<&'a str>,
    /// `cma`, `map` or `memory`.
    text: &'static str,
    /// In bytes of that text.
    start: usize,
    end: usize,
    found: &'a str,
}

pub(crate) fn run(options: &Options, out: &mut Out) -> Result<Outcome, Failure> {
    let board = options.board();
    let regions = Text::new("cma", options.cma.as_ref(), board.name, board.regions_text());
    let map = Text::new("map", options.map.as_ref(), board.name, board.map_text());
    let choice = options.memory.clone().unwrap_or_default();
    let memory = Text::new("memory", Some(&choice.to_string()), board.name, String::new());
    let found = Found::on_path(options);
    let refused = found.report();
    let remarks = match (parse_regions(&regions.text), Map::parse(&map.text)) {
        (Ok(parsed), Ok(parsed_map)) => {
            let names: Vec<&str> = found.plugins.iter().map(Plugin::name).collect();
            let findings = lint(&parsed, &parsed_map, board.banks, board.growth, &names);
            let (in_regions, in_map): (Vec<_>, Vec<_>) =
                findings.into_iter().partition(|finding| finding.source == Source::Regions);
            let mut remarks: Vec<_> = in_regions.into_iter().map(|f| remark(&regions, f)).collect();
            let refusals = refusals(&regions.text, &parsed, board, &found.plugins);
            remarks.extend(refusals.into_iter().map(|refusal| refusal.remark(&regions)));
            if options.cma.is_some() && options.map.is_none() && !in_map.is_empty() {
                remarks.push(boards_own(&map, in_map.len()));
            } else {
                remarks.extend(in_map.into_iter().map(|finding| remark(&map, finding)));
            }
            let found = choice.check(parsed.iter().map(|region| region.spec), default_page_size());
            remarks.extend(found.iter().map(|found| unfit(found, &memory, &regions, &parsed)));
            remarks
        }
        (parsed, parsed_map) => {
            let errors = [(&regions, parsed.err()), (&map, parsed_map.err())].into_iter();
            errors
                .filter_map(|(text, error)| error.map(|error| misreading(text, error)))
                .collect::<Vec<_>>()
        }
    };
    let count = |severity| remarks.iter().filter(|remark| remark.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if options.json {
        remarks.iter().try_for_each(|remark| remark.json(out))?;
    } else {
        draw(&remarks, out)?;
        match (errors, warnings) {
            (0, 0) => writeln!(out, "{GOOD}regions and map are clean{GOOD:#}")?,
            _ => writeln!(out, "{}, {}", counted(errors, "error"), counted(warnings, "warning"))?,
        }
    }
    Ok(match (errors, warnings) {
        (0, 0) => refused,
        (0, _) => Outcome::Refused,
        _ => Outcome::NotDone,
    })
}

/// The errors, as far as there is room the warnings too, and how many are left.
fn draw(remarks: &[Remark<'_>], out: &mut Out) -> io::Result<()> {
    let mut warnings = DRAWN;
    let mut errors = DRAWN;
    let mut left = 0_usize;
    for remark in remarks {
        let room = if remark.severity == Severity::Error { &mut errors } else { &mut warnings };
        if *room == 0 {
            left += 1;
            continue;
        }
        *room -= 1;
        remark.draw(out)?;
    }
    if left > 0 { writeln!(out, "... and {left} more; --json has all") } else { Ok(()) }
}

/// The findings in a map that the user never wrote, in one.
fn boards_own(map: &Text, findings: usize) -> Remark<'_> {
    let message = format!(
        "the {}, in force without --map, is made for other regions: {} in it",
        map.place.0,
        counted(findings, "finding")
    );
    let help = Some("give --map too".to_string());
    Remark { severity: Severity::Warning, message, help, text: map, span: None }
}

fn remark(text: &Text, finding: Finding) -> Remark<'_> {
    let severity = finding.severity();
    let Finding { problem, span, .. } = finding;
    Remark {
        severity,
        message: problem.to_string(),
        help: Some(problem.remedy()),
        text,
        span: Some(span),
    }
}

impl Refusal {
    fn remark(self, text: &Text) -> Remark<'_> {
        let Refusal { allocator, region, reason, span } = self;
        let message = format!("allocator \"{allocator}\" refuses region \"{region}\": {reason}");
        let help = Some("give it what it takes, or another allocator".to_string());
        Remark { severity: Severity::Error, message, help, text, span: Some(span) }
    }
}

/// What `--memory` says of regions that can't have it.
fn unfit<'a>(
    found: &Unfit,
    memory: &'a Text,
    regions: &'a Text,
    parsed: &[ParsedRegion<'_>],
) -> Remark<'a> {
    let severity = if found.is_error() { Severity::Error } else { Severity::Warning };
    let (text, span) = match found {
        Unfit::NoSuchRegion { region } => {
            (memory, memory.text.find(region.as_str()).map(|at| at..at + region.len()))
        }
        Unfit::NoMemory { region, .. } | Unfit::Ordinary { region, .. } => {
            let at = parsed.iter().find(|parsed| parsed.spec.name == *region);
            (regions, at.map(|region| region.spans.size.clone()))
        }
        _ => (memory, None),
    };
    Remark { severity, message: found.to_string(), help: None, text, span }
}

fn misreading(text: &Text, error: ConfigError) -> Remark<'_> {
    let ConfigError { kind, span, .. } = error;
    Remark {
        severity: Severity::Error,
        message: kind.to_string(),
        help: None,
        text,
        span: Some(span),
    }
}

impl Remark<'_> {
    fn draw(&self, out: &mut Out) -> io::Result<()> {
        let notice = match self.severity {
            Severity::Warning => Notice::warning(&self.message),
            Severity::Error => Notice::error(&self.message),
        };
        let notice = notice.with_help(self.help.clone());
        let notice = match &self.span {
            Some(span) => notice.at(&self.text.place, &self.text.text, span),
            None => notice,
        };
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
        write!(out, "{}", notice.drawn(width))
    }

    fn json(&self, out: &mut Out) -> io::Result<()> {
        let span = self.span.clone().unwrap_or(0..self.text.text.len());
        let row = Row {
            severity: match self.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
            message: &self.message,
            help: self.help.as_deref(),
            text: self.text.key,
            start: span.start,
            end: span.end,
            found: &self.text.text[span],
        };
        writeln!(out, "{}", serde_json::to_string(&row)?)
    }
}
