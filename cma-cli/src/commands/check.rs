//! `cma check`: checks a configuration without using it, and underlines every finding.

mod rejections;

use crate::described::{Description, GIVE_BANKS};
use crate::found_plugins::FoundPlugins;
use crate::notice::{Notice, TextName};
use crate::options::Options;
use crate::outcome::{CommandError, Outcome};
use crate::place_in_text::{SourceText, Spot};
use crate::show::{GOOD, Out, counted};
use cma_board::{Note, TracedText};
use cma_framework::Plugin;
use cma_framework::config::lint::{Finding, Problem, Severity, Source, lint};
use cma_framework::config::{ConfigError, Map, ParsedRegion, Span, parse_regions};
use cma_memory::Unfit;
use cma_memory::hugetlb::default_page_size;
use rejections::{Rejection, rejections};
use serde::Serialize;
use std::io::{self, Write};

/// One of the texts of the configuration.
struct ConfigText<'a> {
    /// Its name in JSON.
    key: &'static str,
    source: SourceText,
    /// The board's own text, if no option replaces it.
    described: Option<(&'a Description, &'a TracedText)>,
}

impl<'a> ConfigText<'a> {
    fn new(
        key: &'static str,
        given: Option<&String>,
        description: &'a Description,
        own: &'a TracedText,
    ) -> ConfigText<'a> {
        let (name, text, described) = match given {
            Some(text) => (format!("--{key}"), text.clone(), None),
            None => {
                let name = format!("{key} of {}", description.title());
                (name, own.text().to_string(), Some((description, own)))
            }
        };
        ConfigText { key, source: SourceText { name: TextName(name), text }, described }
    }

    fn text(&self) -> &str {
        &self.source.text
    }

    /// A remark about `span` of the text, at the place where it is described.
    fn remark(
        &self,
        severity: Severity,
        message: String,
        help: Option<String>,
        span: Span,
    ) -> Remark<'_> {
        let origin = self.described.and_then(|(description, own)| description.origin(own, &span));
        match origin {
            Some(spot) => Remark { severity, message, help, key: PLATFORM, spot },
            None => {
                let spot = Spot::Text(&self.source, span);
                Remark { severity, message, help, key: self.key, spot }
            }
        }
    }
}

/// An error or a warning, from a reader, the grammar, the linter, an allocator or the choice of
/// memory.
struct Remark<'a> {
    severity: Severity,
    message: String,
    help: Option<String>,
    /// The name in JSON of the text that it is about.
    key: &'static str,
    spot: Spot<'a>,
}

/// The name in JSON of the file of `--platform`.
const PLATFORM: &str = "platform";

/// The most errors, and the most warnings, that are printed.
const MAX_PRINTED: usize = 40;

/// A remark as JSON.
#[derive(Serialize)]
struct RemarkRow<'a> {
    severity: &'static str,
    message: &'a str,
    help: Option<&'a str>,
    /// `cma`, `map` or `memory`; `platform` for a place in the file of `--platform`.
    text: &'static str,
    /// In bytes of that text.
    start: usize,
    end: usize,
    found: &'a str,
    /// The path of a node of a device tree. Then start and end are 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
}

pub(crate) fn run(options: &Options, out: &mut Out) -> Result<Outcome, CommandError> {
    let description = match Description::of(options) {
        Ok(description) => description,
        Err(CommandError::Description(error)) => {
            let remark = noted(Severity::Error, error.note(), error.spot());
            return print_all(options, &[remark], Outcome::Done, out);
        }
        Err(error) => return Err(error),
    };
    let read = &description.read;
    let board = &read.board;
    let regions = ConfigText::new("cma", options.cma.as_ref(), &description, &read.regions);
    let map = ConfigText::new("map", options.map.as_ref(), &description, &read.map);
    let given = options.memory.as_ref();
    let choice = given.map(|given| &given.choice).or(board.memory.as_ref());
    let choice = choice.cloned().unwrap_or_default();
    let given = given.map(|given| &given.text);
    let memory = ConfigText::new("memory", given, &description, &read.memory);
    let found = FoundPlugins::on_path(options);
    let reported = found.report();
    let notes = read.notes.iter().chain(&description.overlaps).cloned();
    let mut remarks: Vec<_> = notes
        .map(|note| {
            let spot = description.spot(note.at.clone());
            noted(Severity::Warning, note, spot)
        })
        .collect();
    match (parse_regions(regions.text()), Map::parse(map.text())) {
        (Ok(parsed), Ok(parsed_map)) => {
            let names: Vec<&str> = found.plugins.iter().map(Plugin::name).collect();
            let findings = lint(&parsed, &parsed_map, &board.banks, board.growth, &names);
            let (in_regions, in_map): (Vec<_>, Vec<_>) =
                findings.into_iter().partition(|finding| finding.source == Source::Regions);
            remarks.extend(in_regions.into_iter().map(|finding| remark(&regions, finding)));
            let rejections =
                rejections(regions.text(), &parsed, board.memory_banks(), &found.plugins);
            remarks.extend(rejections.into_iter().map(|rejection| rejection.remark(&regions)));
            if options.cma.is_some() && options.map.is_none() && !in_map.is_empty() {
                remarks.push(findings_in_board_map(&map, in_map.len()));
            } else {
                remarks.extend(in_map.into_iter().map(|finding| remark(&map, finding)));
            }
            let found = choice.check(parsed.iter().map(|region| region.spec), default_page_size());
            remarks.extend(found.iter().map(|found| unfit(found, &memory, &regions, &parsed)));
        }
        (parsed, parsed_map) => {
            let errors = [(&regions, parsed.err()), (&map, parsed_map.err())].into_iter();
            let errors =
                errors.filter_map(|(text, error)| error.map(|error| syntax_error(text, error)));
            remarks.extend(errors);
        }
    }
    print_all(options, &remarks, reported, out)
}

