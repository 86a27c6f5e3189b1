//! The board that the options describe: a known one, or one that is read from a file.

use crate::known_board::KnownBoard;
use crate::notice::{Notice, TextName};
use crate::options::Options;
use crate::outcome::CommandError;
use crate::place_in_text::{DescriptionError, SourceText, Spot};
use crate::service::Service;
use cma_board::service_file::{self, ReadService, ServiceBoard};
use cma_board::{
    Board, BoardError, BoardRegion, Note, Origin, ReadBoard, TracedText, command_line, device_tree,
    toml_file,
};
use cma_framework::config::lint::{Severity, Source, lint};
use cma_framework::config::{Bank, ConfigError, Map, Span, parse_regions};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::Utf8Error;

/// The largest file that is read, in bytes: device-tree blobs have up to a few 100 KiB.
const MAX_FILE: u64 = 4 << 20;

/// A board that was read.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) read: ReadBoard,
    /// The text that it was read from, unless it was a constant or a device tree.
    source: Option<SourceText>,
    /// The board's name, or else what the user calls its description.
    title: String,
    /// About banks of `--banks` that overlap.
    pub(crate) overlaps: Vec<Note>,
}

/// How to state the memory of a board that has no banks.
pub(crate) const GIVE_BANKS: &str = "give --banks '2G@0x40000000'";

impl Description {
    /// The board of `--platform`, with the banks of `--banks`, or that of `--config`.
    pub(crate) fn of(options: &Options) -> Result<Description, CommandError> {
        if let Some(file) = &options.config {
            return Description::configured(file).map(|(description, _)| description);
        }
        let mut description = match options.platform.as_deref() {
            None => Description::known(KnownBoard::DEFAULT)?,
            Some(wanted) => Description::named(wanted)?,
        };
        description.replace_banks(options.banks.as_deref())?;
        Ok(description)
    }

    /// The board and the server of a configuration file.
    pub(crate) fn configured(file: &Path) -> Result<(Description, Service), CommandError> {
        let name = file.display().to_string();
        let content = read_file(file)
            .map_err(|source| CommandError::NoConfig { path: file.to_path_buf(), source })?;
        let source = toml_source(&name, content)?;
        let located = |error: BoardError| {
            let source = Some(source.clone());
            CommandError::from(DescriptionError { file: name.clone(), source, error })
        };
        let ReadService { board, server } = service_file::read(&source.text).map_err(located)?;
        let service = Service::of_file(&server).map_err(located)?;
        let description = match board {
            ServiceBoard::Own(read) => {
                let title =
                    file.file_stem().map_or(name.as_str().into(), |it| it.to_string_lossy());
                Description::new(*read, Some(source.clone()), title.into_owned())
            }
            ServiceBoard::Named(setting) => match Description::named(&setting.text) {
                Err(error @ CommandError::NoBoard { .. }) => {
                    return Err(located(setting.error(&error)));
                }
                found => found?,
            },
        };
        Ok((description, service))
    }

    /// The board of that name, of that file, or of that kernel's command line.
    pub(crate) fn named(wanted: &str) -> Result<Description, CommandError> {
        if let Some(known) = KnownBoard::named(wanted) {
            return Description::known(known);
        }
        let content = match read_file(Path::new(wanted)) {
            Ok(content) => content,
            Err(_) if command_line::is_command_line(wanted) => {
                return Description::of_text(
                    "the command line".to_string(),
                    SourceText {
                        name: TextName("command line".to_string()),
                        text: wanted.to_string(),
                    },
                    command_line::read,
                );
            }
            Err(reason) => {
                return Err(CommandError::NoBoard { wanted: wanted.to_string(), reason });
            }
        };
        let path = Path::new(wanted);
        let title = path.file_stem().map_or(wanted.into(), |stem| stem.to_string_lossy());
        let title = title.into_owned();
        if device_tree::is_blob(&content) {
            return match device_tree::read(&content) {
                Ok(read) => Ok(Description::new(read, None, title)),
                Err(error) => {
                    Err(DescriptionError { file: wanted.to_string(), source: None, error }.into())
                }
            };
        }
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        if is_toml {
            return Description::of_text(title, toml_source(wanted, content)?, toml_file::read);
        }
        let name = TextName(wanted.to_string());
        match String::from_utf8(content) {
            Ok(text) => Description::of_text(title, SourceText { name, text }, read_command_line),
            Err(_) => Err(CommandError::NoBoard {
                wanted: wanted.to_string(),
                reason: io::Error::other("it is neither text nor a device-tree blob"),
            }),
        }
    }

