//! What is said to the user beside the results: errors and warnings with their remedy, and with the place in the configuration
//! text underlined.

use cma_framework::config::Span;
use cma_framework::loader::LoadError;
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode,
};
use std::fmt;
use std::io::Write;

/// A text longer than this is shown with one rule or region a line, so that what underlines it stays under it.
const LONG: usize = 72;

/// A configuration text by the name the user knows it by, as `--map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) String);

/// An error or a warning.
#[derive(Debug)]
pub(crate) struct Notice {
    severity: Severity,
    message: String,
    help: Option<String>,
    text: Option<NamedSource<String>>,
    label: Option<LabeledSpan>,
}

impl Notice {
    pub(crate) fn error(message: impl Into<String>) -> Self {
        let message = message.into();
        Notice { severity: Severity::Error, message, help: None, text: None, label: None }
    }

    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Notice { severity: Severity::Warning, ..Notice::error(message) }
    }

    pub(crate) fn with_help(self, help: Option<String>) -> Self {
        Notice { help, ..self }
    }

    /// The same, with the part `span` of `text` underlined.
    pub(crate) fn at(self, place: &Place, text: &str, span: &Span) -> Self {
        let lines = text.chars().count() > LONG;
        let start = shown(&text[..span.start], lines).len();
        let length = shown(&text[span.clone()], lines).trim_end_matches('\n').len();
        // What is missing at the end is missed at the blank behind it: nothing can be drawn under nothing.
        let text = shown(text, lines) + " ";
        let label = if span.is_empty() { "missing" } else { "here" };
        Notice {
            text: Some(NamedSource::new(&place.0, text)),
            label: Some(LabeledSpan::new(Some(label.to_string()), start, length)),
            ..self
        }
    }

    /// Draws it on standard error.
    pub(crate) fn report(&self) {
        let width = terminal_size::terminal_size_of(std::io::stderr());
        // Nothing is left to do for somebody who doesn't listen.
        let _ = write!(anstream::stderr(), "{}", self.drawn(width.map(|(width, _)| width.0)));
    }

    /// The picture, in colour, for a terminal that is `width` columns wide; for a file or a pipe no line is broken.
    pub(crate) fn drawn(&self, width: Option<u16>) -> String {
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode())
            .with_links(false)
            .with_break_words(false)
            .with_wrap_lines(width.is_some())
            .with_width(width.unwrap_or(u16::MAX).into());
        let mut picture = String::new();
        match handler.render_report(&mut picture, self) {
            Ok(()) => picture,
            Err(fmt::Error) => format!("{}\n", self.message),
        }
    }
}

/// `text` as it is shown: no control character reaches the terminal, and with `lines` each rule or region has a line. What
/// stands for a part depends on that part alone, so that offsets can be translated piece by piece.
fn shown(text: &str, lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        shown.push(if c.is_control() { '\u{fffd}' } else { c });
        if lines && c == ';' {
            shown.push('\n');
        }
    }
    shown
}

impl From<&LoadError> for Notice {
    fn from(error: &LoadError) -> Self {
        Notice::warning(format!("{}: {}", error.path().display(), error.reason()))
            .with_help(Some(error.reason().remedy().to_string()))
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Notice {}

impl Diagnostic for Notice {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.text.as_ref().map(|text| text as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.label
            .as_ref()
            .map(|label| Box::new(std::iter::once(label.clone())) as Box<dyn Iterator<Item = _>>)
    }
}