/// Prints the remarks and their numbers. `reported` is the outcome without them.
fn print_all(
    options: &Options,
    remarks: &[Remark<'_>],
    reported: Outcome,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    let count = |severity| remarks.iter().filter(|remark| remark.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if options.json {
        remarks.iter().try_for_each(|remark| remark.json(out))?;
    } else {
        print(remarks, out)?;
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

/// A note of a reader about the file of `--platform`.
fn noted(severity: Severity, note: Note, spot: Spot<'_>) -> Remark<'_> {
    let Note { message, remedy, .. } = note;
    Remark { severity, message, help: remedy, key: PLATFORM, spot }
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
fn findings_in_board_map<'a>(map: &'a ConfigText<'_>, findings: usize) -> Remark<'a> {
    let message = format!(
        "the {}, in force without --map, is written for other regions: {} in it",
        map.source.name.0,
        counted(findings, "finding")
    );
    let help = Some("give --map too".to_string());
    Remark { severity: Severity::Warning, message, help, key: map.key, spot: Spot::Whole }
}

fn remark<'a>(text: &'a ConfigText<'_>, finding: Finding) -> Remark<'a> {
    let severity = finding.severity();
    let Finding { problem, span, .. } = finding;
    if problem == Problem::NoBanks {
        let help = Some(GIVE_BANKS.to_string());
        let message = problem.to_string();
        return Remark { severity, message, help, key: PLATFORM, spot: Spot::Whole };
    }
    text.remark(severity, problem.to_string(), Some(problem.remedy()), span)
}

impl Rejection {
    fn remark<'a>(self, text: &'a ConfigText<'_>) -> Remark<'a> {
        let Rejection { allocator, region, reason, span } = self;
        let message = format!("allocator \"{allocator}\" refuses region \"{region}\": {reason}");
        let help = Some("change its parameters, or choose another allocator".to_string());
        text.remark(Severity::Error, message, help, span)
    }
}

/// A region that can't have the memory of `--memory`.
fn unfit<'a>(
    found: &Unfit,
    memory: &'a ConfigText<'_>,
    regions: &'a ConfigText<'_>,
    parsed: &[ParsedRegion<'_>],
) -> Remark<'a> {
    let severity = if found.is_error() { Severity::Error } else { Severity::Warning };
    let message = found.to_string();
    match found {
        Unfit::NoMemory { region, .. } | Unfit::Ordinary { region, .. } => {
            if let Some(region) = parsed.iter().find(|parsed| parsed.spec.name == *region) {
                return regions.remark(severity, message, None, region.spans.size.clone());
            }
        }
        Unfit::NoSuchRegion { region } => {
            if let Some(span) = named_memory(memory.text(), region) {
                return memory.remark(severity, message, None, span);
            }
        }
        _ => {}
    }
    Remark { severity, message, help: None, key: memory.key, spot: Spot::Whole }
}

/// Where a choice of memory names that region.
fn named_memory(text: &str, region: &str) -> Option<Span> {
    let mut start = 0;
    text.split(',').find_map(|item| {
        let at = start;
        start += item.len() + 1;
        let name = item.split_once('=')?.0;
        let at = at + name.len() - name.trim_start().len();
        (name.trim() == region).then(|| at..at + region.len())
    })
}

fn syntax_error<'a>(text: &'a ConfigText<'_>, error: ConfigError) -> Remark<'a> {
    let ConfigError { kind, span, .. } = error;
    text.remark(Severity::Error, kind.to_string(), None, span)
}

impl Remark<'_> {
    fn print(&self, out: &mut Out) -> io::Result<()> {
        let message = match &self.spot {
            Spot::Node(path) => format!("{path}: {}", self.message),
            Spot::Text(..) | Spot::Whole => self.message.clone(),
        };
        let notice = match self.severity {
            Severity::Warning => Notice::warning(&message),
            Severity::Error => Notice::error(&message),
        };
        let notice = notice.with_help(self.help.clone());
        let notice = match &self.spot {
            Spot::Text(source, span) => notice.underlining(&source.name, &source.text, span),
            Spot::Node(_) | Spot::Whole => notice,
        };
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
        write!(out, "{}", notice.rendered(width))
    }

    fn json(&self, out: &mut Out) -> io::Result<()> {
        let (span, found, node) = match &self.spot {
            Spot::Text(source, span) => (span.clone(), &source.text[span.clone()], None),
            Spot::Node(path) => (0..0, "", Some(path.as_str())),
            Spot::Whole => (0..0, "", None),
        };
        let row = RemarkRow {
            severity: match self.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
            message: &self.message,
            help: self.help.as_deref(),
            text: self.key,
            start: span.start,
            end: span.end,
            found,
            node,
        };
        writeln!(out, "{}", serde_json::to_string(&row)?)
    }
}
