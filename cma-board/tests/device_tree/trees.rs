//! Blobs from the source of device trees.

use cma_board::ReadBoard;
use cma_board::device_tree::read;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

const SKIPPED: &[u8] = b"SKIPPED: dtc (package device-tree-compiler) is not installed\n";

/// The blob of a tree's source, by `dtc`; `None`, with a message, if that is not installed.
pub(crate) fn compiled(source: &str) -> Option<Vec<u8>> {
    let mut dtc = Command::new("dtc");
    dtc.args(["-q", "-I", "dts", "-O", "dtb", "-o", "-", "-"]);
    let spawned = dtc.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut dtc = match spawned {
        Ok(dtc) => dtc,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Not with println!, which the test harness captures.
            std::io::stderr().write_all(SKIPPED).expect("standard error");
            return None;
        }
        Err(error) => panic!("dtc: {error}"),
    };
    dtc.stdin.take().expect("piped").write_all(source.as_bytes()).expect("dtc reads");
    let output = dtc.wait_with_output().expect("dtc ends");
    assert!(output.status.success(), "dtc refuses:\n{source}");
    Some(output.stdout)
}

/// A tree with one bank, 0x80000000+0x40000000, children of `/reserved-memory`, and other nodes.
/// Addresses and sizes have one word.
pub(crate) fn tree(reserved: &str, others: &str) -> String {
    format!(
        "/dts-v1/;
        / {{
            #address-cells = <1>; #size-cells = <1>;
            memory@80000000 {{ device_type = \"memory\"; reg = <0x80000000 0x40000000>; }};
            reserved-memory {{
                #address-cells = <1>; #size-cells = <1>; ranges;
                {reserved}
            }};
            {others}
        }};"
    )
}

/// The board of a source.
pub(crate) fn board_of(source: &str) -> Option<ReadBoard> {
    Some(read(&compiled(source)?).unwrap_or_else(|error| panic!("{error}:\n{source}")))
}

/// The notes as texts.
pub(crate) fn notes(read: &ReadBoard) -> Vec<String> {
    read.notes.iter().map(ToString::to_string).collect()
}

/// The parts of a blob's structure block.
#[derive(Clone, Copy)]
pub(crate) enum Token<'a> {
    /// The start of a node.
    Open(&'a str),
    /// The end of a node.
    Close,
    /// A property with the value 0.
    Property(&'a str),
    /// Any word.
    Word(u32),
}

/// A blob of any structure, also of those that `dtc` doesn't write.
pub(crate) fn assembled(tokens: &[Token<'_>]) -> Vec<u8> {
    let (mut structure, mut strings) = (Vec::new(), Vec::new());
    let word = |to: &mut Vec<u8>, word: usize| to.extend((word as u32).to_be_bytes());
    for token in tokens {
        match token {
            Token::Open(name) => {
                word(&mut structure, 1);
                structure.extend(name.bytes());
                structure.push(0);
                structure.resize(structure.len().next_multiple_of(4), 0);
            }
            Token::Close => word(&mut structure, 2),
            Token::Property(name) => {
                for number in [3, 4, strings.len(), 0] {
                    word(&mut structure, number);
                }
                strings.extend(name.bytes());
                strings.push(0);
            }
            Token::Word(number) => structure.extend(number.to_be_bytes()),
        }
    }
    word(&mut structure, 9);
    let structure_at = 40 + 16;
    let strings_at = structure_at + structure.len();
    let mut blob = Vec::new();
    for number in [
        0xd00d_feed,
        strings_at + strings.len(),
        structure_at,
        strings_at,
        40,
        17,
        16,
        0,
        strings.len(),
        structure.len(),
    ] {
        word(&mut blob, number);
    }
    blob.resize(structure_at, 0);
    [blob, structure, strings].concat()
}
