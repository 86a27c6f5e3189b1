//! `cma check`: checks a configuration without using it, and underlines every finding.

mod rejections;

use crate::found_plugins::FoundPlugins;
use crate::notice::{Notice, TextName};
use crate::options::Options;
use crate::outcome::{CommandError, Outcome};
use crate::show::{GOOD, Out, counted};
use cma_framework::Plugin;
use cma_framework::config::lint::{Finding, Severity, Source, lint};
use cma_framework::config::{ConfigError, Map, ParsedRegion, Span, parse_regions};
use cma_memory::Unfit;
use cma_memory::hugetlb::default_page_size;
use rejections::{Rejection, rejections};
use serde::Serialize;
use std::io::{self, Write};

/// One of the texts of the configuration.
struct ConfigText {
    /// Its name in JSON.
    key: &'static str,
    name: TextName,
    text: String,
}

impl ConfigText {
    fn new(key: &'static str, given: Option<&String>, board: &str, default: String) -> ConfigText {
        match given {
            Some(text) => {
                ConfigText { key, name: TextName(format!("--{key}")), text: text.clone() }
            }
            None => ConfigText { key, name: TextName(format!("{key} of {board}")), text: default },
        }
    }
}

/// An error or a warning, from the grammar, the linter, an allocator or the choice of memory.
struct Remark<'a> {
    severity: Severity,
    message: String,
    help: Option<String>,
    text: &'a ConfigText,
    /// `None` for a remark about the whole text.
    span: Option<Span>,
}

/// The most errors, and the most warnings, that are printed.
const MAX_PRINTED: usize = 40;

/// A remark as JSON.
#[derive(Serialize)]
struct RemarkRow<'a> {
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

pub(crate) fn run(options: &Options, out: &mut Out) -> Result<Outcome, CommandError> {
    let board = options.board();
    let regions = ConfigText::new("cma", options.cma.as_ref(), board.name, board.regions_text());
    let map = ConfigText::new("map", options.map.as_ref(), board.name, board.map_text());
    let choice = options.memory.clone().unwrap_or_default();
    let memory = ConfigText::new("memory", Some(&choice.to_string()), board.name, String::new());
    let found = FoundPlugins::on_path(options);
    let reported = found.report();
    let remarks = match (parse_regions(&regions.text), Map::parse(&map.text)) {
        (Ok(parsed), Ok(parsed_map)) => {
            let names: Vec<&str> = found.plugins.iter().map(Plugin::name).collect();
            let findings = lint(&parsed, &parsed_map, board.banks, board.growth, &names);
            let (in_regions, in_map): (Vec<_>, Vec<_>) =
                findings.into_iter().partition(|finding| finding.source == Source::Regions);
            let mut remarks: Vec<_> = in_regions.into_iter().map(|f| remark(&regions, f)).collect();
            let rejections = rejections(&regions.text, &parsed, board, &found.plugins);
            remarks.extend(rejections.into_iter().map(|rejection| rejection.remark(&regions)));
            if options.cma.is_some() && options.map.is_none() && !in_map.is_empty() {
                remarks.push(findings_in_board_map(&map, in_map.len()));
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
                .filter_map(|(text, error)| error.map(|error| syntax_error(text, error)))
                .collect::<Vec<_>>()
        }
    };
    let count = |severity| remarks.iter().filter(|remark| remark.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if options.json {
        remarks.iter().try_for_each(|remark| remark.json(out))?;
    } else {
        print(&remarks, out)?;
        match (errors, warnings) {
            (0, 0) => writeln!(out, "{GOOD}regions and map are clean{GOOD:#}")?,
            _ => writeln!(out, "{}, {}", counted(errors, "error"), counted(warnings, "warning"))?,
        }
    }
    Ok(match (errors, warnings) {
        (0, 0) => reported,
        (0, _) => Outcome::Refused,
        _ => Outcome::NotDone,
    })
}

/// Prints the first errors and warnings, and the number of the others.
fn print(remarks: &[Remark<'_>], out: &mut Out) -> io::Result<()> {
    let mut warnings = MAX_PRINTED;
    let mut errors = MAX_PRINTED;
    let mut omitted = 0_usize;
    for remark in remarks {
        let remaining =
            if remark.severity == Severity::Error { &mut errors } else { &mut warnings };
        if *remaining == 0 {
            omitted += 1;
            continue;
        }
        *remaining -= 1;
        remark.print(out)?;
    }
    if omitted > 0 { writeln!(out, "... and {omitted} more; --json has all") } else { Ok(()) }
}

/// One remark for all findings in the board's map, which the user has not written.
fn findings_in_board_map(map: &ConfigText, findings: usize) -> Remark<'_> {
    let message = format!(
        "the {}, in force without --map, is written for other regions: {} in it",
        map.name.0,
        counted(findings, "finding")
    );
    let help = Some("give --map too".to_string());
    Remark { severity: Severity::Warning, message, help, text: map, span: None }
}

fn remark(text: &ConfigText, finding: Finding) -> Remark<'_> {
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

impl Rejection {
    fn remark(self, text: &ConfigText) -> Remark<'_> {
        let Rejection { allocator, region, reason, span } = self;
        let message = format!("allocator \"{allocator}\" refuses region \"{region}\": {reason}");
        let help = Some("change its parameters, or choose another allocator".to_string());
        Remark { severity: Severity::Error, message, help, text, span: Some(span) }
    }
}

/// A region that can't have the memory of `--memory`.
fn unfit<'a>(
    found: &Unfit,
    memory: &'a ConfigText,
    regions: &'a ConfigText,
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

fn syntax_error(text: &ConfigText, error: ConfigError) -> Remark<'_> {
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
    fn print(&self, out: &mut Out) -> io::Result<()> {
        let notice = match self.severity {
            Severity::Warning => Notice::warning(&self.message),
            Severity::Error => Notice::error(&self.message),
        };
        let notice = notice.with_help(self.help.clone());
        let notice = match &self.span {
            Some(span) => notice.underlining(&self.text.name, &self.text.text, span),
            None => notice,
        };
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
        write!(out, "{}", notice.rendered(width))
    }

    fn json(&self, out: &mut Out) -> io::Result<()> {
        let span = self.span.clone().unwrap_or(0..self.text.text.len());
        let row = RemarkRow {
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
