//! Whatever a trace or a recording contains, the commands that read it end with an error that names
//! the file, the line and the reason.

use crate::{Run, cma, folder, written};
use std::fs;
use std::io::{self, Write};
use std::process::Command;

/// The commands that read a trace, without the trace.
const READERS: [&[&str]; 5] =
    [&["replay"], &["size"], &["compare"], &["why"], &["draw", "-o", "picture.svg"]];

const HEAD: &str =
    "# cma-trace 1\n# source: bad\n# ops: 2  peak-live-bytes: 4096  peak-live-chunks: 1\n";

/// Runs `cma` in the folder with the output of a shell command as its input, and 4 GiB of addresses
/// at most.
fn limited(folder: &tempfile::TempDir, input: &str, arguments: &[&str]) -> Run {
    let script = format!("ulimit -v 4194304; {input} | \"$0\" \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_cma")]).args(arguments);
    command.current_dir(folder.path()).output().expect("bash starts").into()
}

/// Without the line breaks of a narrow terminal.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_reader_of_traces_refuses_a_bad_one_with_its_line() {
    let folder = folder();
    let demo = cma_trace::DEMO;
    let cut = folder.path().join("cut.trace.gz");
    fs::write(&cut, &demo[..demo.len() / 2]).expect("a temporary file can be written");
    let cut = cut.display().to_string();
    let with =
        |name: &str, operations: &str| written(&folder, name, &format!("{HEAD}{operations}"));
    let unknown = with("unknown.trace", "0 a 1 4096 1 c\n1 f 7\n");
    let back = with("back.trace", "5 a 1 4096 1 c\n1 f 1\n");
    let early = with("early.trace", "5 f 1\n6 a 1 4096 1 c\n");
    for (trace, reason) in [
        (&cut, "cut.trace.gz: the compressed data is truncated after line "),
        (&unknown, "unknown.trace: line 5: expected the id of a live chunk, found 7"),
        (&back, "back.trace: line 5: expected a time of 5 us or later, found 1"),
        (&early, "early.trace: line 4: expected the id of a live chunk, found 1"),
    ] {
        for reader in READERS {
            let arguments = [reader, &[trace]].concat();
            let output = cma(&arguments).current_dir(folder.path()).output();
            let Run { code, out, err } = output.expect("the program starts").into();
            assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
            assert!(in_one_line(&err).contains(reason), "{arguments:?}: {err}");
        }
    }
    assert!(!folder.path().join("picture.svg").exists());
}

#[test]
fn a_line_without_end_is_refused_in_little_memory() {
    let folder = folder();
    let endless = "tr '\\0' 1 < /dev/zero";
    let trace = format!("{{ printf '{}0 a 1 '; {endless}; }}", HEAD.replace('\n', "\\n"));
    for reader in READERS {
        let Run { code, err, .. } = limited(&folder, &trace, &[reader, &["-"]].concat());
        assert_eq!(code, 2, "{reader:?}: {err}");
        assert!(in_one_line(&err).contains("standard input: line 4: "), "{reader:?}: {err}");
    }
    let recording = ["record", "--ftrace", "-", "-o", "kernel.trace"];
    let Run { code, err, .. } = limited(&folder, endless, &recording);
    assert_eq!(code, 2, "{err}");
    assert!(in_one_line(&err).contains("standard input: line 1: "), "{err}");
    assert!(!folder.path().join("kernel.trace").exists());
}

#[test]
fn a_small_file_that_unpacks_to_a_large_one_is_refused_in_little_memory() {
    let folder = folder();
    let head = HEAD.replace('\n', "\\n");
    let script = format!(
        "{{ printf '{head}0 a 1 '; head -c 300M /dev/zero | tr '\\0' 1; }} | gzip -1 > bomb.trace.gz"
    );
    let packed = Command::new("bash").args(["-c", &script]).current_dir(folder.path()).status();
    let bomb = folder.path().join("bomb.trace.gz");
    if fs::metadata(&bomb).map_or(0, |bomb| bomb.len()) < 1000 {
        let why = format!("SKIPPED: gzip made no file to read: {packed:?}\n");
        io::stderr().write_all(why.as_bytes()).expect("standard error is open");
        return;
    }
    for reader in READERS {
        let arguments = [reader, &["bomb.trace.gz"]].concat();
        let Run { code, err, .. } = limited(&folder, "true", &arguments);
        assert_eq!(code, 2, "{reader:?}: {err}");
        assert!(in_one_line(&err).contains("bomb.trace.gz: line 4: "), "{reader:?}: {err}");
    }
    for option in ["--ftrace", "--free-list"] {
        let arguments = ["record", option, "bomb.trace.gz", "-o", "kernel.trace"];
        let Run { code, err, .. } = limited(&folder, "true", &arguments);
        assert_eq!(code, 2, "{option}: {err}");
        assert!(in_one_line(&err).contains("bomb.trace.gz: line 4: "), "{option}: {err}");
        assert!(!folder.path().join("kernel.trace").exists());
    }
}
