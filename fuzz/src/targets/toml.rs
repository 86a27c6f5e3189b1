//! `toml_file::read`, and `toml_file::write` of what it accepts.

use super::{grammar, is_a_note_about, text};
use crate::{Form, Outcome, Target};
use cma_board::toml_file;
use cma_framework::config::{Map, parse_regions};
use proptest::prelude::*;

pub(super) const TARGET: Target = Target {
    name: "toml",
    about: "boards in TOML files",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/toml.dict"),
    check,
};

fn generate() -> BoxedStrategy<Vec<u8>> {
    let banks = grammar(
        "banks = (\\[\\]|\\[(\"[1-9]G@(0|[1-9]G)\", ?){0,3}\\]|'[1-9]M@0x[1-9]0000;1G@4G')\n",
    );
    let board = prop_oneof![
        4 => grammar("name = (\"[a-z\\\\\\\\n]{0,4}\"|'[a-z \"]{0,4}')\n"),
        3 => grammar("growth = \"(up|down)\"\n"),
        3 => grammar("memory = \"(memfd|a=memfd,auto|simulated)\"\n"),
        5 => grammar("map = \\[(\"[a-c*]{1,2}(/x)? ?= ?[ab]([|,][abc])?\", ?){0,3}\\]\n"),
        1 => grammar("[a-z-]{1,6} ?= ?(\"\\PC{0,4}\"|[0-9.]{1,4}|true|\\[\\]|\\{\\})\n"),
    ];
    let region = (
        grammar("name = \"[a-d]{1,2}\"\n"),
        grammar("size = (\"[1-9][0-9]{0,2}[KM]\"|[1-9][0-9_]{0,4}[0-9]|0x[1-9a-f]{1,8})\n"),
        grammar("(at = (\"0x[1-9]000000\"|[1-9][0-9]{0,9})\n|within = \"0-[1-9]G\"\n)?"),
        grammar("(alignment = \"(64K|4M|3K)\"\n)?"),
        grammar("(allocator = \"[a-c]{1,2}(\\([x=1 ]{0,4}\\))?\"\n)?(no-map = (true|false)\n)?"),
        grammar("(\\PC{0,3}\n)?"),
    )
        .prop_map(|(a, b, c, d, e, f)| ["[[regions]]\n", &a, &b, &c, &d, &e, &f].concat());
    let keys = prop::collection::vec(board, 0..3);
    (prop::option::weighted(0.9, banks), keys, prop::collection::vec(region, 0..4))
        .prop_map(|(banks, keys, regions)| {
            [banks.unwrap_or_default(), keys.concat(), regions.concat()].concat().into_bytes()
        })
        .boxed()
}

fn check(input: &[u8]) -> Outcome {
    let text = text(input);
    let read = match toml_file::read(&text) {
        Ok(read) => read,
        Err(error) => {
            is_a_note_about(&text, &error.0);
            let words =
                error.0.message.split(' ').filter(|word| word.chars().all(char::is_alphabetic));
            return Outcome::refused(words.collect::<Vec<_>>().join(" "));
        }
    };
    read.notes.iter().for_each(|note| is_a_note_about(&text, note));
    let board = &read.board;
    let regions = parse_regions(read.regions.text());
    assert_eq!(regions.as_ref().map(Vec::len), Ok(board.regions.len()));
    assert!(Map::parse(read.map.text()).is_ok(), "{:?}", read.map.text());
    for parsed in regions.iter().flatten() {
        let spans = &parsed.spans;
        for (whole, span) in [(&read.regions, &spans.name), (&read.regions, &spans.size)] {
            let note = cma_board::Note::new("a place").at(whole.origin(span));
            is_a_note_about(&text, &note);
        }
    }
    let written = toml_file::write(board);
    let again = toml_file::read(&written).map(|read| read.board);
    assert_eq!(again.as_ref(), Ok(board), "{written}");
    Outcome::accepted(format!(
        "{} banks, {} regions, {} rules",
        board.banks.len().min(3),
        board.regions.len().min(4),
        board.map.rules().count().min(4)
    ))
}