    fn known(known: KnownBoard) -> Result<Description, CommandError> {
        let platform = known.platform();
        let unusable = |reason: String| CommandError::Board { board: platform.name.into(), reason };
        let board = Board::of(platform).map_err(|error| unusable(error.to_string()))?;
        let read = ReadBoard::new(board, &[], &[], Vec::new())
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Description::new(read, None, platform.name.to_string()))
    }

    /// A board that was read. `called` is what the user calls its description.
    fn new(read: ReadBoard, source: Option<SourceText>, called: String) -> Description {
        let title = read.board.name.clone().unwrap_or(called);
        Description { read, source, title, overlaps: Vec::new() }
    }

    /// The board's name, for messages.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    fn of_text(
        called: String,
        source: SourceText,
        read: impl FnOnce(&str) -> Result<ReadBoard, BoardError>,
    ) -> Result<Description, CommandError> {
        match read(&source.text) {
            Ok(read) => Ok(Description::new(read, Some(source), called)),
            Err(error) => {
                let file = source.name.0.clone();
                Err(DescriptionError { file, source: Some(source), error }.into())
            }
        }
    }

    pub(crate) fn replace_banks(&mut self, banks: Option<&str>) -> Result<(), CommandError> {
        if let Some(text) = banks {
            let banks = Bank::parse_list(text).map_err(|error| config_error("--banks", error))?;
            self.read.replace_banks(&banks);
            self.overlaps = overlaps(banks);
        }
        Ok(())
    }

    /// The board with the regions, the map and the memory of the options.
    pub(crate) fn system(&self, options: &Options) -> Result<Board, CommandError> {
        let mut board = self.read.board.clone();
        if let Some(text) = &options.cma {
            let regions = parse_regions(text).map_err(|error| config_error("--cma", error))?;
            board.regions = regions.iter().map(|region| BoardRegion::from(&region.spec)).collect();
        }
        if let Some(text) = &options.map {
            board.map = Map::parse(text).map_err(|error| config_error("--map", error))?;
        }
        if let Some(memory) = &options.memory {
            board.memory = Some(memory.choice.clone());
        }
        Ok(board)
    }

    /// The place of `origin`.
    pub(crate) fn spot(&self, origin: Origin) -> Spot<'_> {
        match (origin, &self.source) {
            (Origin::Text(span), Some(source)) => Spot::Text(source, span),
            (Origin::Node(path), _) => Spot::Node(path),
            _ => Spot::Whole,
        }
    }

    /// Where `span` of one of the board's texts is described, `None` if the board is a constant.
    pub(crate) fn origin(&self, text: &TracedText, span: &Span) -> Option<Spot<'_>> {
        match self.spot(text.origin(span)) {
            Spot::Whole => None,
            spot => Some(spot),
        }
    }

    /// What the linter finds in the regions and in the map, when there are these allocators.
    pub(crate) fn findings(&self, allocators: &[&str]) -> Vec<(Severity, Notice)> {
        let ReadBoard { board, regions, map, .. } = &self.read;
        let parsed = parse_regions(regions.text()).unwrap_or_default();
        let found = lint(&parsed, &board.map, &board.banks, board.growth, allocators);
        let notices = found.into_iter().map(|finding| {
            let (severity, message) = (finding.severity(), finding.problem.to_string());
            let text = if finding.source == Source::Regions { regions } else { map };
            let notice = match severity {
                Severity::Error => Notice::error(&message),
                Severity::Warning => Notice::warning(&message),
            };
            let notice = notice.with_help(Some(finding.problem.remedy()));
            let notice = match self.origin(text, &finding.span) {
                Some(Spot::Text(source, span)) => {
                    notice.underlining(&source.name, &source.text, &span)
                }
                Some(Spot::Node(_) | Spot::Whole) | None => notice,
            };
            (severity, notice)
        });
        notices.collect()
    }

    /// Reports the reader's notes on standard error, and that there are no banks, if so.
    pub(crate) fn report_notes(&self) {
        for note in &self.read.notes {
            self.notice(note).report();
        }
        self.warn_of_banks();
    }

    /// Warns on standard error of banks of `--banks` that overlap.
    pub(crate) fn warn_of_overlaps(&self) {
        self.overlaps.iter().for_each(|note| self.notice(note).report());
    }

    /// Warns on standard error of a board without memory, and of banks that overlap.
    pub(crate) fn warn_of_banks(&self) {
        self.warn_of_overlaps();
        if self.read.board.banks.is_empty() {
            let message = format!("{} states no memory banks", self.title);
            Notice::warning(&message).with_help(Some(GIVE_BANKS.to_string())).report();
        }
    }

    fn notice(&self, note: &Note) -> Notice {
        let notice = Notice::warning(&note.to_string()).with_help(note.remedy.clone());
        match self.spot(note.at.clone()) {
            Spot::Text(source, span) => notice.underlining(&source.name, &source.text, &span),
            Spot::Whole | Spot::Node(_) => notice,
        }
    }
}

