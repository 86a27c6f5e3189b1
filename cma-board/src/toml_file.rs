//! A board as TOML.
//!
//! ```toml
//! name = "two-banks"
//! banks = ["512M@0x40000000", "1G@0x80000000"]
//! map = ["camera/frame = frames", "* = frames|rest"]
//!
//! [[regions]]
//! name = "frames"
//! size = "64M"
//! within = "0x40000000-0x60000000"
//!
//! [[regions]]
//! name = "rest"
//! size = "16M"
//! ```
//!
//! The values have the grammars of `--banks`, `cma=`, `cma.map=` and `--memory`, and their errors.

use crate::board::{Board, BoardAllocator, BoardRegion};
use crate::note::{BoardError, Note, Origin};
use crate::read_board::{ReadBoard, TracedText};
use cma_framework::config::{
    Bank, Bytes, Growth, Map, Place, Span, SyntaxError, parse_allocator, parse_regions, parse_size,
};
use cma_memory::{Choice, ChoiceError};
use std::borrow::Cow;
use std::fmt::Write;
use std::slice;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_writer::ToTomlValue;

/// The keys of a board.
pub(crate) const BOARD_KEYS: [&str; 6] = ["name", "banks", "growth", "map", "memory", "regions"];

/// The keys of a region.
const REGION_KEYS: [&str; 7] = ["name", "size", "at", "within", "alignment", "allocator", "no-map"];

/// Reads a board.
///
/// # Errors
///
/// The first mistake, with its position in the text.
pub fn read(text: &str) -> Result<ReadBoard, BoardError> {
    let document = parse(text)?;
    let source = Source { text };
    let top = Table::new(document.get_ref(), 0..0, &BOARD_KEYS, "a board")?;
    board(&source, &top)
}

/// The keys and values of a text.
pub(crate) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, BoardError> {
    DeTable::parse(text).map_err(|error| {
        let note = Note::new(error.message().replace('\n', ", "));
        note.at(error.span().map_or(Origin::Whole, Origin::Text)).into()
    })
}

/// The board that a table describes.
pub(crate) fn board(source: &Source<'_>, top: &Table<'_>) -> Result<ReadBoard, BoardError> {
    let banks = source.list(top.get("banks").ok_or_else(|| {
        Note::new("it says nothing of the board's memory")
            .with_remedy("write banks = [\"2G@0x40000000\"], or banks = [] to give them later")
    })?)?;
    let map = top.get("map").map(|value| source.list(value)).transpose()?.unwrap_or_default();
    let mut regions = TracedText::default();
    let mut no_map = Vec::new();
    for value in top.get("regions").map(tables).transpose()?.unwrap_or_default() {
        no_map.push(source.region(value, &mut regions)?);
    }
    let mut memory = TracedText::default();
    let choice = top.get("memory").map(|value| source.memory(value, &mut memory)).transpose()?;
    let parsed = parse_regions(regions.text()).map_err(|error| regions.error(&error))?;
    let board = Board {
        name: match top.get("name") {
            Some(value) => Some(source.string(value)?.text.into_owned()),
            None => None,
        },
        banks: match banks.text() {
            "" => Vec::new(),
            text => Bank::parse_list(text).map_err(|error| banks.error(&error))?,
        },
        growth: top
            .get("growth")
            .map(|value| source.growth(value))
            .transpose()?
            .unwrap_or_default(),
        regions: parsed
            .iter()
            .zip(no_map)
            .map(|(parsed, no_map)| BoardRegion { no_map, ..BoardRegion::from(&parsed.spec) })
            .collect(),
        map: Map::parse(map.text()).map_err(|error| map.error(&error))?,
        memory: choice,
    };
    Ok(ReadBoard { board, notes: Vec::new(), withheld: Vec::new(), regions, map, memory })
}

/// The board as TOML, which [`read`] reads as an equal board.
pub fn write(board: &Board) -> String {
    let mut text = String::new();
    let mut key = |key: &str, value: &str| {
        // Writing to memory does not fail.
        let _ = writeln!(text, "{key} = {value}");
    };
    if let Some(name) = &board.name {
        key("name", &name.to_toml_value());
    }
    key("banks", &array(board.banks.iter().map(Bank::to_string)));
    if board.growth == Growth::Down {
        key("growth", &"down".to_toml_value());
    }
    if let Some(memory) = &board.memory {
        key("memory", &memory.to_string().to_toml_value());
    }
    if !board.map.is_empty() {
        key("map", &array(board.map.rules().map(|rule| rule.to_string())));
    }
    for region in &board.regions {
        let BoardRegion { name, size, place, alignment, allocator, no_map } = region;
        key("\n[[regions]]\nname", &name.to_toml_value());
        key("size", &Bytes(*size).to_string().to_toml_value());
        match place {
            Place::Anywhere => {}
            Place::At(start) => key("at", &start.to_string().to_toml_value()),
            Place::Within(window) => key("within", &window.to_string().to_toml_value()),
        }
        if let Some(alignment) = alignment {
            key("alignment", &Bytes(*alignment).to_string().to_toml_value());
        }
        if let Some(BoardAllocator { name, params }) = allocator {
            let params = if params.is_empty() { String::new() } else { format!("({params})") };
            key("allocator", &format!("{name}{params}").to_toml_value());
        }
        if *no_map {
            key("no-map", &true.to_toml_value());
        }
    }
    text
}

