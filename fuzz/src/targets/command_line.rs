//! `command_line::read`, and both writers of what it accepts.

use super::{grammar, is_a_note_about, text};
use crate::{Form, Outcome, Target};
use cma_board::{Board, command_line, options, toml_file};
use cma_framework::config::{Map, parse_regions};
use proptest::prelude::*;
use std::collections::BTreeSet;

pub(super) const TARGET: Target = Target {
    name: "command_line",
    about: "regions on a kernel's command line",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/command_line.dict"),
    check,
};

fn generate() -> BoxedStrategy<Vec<u8>> {
    const SIZE: &str = "(0|[1-9][0-9]{0,2}[KMG]?|0x[1-9a-f]{1,8})";
    let linux = grammar(&format!("cma={SIZE}(@{SIZE}(-[1-9][0-9]{{0,2}}[GT])?)?"));
    let huge = grammar("hugetlb[_-]cma=([0-9]{1,2}G|([0-9]:[0-9]{1,4}[MG],){0,2}[0-9]:[1-9]G)");
    let v4 = grammar("cma=\"?([a-c]=[1-9]M(@[1-9]M)?(/64K)?(:x(\\(y z\\))?)?;){0,3}\"?");
    let map = grammar("cma.map=\"?([a-c*]{1,2}(/[xy])?=[a-c]([,|][a-c])?;){0,3}\"?");
    let nearly = grammar("(cma|cma.map|hugetlb_cma)?[-=@,;:0-9a-cKMG\"|\\PC]{0,12}");
    let other = grammar("quiet|ro|console=ttyS0,115200|--|a\"b c\"");
    let word = prop_oneof![3 => linux, 2 => huge, 3 => v4, 3 => map, 1 => nearly, 2 => other];
    prop::collection::vec(word, 0..5).prop_map(|words| words.join(" ").into_bytes()).boxed()
}

fn check(input: &[u8]) -> Outcome {
    let text = text(input);
    let read = match command_line::read(&text) {
        Ok(read) => read,
        Err(error) => {
            is_a_note_about(&text, &error.0);
            assert!(!error.0.message.is_empty());
            let words =
                error.0.message.split(' ').filter(|word| word.chars().all(char::is_alphabetic));
            return Outcome::refused(words.collect::<Vec<_>>().join(" "));
        }
    };
    assert!(command_line::is_command_line(&text), "{text:?} was read and has no parameter");
    read.notes.iter().for_each(|note| is_a_note_about(&text, note));
    let board = &read.board;
    assert_eq!(parse_regions(read.regions.text()).map(|all| all.len()), Ok(board.regions.len()));
    assert!(Map::parse(read.map.text()).is_ok(), "{:?}", read.map.text());
    assert_eq!(parse_regions(&board.regions_text()).map(|all| all.len()), Ok(board.regions.len()));

    let again = toml_file::read(&toml_file::write(board)).map(|read| read.board);
    assert_eq!(again.as_ref(), Ok(board));
    for (written, notes) in [command_line::write(board), command_line::write_v4(board)] {
        notes.iter().for_each(|note| is_a_note_about("", note));
        assert!(!written.contains('\n'), "{written:?}");
        if written.is_empty() {
            continue;
        }
        let read = command_line::read(&written);
        let read = read.unwrap_or_else(|error| panic!("{written:?} is written, and {error}"));
        if notes.is_empty() {
            assert_eq!(regions(&read.board), regions(board), "{written:?}");
            assert_eq!(read.board.map_text(), board.map_text(), "{written:?}");
        }
    }
    options::write(board).1.iter().for_each(|note| is_a_note_about("", note));
    Outcome::accepted(format!(
        "{} regions, {} rules, {} notes",
        board.regions.len().min(4),
        board.map.rules().count().min(4),
        read.notes.len().min(2)
    ))
}

/// The regions without their order: a kernel has its own.
fn regions(board: &Board) -> BTreeSet<String> {
    board.regions.iter().map(|region| region.spec().to_string()).collect()
}
