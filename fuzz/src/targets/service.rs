//! `service_file::read`, beside the same file as plain TOML, and the parsers of the settings that
//! it finds.

use super::{grammar, is_a_note_about, is_one_line, text};
use crate::{Form, Outcome, Target};
use cma_board::service_file::{self, ServiceBoard, Setting};
use cma_board::{BoardError, Origin, TracedText, toml_file};
use cma_device_server::{Limits, Rules};
use cma_metrics::Endpoint;
use proptest::prelude::*;
use toml::{Table, Value};

pub(super) const TARGET: Target = Target {
    name: "service",
    about: "the configuration of a server in a TOML file",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/service.dict"),
    check,
};

fn generate() -> BoxedStrategy<Vec<u8>> {
    let board = prop_oneof![
        5 => grammar("board = \"[a-z/.]{0,5}\"\n"),
        3 => grammar("banks = \\[\"1G@0\"\\]\n(map = \"\\*=[ab](;b)?\"\n)?"),
        1 => grammar("(board = \"a\"\n)?(map = \"\\*=a\"\n)?"),
    ];
    let setting = prop_oneof![
        3 => grammar(
            "(mount|socket|socket-mode|socket-group|record|log) = (\"\\PC{0,6}\"|'[a-z\\\\/]{1,6}')\n"
        ),
        2 => grammar("metrics = \"(unix:[a-z/]{0,4}|(127\\.0\\.0\\.1|\\[::1\\]|8\\.8\\.8\\.8):[0-9]{1,6})\"\n"),
        3 => grammar("rules = \\[(\"[a-c*@]{1,2} ?= ?(uid:[0-9]|\\*|u)\", ?){0,3}\\]\n"),
        3 => grammar("limits = (\"\"|\\[(\"(chunks|bytes|wait) ?= ?[0-9]{1,2}[Gs]?\", ?){0,3}\\])\n"),
        1 => grammar("plugin-dirs = (\\[(\"[a-z/]{0,3}\", ?){0,2}\\]|\"a\")\n"),
        1 => grammar("[a-z-]{1,6} ?= ?(\"\\PC{0,4}\"|[0-9.]{1,4}|true|\\[\\]|\\{\\})\n"),
    ];
    let server = (grammar("(\\[server\\]\n|server = 1\n)"), prop::collection::vec(setting, 0..4));
    (board, prop::option::weighted(0.9, server))
        .prop_map(|(board, server)| {
            let (head, settings) = server.unwrap_or_default();
            [board, head, settings.concat()].concat().into_bytes()
        })
        .boxed()
}

fn check(input: &[u8]) -> Outcome {
    let text = text(input);
    let read = match service_file::read(&text) {
        Ok(read) => read,
        Err(BoardError(note)) => {
            is_a_note_about(&text, &note);
            let words = note.message.split(' ');
            let words = words.filter(|word| word.chars().all(char::is_alphabetic));
            return Outcome::refused(words.collect::<Vec<_>>().join(" "));
        }
    };
    let plain: Table = text.parse().expect("a file that was read is TOML");
    let empty = Table::new();
    let settings = plain.get("server").map_or(&empty, |server| server.as_table().expect("a table"));
    let server = &read.server;
    for (key, setting) in [
        ("mount", &server.mount),
        ("socket", &server.socket),
        ("socket-mode", &server.socket_mode),
        ("socket-group", &server.socket_group),
        ("metrics", &server.metrics),
        ("record", &server.record),
        ("log", &server.log),
    ] {
        let found = setting.as_ref().map(|setting| setting_is_at_its_place(&text, setting));
        assert_eq!(found, settings.get(key).map(string), "{key}");
    }
    let folders = server.plugin_dirs.iter().map(|folder| setting_is_at_its_place(&text, folder));
    let expected = settings.get("plugin-dirs").map_or(Vec::new(), strings);
    assert_eq!(folders.collect::<Vec<_>>(), expected);
    for (key, joined, separator) in [("rules", &server.rules, ";"), ("limits", &server.limits, ",")]
    {
        let expected = settings.get(key).map(|value| strings(value).join(separator));
        assert_eq!(joined.as_ref().map(TracedText::text), expected.as_deref(), "{key}");
    }
    let own = match &read.board {
        ServiceBoard::Named(named) => {
            assert_eq!(plain.get("board").map(string), Some(setting_is_at_its_place(&text, named)));
            false
        }
        ServiceBoard::Own(own) => {
            let board = plain.iter().filter(|(key, _)| *key != "server");
            let board: Table = board.map(|(key, value)| (key.clone(), value.clone())).collect();
            let alone = toml_file::read(&board.to_string()).map(|read| read.board);
            assert_eq!(alone.as_ref(), Ok(&own.board), "{board}");
            true
        }
    };
    let wrong = wrong_settings(&text, server);
    Outcome::accepted(format!("own board: {own}, {wrong} wrong settings"))
}

/// How many settings their parsers refuse. Each error has its place in the file.
fn wrong_settings(text: &str, server: &service_file::ServerSettings) -> usize {
    let rules = server
        .rules
        .as_ref()
        .and_then(|rules| Rules::parse(rules.text()).err().map(|error| rules.error(&error)));
    let limits = server
        .limits
        .as_ref()
        .and_then(|limits| Limits::parse(limits.text()).err().map(|error| limits.error(&error)));
    let metrics =
        server.metrics.as_ref().and_then(|setting| match setting.text.parse::<Endpoint>() {
            Ok(Endpoint::Tcp(address)) => {
                assert!(address.ip().is_loopback(), "{address}");
                None
            }
            Ok(path) => {
                assert_eq!(path.to_string(), setting.text);
                None
            }
            Err(error) => Some(setting.error(&error)),
        });
    let errors: Vec<_> = [rules, limits, metrics].into_iter().flatten().collect();
    errors.iter().for_each(|BoardError(note)| is_a_note_about(text, note));
    errors.len()
}

/// The text of a setting, which is at its place in the file: as it is, or as a value with escapes.
fn setting_is_at_its_place<'s>(text: &str, setting: &'s Setting) -> &'s str {
    let Origin::Text(span) = &setting.at else { panic!("{:?} is no place in a text", setting.at) };
    let Some(found) = text.get(span.clone()) else {
        panic!("{span:?} is no part of {text:?}");
    };
    let is_value = found.starts_with(['"', '\'']);
    assert!(found == setting.text || is_value, "{found:?} is not {:?}", setting.text);
    let BoardError(note) = setting.error(&"wrong");
    is_one_line(&note.to_string());
    &setting.text
}

fn string(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// One string, or those of an array.
fn strings(value: &Value) -> Vec<&str> {
    match value.as_array() {
        Some(items) => items.iter().map(string).collect(),
        None => vec![string(value)],
    }
}
