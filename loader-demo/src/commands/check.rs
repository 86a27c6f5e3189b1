//! `cma check`: looks a configuration over without using it, and underlines every finding.

use crate::failure::{Failure, Outcome};
use crate::host::Found;
use crate::notice::{Notice, Place};
use crate::options::Options;
use crate::show::{GOOD, Out};
use cma_framework::Plugin;
use cma_framework::config::lint::{Finding, Severity, Source, lint};
use cma_framework::config::{ConfigError, Map, Span, parse_regions};
use serde::Serialize;
use std::io::{self, Write};

/// One of the two texts.
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

/// What is wrong, from the grammar or from the linter.
struct Remark<'a> {
    severity: Severity,
    message: String,
    help: Option<String>,
    text: &'a Text,
    span: Span,
}

/// The same as JSON.
#[derive(Serialize)]
struct Row<'a> {
    severity: &'static str,
    message: &'a str,
    help: Option<&'a str>,
    /// `cma` or `map`.
    text: &'static str,
    /// In bytes of that text.
    start: usize,
    end: usize,
    found: &'a str,
}

pub(crate) fn run(options: &Options, out: &mut Out) -> Result<Outcome, Failure> {
    let board = options.platform.platform();
    let regions = Text::new("cma", options.cma.as_ref(), board.name, board.regions_text());
    let map = Text::new("map", options.map.as_ref(), board.name, board.map_text());
    let found = Found::on_path(options);
    let refused = found.report();
    let remarks = match (parse_regions(&regions.text), Map::parse(&map.text)) {
        (Ok(parsed), Ok(parsed_map)) => {
            let names: Vec<&str> = found.plugins.iter().map(Plugin::name).collect();
            let findings = lint(&parsed, &parsed_map, board.banks, board.growth, &names).into_iter();
            let text = |source| if source == Source::Regions { &regions } else { &map };
            findings.map(|finding| remark(text(finding.source), finding)).collect()
        }
        (parsed, parsed_map) => {
            let errors = [(&regions, parsed.err()), (&map, parsed_map.err())].into_iter();
            errors.filter_map(|(text, error)| error.map(|error| misreading(text, error))).collect::<Vec<_>>()
        }
    };
    remarks.iter().try_for_each(|remark| if options.json { remark.json(out) } else { remark.draw(out) })?;
    let count = |severity| remarks.iter().filter(|remark| remark.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if !options.json {
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

fn remark(text: &Text, finding: Finding) -> Remark<'_> {
    let severity = finding.severity();
    let Finding { problem, span, .. } = finding;
    Remark { severity, message: problem.to_string(), help: Some(problem.remedy()), text, span }
}

fn misreading(text: &Text, error: ConfigError) -> Remark<'_> {
    let ConfigError { mistake, span, .. } = error;
    Remark { severity: Severity::Error, message: mistake.to_string(), help: None, text, span }
}

impl Remark<'_> {
    fn draw(&self, out: &mut Out) -> io::Result<()> {
        let notice = match self.severity {
            Severity::Warning => Notice::warning(&self.message),
            Severity::Error => Notice::error(&self.message),
        };
        let notice = notice.with_help(self.help.clone()).at(&self.text.place, &self.text.text, &self.span);
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
        write!(out, "{}", notice.drawn(width))
    }

    fn json(&self, out: &mut Out) -> io::Result<()> {
        let row = Row {
            severity: match self.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
            message: &self.message,
            help: self.help.as_deref(),
            text: self.text.key,
            start: self.span.start,
            end: self.span.end,
            found: &self.text.text[self.span.clone()],
        };
        writeln!(out, "{}", serde_json::to_string(&row)?)
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