/// A note for each bank of `--banks` that shares an address with one that begins before.
fn overlaps(mut banks: Vec<Bank>) -> Vec<Note> {
    banks.sort_by_key(|bank| bank.0.first_page());
    let mut notes = Vec::new();
    // Of those so far, the one that ends last.
    let mut last: Option<Bank> = None;
    for bank in banks {
        if let Some(before) = last.filter(|before| before.0.overlaps(bank.0)) {
            let message =
                format!("--banks: {bank} overlaps {before}; the memory of both counts once");
            notes.push(Note::new(message).with_remedy("correct the size or the start of one"));
        }
        if last.is_none_or(|last| last.0.end_page() < bank.0.end_page()) {
            last = Some(bank);
        }
    }
    notes
}

/// Reads a file that is not TOML. Device-tree source is a likely mistake.
fn read_command_line(text: &str) -> Result<ReadBoard, BoardError> {
    if text.trim_start().starts_with("/dts-v1/") {
        let note = Note::new("it is the source of a device tree, and not a blob");
        return Err(note.with_remedy("compile it first, as with dtc -O dtb -o board.dtb").into());
    }
    command_line::read(text)
}

/// The text of a TOML file.
fn toml_source(file: &str, content: Vec<u8>) -> Result<SourceText, CommandError> {
    let name = TextName(file.to_string());
    match String::from_utf8(content) {
        Ok(text) => Ok(SourceText { name, text }),
        Err(error) => {
            let (error, text) = (error.utf8_error(), error.into_bytes());
            let text = String::from_utf8_lossy(&text).into_owned();
            let error = not_utf8(&text, error);
            let source = Some(SourceText { name, text });
            Err(DescriptionError { file: file.to_string(), source, error }.into())
        }
    }
}

/// The first byte of a file that is not UTF-8. In `text` it is replaced.
fn not_utf8(text: &str, error: Utf8Error) -> BoardError {
    let at = error.valid_up_to();
    let replaced = text[at..].chars().next().map_or(0, char::len_utf8);
    let note = Note::new(format!("byte {at} of the file, counted from 0, is not UTF-8"));
    let note = note.at(Origin::Text(at..at + replaced));
    note.with_remedy("save the file as UTF-8").into()
}

/// The content of a file that may be a board's.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::other(
            "it is larger than 4M, the most that a board's file may have",
        ));
    }
    Ok(content)
}

pub(crate) fn config_error(option: &str, error: ConfigError) -> CommandError {
    CommandError::Config(TextName(option.to_string()), error)
}
