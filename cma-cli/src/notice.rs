//! Messages to the user beside the results: errors and warnings with their remedy, and with the
//! place in the configuration text underlined.

mod excerpt;

use crate::log::{self, Priority};
use crate::show::plain;
use anstream::AutoStream;
use cma_framework::config::Span;
use cma_framework::loader::LoadError;
use excerpt::Excerpt;
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, Severity, SourceCode,
};
use std::fmt;
use std::io::{self, Write};
use terminal_size::terminal_size_of;

/// The maximum length of a message, in characters: names and reasons come from outside.
const MAX_MESSAGE: usize = 600;

/// The user's name of a configuration text, as `--map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextName(pub(crate) String);

/// An error or a warning.
#[derive(Debug)]
pub(crate) struct Notice {
    severity: Severity,
    message: String,
    help: Option<String>,
    excerpt: Option<Excerpt>,
}

impl Notice {
    pub(crate) fn error(message: &str) -> Self {
        Notice { severity: Severity::Error, message: cut(message), help: None, excerpt: None }
    }

    pub(crate) fn warning(message: &str) -> Self {
        Notice { severity: Severity::Warning, ..Notice::error(message) }
    }

    pub(crate) fn advice(message: &str) -> Self {
        Notice { severity: Severity::Advice, ..Notice::error(message) }
    }

    pub(crate) fn with_help(self, help: Option<String>) -> Self {
        Notice { help: help.map(|help| plain(&help)), ..self }
    }

    /// Adds the surroundings of `span` in `text`, with the span underlined.
    pub(crate) fn underlining(self, name: &TextName, text: &str, span: &Span) -> Self {
        Notice { excerpt: Some(Excerpt::new(&name.0, text, span)), ..self }
    }

    /// Writes it to standard error.
    pub(crate) fn report(&self) {
        let (width, colour) = (terminal_size_of(io::stderr()), AutoStream::choice(&io::stderr()));
        let mut text = AutoStream::new(Vec::new(), colour);
        // Writing to memory does not fail.
        let _ = text.write_all(self.rendered(width.map(|(width, _)| width.0)).as_bytes());
        let priority = match self.severity {
            Severity::Error => Priority::Error,
            Severity::Warning => Priority::Warning,
            Severity::Advice => Priority::Notice,
        };
        log::write(priority, &text.into_inner());
    }

    /// The text in colour, for a terminal that is `width` columns wide. `None` stands for a file or
    /// a pipe, where no line is broken.
    pub(crate) fn rendered(&self, width: Option<u16>) -> String {
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode())
            .with_links(false)
            .with_break_words(false)
            .with_wrap_lines(width.is_some())
            .with_width(width.unwrap_or(u16::MAX).into())
            .without_primary_span_start();
        let mut text = String::new();
        match handler.render_report(&mut text, self) {
            Ok(()) => text,
            Err(fmt::Error) => format!("{}\n", self.message),
        }
    }
}

/// `message` without control characters, cut to [`MAX_MESSAGE`].
fn cut(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => plain(&message[..end]) + "…",
        None => plain(message),
    }
}

impl From<&LoadError> for Notice {
    fn from(error: &LoadError) -> Self {
        Notice::warning(&format!("{}: {}", error.path().display(), error.reason()))
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
        self.excerpt.as_ref().map(|excerpt| excerpt as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = self.excerpt.as_ref()?.label();
        Some(Box::new(std::iter::once(label)))
    }
}