/// Strings as an array, one a line.
fn array(items: impl Iterator<Item = String>) -> String {
    let lines: String = items.map(|item| format!("    {},\n", item.to_toml_value())).collect();
    if lines.is_empty() { "[]".to_string() } else { format!("[\n{lines}]") }
}

/// A table whose keys are known.
pub(crate) struct Table<'t> {
    entries: &'t DeTable<'t>,
    span: Span,
    what: &'static str,
}

impl<'t> Table<'t> {
    pub(crate) fn new(
        entries: &'t DeTable<'t>,
        span: Span,
        known: &[&str],
        what: &'static str,
    ) -> Result<Self, BoardError> {
        let unknown = entries.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            None => Ok(Table { entries, span, what }),
            Some(key) => {
                let wrong = key.get_ref();
                let alike = |known: &&&str| strsim::normalized_damerau_levenshtein(wrong, known);
                let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
                let remedy = match nearest.filter(|nearest| alike(nearest) >= 0.5) {
                    Some(nearest) => format!("write {nearest}"),
                    None => format!("the keys of {what} are {}", known.join(", ")),
                };
                let note = Note::new(format!("{what} has no key \"{}\"", wrong.escape_debug()));
                Err(note.at(Origin::Text(key.span())).with_remedy(remedy).into())
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.entries.get(key)
    }

    fn required(&self, key: &str, remedy: &str) -> Result<&'t Spanned<DeValue<'t>>, BoardError> {
        self.get(key).ok_or_else(|| {
            let note = Note::new(format!("{} without a {key}", self.what)).with_remedy(remedy);
            note.at(Origin::Text(self.span.clone())).into()
        })
    }
}

/// The tables of `[[regions]]`.
fn tables<'t>(
    value: &'t Spanned<DeValue<'t>>,
) -> Result<Vec<&'t Spanned<DeValue<'t>>>, BoardError> {
    match value.get_ref() {
        DeValue::Array(items) => Ok(items.iter().collect()),
        _ => Err(wrong_kind(value, "an array of tables", "begin each region with [[regions]]")),
    }
}

pub(crate) fn wrong_kind(value: &Spanned<DeValue<'_>>, expected: &str, remedy: &str) -> BoardError {
    let message = format!("expected {expected}, found {}", found(value.get_ref()));
    Note::new(message).at(Origin::Text(value.span())).with_remedy(remedy).into()
}

fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A value as text.
pub(crate) struct Piece<'t> {
    pub(crate) text: Cow<'t, str>,
    /// The characters of the text, or the whole value if it is written with escapes.
    pub(crate) at: Span,
}

impl Piece<'_> {
    fn error(&self, span: Span, message: impl Into<String>) -> Note {
        let at = match self.at.len() == self.text.len() {
            true => self.at.start + span.start..self.at.start + span.end,
            false => self.at.clone(),
        };
        Note::new(message).at(Origin::Text(at))
    }

    fn whole_error(&self, message: impl Into<String>) -> Note {
        self.error(0..self.text.len(), message)
    }

    /// The piece, if it is one number of bytes.
    fn number(self) -> Result<Self, BoardError> {
        match parse_size(&self.text) {
            Ok((_, length)) if length == self.text.len() => Ok(self),
            Ok((_, length)) => {
                let after = length..self.text.len();
                Err(self.error(after, "expected the end: this key takes one number").into())
            }
            Err((error, length)) => Err(self.error(0..length, error.to_string()).into()),
        }
    }
}

/// The text of the file.
pub(crate) struct Source<'t> {
    pub(crate) text: &'t str,
}

