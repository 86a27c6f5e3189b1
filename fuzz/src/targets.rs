//! The targets, and the checks that several of them share.

mod allocators;
mod attributes;
mod banks;
mod command_line;
mod device_tree;
mod elf;
mod ioctl;
mod journal;
mod kernel;
mod limits;
mod map;
mod message;
mod patterns;
mod profile;
mod regions;
mod rules;
mod service;
mod toml;
mod trace;

use crate::Target;
use cma_board::{Note, Origin};
use proptest::prelude::*;
use proptest::string::string_regex;
use std::borrow::Cow;
use std::fmt::Debug;
use std::mem::discriminant;
use std::ops::Range;

/// All targets.
pub const TARGETS: &[Target] = &[
    map::TARGET,
    regions::TARGET,
    banks::TARGET,
    command_line::TARGET,
    toml::TARGET,
    service::TARGET,
    limits::TARGET,
    profile::TARGET,
    rules::TARGET,
    trace::TARGET,
    kernel::TARGET,
    message::TARGET,
    ioctl::TARGET,
    journal::TARGET,
    elf::TARGET,
    device_tree::TARGET,
    attributes::TARGET,
    allocators::TARGET,
];

/// Texts that match `regex`. (A plain `&str` is a strategy too, and parses itself for each text.)
fn grammar(regex: &str) -> impl Strategy<Value = String> + use<> {
    string_regex(regex).unwrap_or_else(|error| panic!("{regex:?}: {error}"))
}

/// Texts of up to four rules, separated by `;`. Most are right, a few only nearly.
fn rules_of(right: &str, nearly: &str) -> BoxedStrategy<Vec<u8>> {
    let rule = prop_oneof![6 => grammar(right), 1 => grammar(nearly)];
    let rules = prop::collection::vec(rule, 0..5);
    (rules, grammar("[; \\n]{0,2}"))
        .prop_map(|(rules, end)| (rules.join(";") + &end).into_bytes())
        .boxed()
}

/// The input of a parser that takes text: every byte that is no UTF-8 becomes U+FFFD.
fn text(input: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(input)
}

/// A class of outcomes for each variant of an error.
fn variant<T: Debug>(error: &T) -> String {
    format!("{:?}", discriminant(error))
}

/// An error in configuration text names its place: `span` lies in `text`, and `message` has its
/// column and quotes the text there.
fn names_its_place(text: &str, span: &Range<usize>, message: &str) {
    assert!(span.start <= span.end, "the span {span:?} ends before it starts: {message}");
    let (Some(before), Some(found)) = (text.get(..span.start), text.get(span.clone())) else {
        panic!("the span {span:?} of an error is no part of {text:?}: {message}");
    };
    let column = format!(" at column {}", before.chars().count() + 1);
    assert!(message.contains(&column), "no{column:?} in {message:?}");
    assert!(!message.starts_with(&column), "{message:?} says nothing");
    assert!(
        message.contains(&found.escape_debug().to_string()),
        "{message:?} doesn't quote {found:?}"
    );
    is_one_line(message);
}

/// A message has text, and no control character that would break a log or a terminal.
fn is_one_line(message: &str) {
    assert!(!message.trim().is_empty(), "an error has no message");
    assert!(!message.contains(char::is_control), "{message:?} is not one line");
}

/// A note about a board's text: one line, with a remedy of one line, and a place in the text.
fn is_a_note_about(text: &str, note: &Note) {
    is_one_line(&note.to_string());
    note.remedy.iter().for_each(|remedy| is_one_line(remedy));
    match &note.at {
        Origin::Text(span) => {
            assert!(text.get(span.clone()).is_some(), "{span:?} is no part of {text:?}: {note}");
        }
        Origin::Node(path) => panic!("{path} is no place in a text: {note}"),
        Origin::Whole => {}
    }
}

/// `text` with blanks around each of `separators`, and around the whole.
fn spaced(text: &str, separators: &[char]) -> String {
    let mut spaced = String::from("\n ");
    for c in text.chars() {
        if separators.contains(&c) {
            spaced.extend(['\t', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced.push(' ');
    spaced
}
