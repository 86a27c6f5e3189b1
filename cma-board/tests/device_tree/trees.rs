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