impl Source<'_> {
    pub(crate) fn string<'v>(
        &self,
        value: &'v Spanned<DeValue<'_>>,
    ) -> Result<Piece<'v>, BoardError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(self.piece(text, value.span())),
            _ => Err(wrong_kind(value, "a string", "put it into quotes")),
        }
    }

    /// `text` is the value that is written at `span`.
    fn piece<'v>(&self, text: &'v str, span: Span) -> Piece<'v> {
        let verbatim = self.text.get(span.clone()).and_then(|written| written.find(text));
        let at = verbatim.map(|offset| span.start + offset..span.start + offset + text.len());
        Piece { text: Cow::Borrowed(text), at: at.unwrap_or(span) }
    }

    /// A number of bytes: a string with a suffix, or an integer.
    fn bytes<'v>(&self, value: &'v Spanned<DeValue<'_>>) -> Result<Piece<'v>, BoardError> {
        match value.get_ref() {
            DeValue::Integer(number) => {
                match u64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Ok(Piece { text: number.to_string().into(), at: value.span() }),
                    Err(_) => {
                        let message = "a number of bytes is from 0 to 2^64 - 1";
                        let note = Note::new(message).at(Origin::Text(value.span()));
                        Err(note.with_remedy("write it as in \"64M\"").into())
                    }
                }
            }
            DeValue::String(_) => self.string(value)?.number(),
            _ => Err(wrong_kind(value, "a number of bytes", "write it as in \"64M\"")),
        }
    }

    /// Texts that `;` separates: one string, or an array of strings.
    fn list(&self, value: &Spanned<DeValue<'_>>) -> Result<TracedText, BoardError> {
        self.joined(value, ";")
    }

    /// Texts that `separator` separates: one string, or an array of strings.
    pub(crate) fn joined(
        &self,
        value: &Spanned<DeValue<'_>>,
        separator: &str,
    ) -> Result<TracedText, BoardError> {
        let mut all = TracedText::default();
        let items = match value.get_ref() {
            DeValue::Array(items) => &items[..],
            _ => slice::from_ref(value),
        };
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                all.connect(separator);
            }
            let Piece { text, at } = self.string(item)?;
            all.push(&text, Origin::Text(at));
        }
        Ok(all)
    }

    fn growth(&self, value: &Spanned<DeValue<'_>>) -> Result<Growth, BoardError> {
        let word = self.string(value)?;
        match word.text.as_ref() {
            "up" => Ok(Growth::Up),
            "down" => Ok(Growth::Down),
            _ => Err(word.whole_error("the growth of banks is \"up\" or \"down\"").into()),
        }
    }

    /// Reads a choice of memory, and appends it to `memory` as it is written.
    fn memory(
        &self,
        value: &Spanned<DeValue<'_>>,
        memory: &mut TracedText,
    ) -> Result<Choice, BoardError> {
        let piece = self.string(value)?;
        let choice = piece
            .text
            .parse()
            .map_err(|error: ChoiceError| piece.whole_error(error.to_string()))?;
        memory.push(&piece.text, Origin::Text(piece.at));
        Ok(choice)
    }

    /// Appends a region as `cma=` text. Returns whether it has `no-map`.
    fn region(
        &self,
        value: &Spanned<DeValue<'_>>,
        regions: &mut TracedText,
    ) -> Result<bool, BoardError> {
        let DeValue::Table(entries) = value.get_ref() else {
            return Err(wrong_kind(value, "a table", "begin each region with [[regions]]"));
        };
        let table = Table::new(entries, value.span(), &REGION_KEYS, "a region")?;
        let name = self.string(table.required("name", "write name = \"frames\"")?)?;
        if name.text.contains([';', '=']) {
            return Err(name.whole_error(SyntaxError::BadName.to_string()).into());
        }
        if !regions.text().is_empty() {
            regions.connect(";");
        }
        regions.push(&name.text, Origin::Text(name.at));
        let mut push = |before: &str, piece: Piece<'_>| {
            regions.connect(before);
            regions.push(&piece.text, Origin::Text(piece.at));
        };
        push("=", self.bytes(table.required("size", "write size = \"64M\"")?)?);
        match (table.get("at"), table.get("within")) {
            (Some(_), Some(within)) => {
                let note = Note::new("a region lies at a start or within a window, not both");
                let note = note.at(Origin::Text(within.span()));
                return Err(note.with_remedy("remove at, or within").into());
            }
            (Some(at), None) => push("@", self.bytes(at)?),
            (None, Some(within)) => {
                let window = self.string(within)?;
                if window.text.contains([';', '/', ':']) || !window.text.contains('-') {
                    let note = window.whole_error("expected a start and an end");
                    return Err(note.with_remedy("write within = \"0-1G\"").into());
                }
                push("@", window);
            }
            (None, None) => {}
        }
        if let Some(alignment) = table.get("alignment") {
            push("/", self.bytes(alignment)?);
        }
        if let Some(allocator) = table.get("allocator") {
            let allocator = self.string(allocator)?;
            parse_allocator(&allocator.text)
                .map_err(|error| allocator.error(error.span.clone(), error.kind.to_string()))?;
            push(":", allocator);
        }
        match table.get("no-map").map(|value| (value, value.get_ref())) {
            None => Ok(false),
            Some((_, DeValue::Boolean(no_map))) => Ok(*no_map),
            Some((value, _)) => Err(wrong_kind(value, "true or false", "write no-map = true")),
        }
    }
}
