//! A server's configuration as TOML: its board, and the table `[server]`.
//!
//! ```toml
//! board = "/etc/cma/board.toml"
//!
//! [server]
//! socket = "/run/cma/cma.sock"
//! socket-mode = "660"
//! socket-group = "cma"
//! limits = ["user-chunks=64", "user-bytes=1G"]
//! rules = ["camera = user:viewer, group:video", "*, @* = group:cma"]
//! mount = "/run/cma/attributes"
//! metrics = "127.0.0.1:9797"
//! plugin-dirs = ["/usr/local/lib/cma"]
//! log = "info"
//! ```
//!
//! `board` is what `--platform` takes. Instead of it the file may have the keys of a board itself
//! ([`toml_file`](crate::toml_file)). A key of `[server]` has the name and the grammar of the
//! option of `cma serve`; this reader returns its text, and the program reads it as it reads the
//! option. `limits` and `rules` are one text or an array of its parts.

use crate::note::{BoardError, Note, Origin};
use crate::read_board::{ReadBoard, TracedText};
use crate::toml_file::{BOARD_KEYS, Source, Table, board, parse, wrong_kind};
use std::fmt::Display;
use toml::Spanned;
use toml::de::DeValue;

/// The keys of the whole file: those of a board, and two more.
const FILE_KEYS: [&str; 8] = {
    let [name, banks, growth, map, memory, regions] = BOARD_KEYS;
    [name, banks, growth, map, memory, regions, "board", "server"]
};

/// The keys of `[server]`.
const SERVER_KEYS: [&str; 10] = [
    "mount",
    "socket",
    "socket-mode",
    "socket-group",
    "limits",
    "rules",
    "metrics",
    "plugin-dirs",
    "record",
    "log",
];

/// A server's configuration that was read.
#[derive(Clone, Debug)]
pub struct ReadService {
    /// The board.
    pub board: ServiceBoard,
    /// The settings of `[server]`.
    pub server: ServerSettings,
}

/// Which board a server has.
#[derive(Clone, Debug)]
pub enum ServiceBoard {
    /// The file describes it.
    Own(Box<ReadBoard>),
    /// The name or the file of another one.
    Named(Setting),
}

/// The settings of a server, as texts. `None` leaves the default.
#[derive(Clone, Debug, Default)]
pub struct ServerSettings {
    /// The folder for the attributes.
    pub mount: Option<Setting>,
    /// The path of the socket for chunks.
    pub socket: Option<Setting>,
    /// The permissions of the socket, in octal.
    pub socket_mode: Option<Setting>,
    /// The group of the socket, by name or number.
    pub socket_group: Option<Setting>,
    /// The limits of clients, with commas between them.
    pub limits: Option<TracedText>,
    /// The access rules, with semicolons between them.
    pub rules: Option<TracedText>,
    /// Where figures are served.
    pub metrics: Option<Setting>,
    /// The folders that are searched for plug-ins.
    pub plugin_dirs: Vec<Setting>,
    /// The file for a trace of the requests.
    pub record: Option<Setting>,
    /// What is logged.
    pub log: Option<Setting>,
}

/// A text and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The text.
    pub text: String,
    /// Where it is written.
    pub at: Origin,
}

impl Setting {
    /// An error in the text.
    pub fn error(&self, message: &impl Display) -> BoardError {
        Note::new(message.to_string()).at(self.at.clone()).into()
    }
}

/// Reads a server's configuration.
///
/// ```
/// use cma_board::service_file::read;
///
/// let read = read("board = \"goni\"\n[server]\nsocket = \"/run/cma.sock\"\n")?;
/// assert_eq!(read.server.socket.unwrap().text, "/run/cma.sock");
/// # Ok::<(), cma_board::BoardError>(())
/// ```
///
/// # Errors
///
/// The first mistake in the form of the file, or in the board that it describes, with its position.
/// The texts of `[server]` are not read.
pub fn read(text: &str) -> Result<ReadService, BoardError> {
    let document = parse(text)?;
    let source = Source { text };
    let top = Table::new(document.get_ref(), 0..0, &FILE_KEYS, "a configuration")?;
    let board = match top.get("board") {
        None => ServiceBoard::Own(Box::new(board(&source, &top).map_err(name_a_board)?)),
        Some(named) => {
            if let Some(own) = BOARD_KEYS.iter().find_map(|key| top.get(key)) {
                let note = Note::new("this key and the key board both say which board it is");
                let note = note.at(Origin::Text(own.span()));
                return Err(note.with_remedy("remove board, or write this in its file").into());
            }
            ServiceBoard::Named(setting(&source, named)?)
        }
    };
    let server = match top.get("server") {
        None => ServerSettings::default(),
        Some(value) => server(&source, value)?,
    };
    Ok(ReadService { board, server })
}

/// A file without a board may also name one.
fn name_a_board(BoardError(note): BoardError) -> BoardError {
    match (&note.at, &note.remedy) {
        (Origin::Whole, Some(remedy)) => {
            let remedy = format!("write board = \"goni\" or the file of one; else {remedy}");
            note.with_remedy(remedy).into()
        }
        _ => note.into(),
    }
}

fn server(source: &Source<'_>, value: &Spanned<DeValue<'_>>) -> Result<ServerSettings, BoardError> {
    let DeValue::Table(entries) = value.get_ref() else {
        return Err(wrong_kind(value, "a table", "begin the settings with [server]"));
    };
    let table = Table::new(entries, value.span(), &SERVER_KEYS, "[server]")?;
    let text = |key| table.get(key).map(|value| setting(source, value)).transpose();
    let joined =
        |key, separator| table.get(key).map(|value| source.joined(value, separator)).transpose();
    let folders = match table.get("plugin-dirs").map(|value| (value, value.get_ref())) {
        None => Vec::new(),
        Some((_, DeValue::Array(items))) => {
            items.iter().map(|item| setting(source, item)).collect::<Result<_, _>>()?
        }
        Some((value, _)) => {
            return Err(wrong_kind(value, "an array", "write plugin-dirs = [\"/usr/lib/cma\"]"));
        }
    };
    Ok(ServerSettings {
        mount: text("mount")?,
        socket: text("socket")?,
        socket_mode: text("socket-mode")?,
        socket_group: text("socket-group")?,
        limits: joined("limits", ",")?,
        rules: joined("rules", ";")?,
        metrics: text("metrics")?,
        plugin_dirs: folders,
        record: text("record")?,
        log: text("log")?,
    })
}

fn setting(source: &Source<'_>, value: &Spanned<DeValue<'_>>) -> Result<Setting, BoardError> {
    let piece = source.string(value)?;
    Ok(Setting { text: piece.text.into_owned(), at: Origin::Text(piece.at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOARD: &str = "banks = [\"1G@0x40000000\"]\nmap = \"*=a\"\n\
        [[regions]]\nname = \"a\"\nsize = \"1M\"\n";

    /// What of `text` the first mistake is about.
    fn mistake(text: &str) -> (String, &str) {
        let BoardError(note) = read(text).unwrap_err();
        match &note.at {
            Origin::Text(span) => (note.message.clone(), &text[span.clone()]),
            _ => (note.message.clone(), ""),
        }
    }

    #[test]
    fn a_file_has_a_board_or_names_one() {
        let ServiceBoard::Own(own) = read(BOARD).unwrap().board else { panic!() };
        assert_eq!((own.board.regions.len(), own.map.text()), (1, "*=a"));
        let text = "board = \"goni\"";
        let ServiceBoard::Named(named) = read(text).unwrap().board else { panic!() };
        assert_eq!((named.text.as_str(), named.at), ("goni", Origin::Text(9..13)));
        let (message, at) = mistake("board = \"goni\"\nmap = \"*=a\"");
        assert!(message.contains("both say") && at == "\"*=a\"", "{message}: {at}");
        let BoardError(note) = read("").unwrap_err();
        assert!(note.remedy.unwrap().contains("board = "));
    }

    #[test]
    fn an_array_is_one_text_whose_parts_keep_their_places() {
        let text = "board = \"goni\"\n[server]\nrules = [\"a=uid:1\", \"b=uid:2\"]\n\
            limits = [\"chunks=1\", \"bytes=1G\"]\n";
        let server = read(text).unwrap().server;
        let rules = server.rules.unwrap();
        assert_eq!(rules.text(), "a=uid:1;b=uid:2");
        let Origin::Text(span) = rules.origin(&(10..15)) else { panic!() };
        assert_eq!(&text[span], "uid:2");
        assert_eq!(server.limits.unwrap().text(), "chunks=1,bytes=1G");
    }

    #[test]
    fn mistakes_have_their_places() {
        for (text, expected, at) in [
            ("board = 1", "expected a string", "1"),
            ("boards = \"goni\"", "has no key", "boards"),
            ("\"\\t\" = 1", "has no key \"\\t\"", "\"\\t\""),
            ("board = \"goni\"\nserver = 1", "expected a table", "1"),
            ("board = \"goni\"\n[server]\nsockets = \"x\"", "[server] has no key", "sockets"),
            ("board = \"goni\"\n[server]\nsocket = 3", "expected a string", "3"),
            ("board = \"goni\"\n[server]\nplugin-dirs = \"x\"", "expected an array", "\"x\""),
            ("board = \"goni\"\n[server]\nrules = [1]", "expected a string", "1"),
        ] {
            let (message, found) = mistake(text);
            assert!(message.contains(expected) && found == at, "{text}: {message}: {found}");
        }
    }
}
