//! `cma shell` in its own process.

use crate::{Run, run, shell};
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn a_shell_session_prints_chunks_as_number_size_and_start() {
    let session = "# two chunks, a repeated one, and what is left\n\
        a s3c-mfc5/a 1M/1M\n\
        alloc camera 4K\n\
        \n\
        f 2\n\
        l\n";
    let Run { code, out, err } = shell(&[], session.as_bytes());
    assert_eq!((code, err.as_str()), (0, ""));
    let expected = "  1: 0x100000@0x30100000\n  2: 0x1000@0x30200000\n  3: 0x1000@0x30201000\n\
        \x20 1: 0x100000@0x30100000  s3c-mfc5/a in b1\n  3: 0x1000@0x30201000  camera in b1\n";
    assert_eq!(out, expected);
}

#[test]
fn the_shell_frees_the_newest_chunk_and_reuses_no_number() {
    let Run { code, out, .. } = shell(&[], b"A b2,b1 16M\nA b2,b1 16M\nf\nf\nA b2 8K\nl");
    assert_eq!(code, 0);
    let expected = "  1: 0x1000000@0x40000000\n  2: 0x1000000@0x30100000\n  3: 0x2000@0x40000000\n  3: 0x2000@0x40000000  from b2 in b2\n";
    assert_eq!(out, expected);
}

#[test]
fn the_shell_continues_after_refusals_and_reports_them_in_its_exit_status() {
    let Run { code, out, err } = shell(
        &[],
        b"\nwhat\na s3c-mfc5/f 2M\nf\nf 9\na cam 0\nA nowhere 4K\na cam 1M/3\n\xff\xfe\na camera 4K\n",
    );
    assert_eq!(code, 1);
    assert_eq!(out, "  1: 0x1000@0x30100000\n");
    let lines: Vec<_> = err.lines().collect();
    for (line, expected) in lines.iter().zip([
        "line 2: there is no command \"what\"; there are: l[ist]",
        "line 3: ENOMEM: no region could serve it: fw: too small: 2M requested of a region of 1M",
        "line 4: there is no chunk to free",
        "line 5: there is no chunk 9",
        "line 6: the size is 0; request 1 byte or more at column 7: \"0\"",
        "line 7: ENOMEM: no region could serve it: nowhere: no such region",
        "line 8: an alignment of 3 is no power of two at column 10: \"3\"",
        "line 9: a line must be UTF-8 text",
    ]) {
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
    assert_eq!(lines.len(), 8, "{err}");
}

#[test]
fn a_request_may_have_limits() {
    let Run { code, out, err } = shell(
        &["--cma", "low=32M@0x41000000", "--map", "*=low"],
        b"a cam 1M above=0x42f00000\na cam 2M/64K below=0x41300000 boundary=2M\nA low 4K at=0x41800000\n",
    );
    assert_eq!((code, err.as_str()), (0, ""));
    let expected = "  1: 0x100000@0x42f00000\n  2: 0x200000@0x41000000\n  3: 0x1000@0x41800000\n";
    assert_eq!(out, expected);
    let Run { code, out, err } = shell(&[], b"a cam 1M above=2G below=1G\na cam 1M upto=4G\n");
    assert_eq!((code, out.as_str()), (1, ""));
    let expected = "line 1: below=0x40000000 contradicts above=0x80000000: nothing lies between \
        them at column 19: \"below=1G\"\nline 2: expected a limit: above=, below=, boundary=, at= \
        or wait= at column 10: \"upto=4G\"\n";
    assert_eq!(err, expected);
}

#[test]
fn the_shell_reports_regions_without_memory_at_its_start() {
    let Run { code, err, .. } = shell(&["--cma", "a=1M;huge=1G", "--map", "*=a,huge"], b"a c 4K\n");
    assert_eq!(code, 1);
    assert!(
        err.contains("there is no region \"huge\": no memory bank has 1G free in one piece"),
        "{err}"
    );
}

#[test]
fn a_window_outside_all_memory_is_an_error_with_its_place_and_a_remedy() {
    let options = &["--cma", "a=1M;x=1M@0x1000-0x2000000", "--map", "*=a,x"][..];
    let regions = run(&[options, &["regions"]].concat());
    for Run { code, err, .. } in [shell(options, b"a cam 4K\n"), regions] {
        assert_eq!(code, 1, "{err}");
        for said in [
            "× there is no region \"x\": no memory bank has a page within the window \
             0x1000-0x2000000",
            "[--cma:1:11]",
            "write a window in a bank with room for it: 80M@0x30000000",
        ] {
            assert!(err.contains(said), "{said}: {err}");
        }
    }
    // A file has its places, too.
    let folder = tempfile::tempdir().expect("a folder for a board");
    let file = folder.path().join("board.toml");
    let text = "banks = [\"64M@0x40000000\"]\nmap = \"*=x\"\n\n[[regions]]\nname = \"x\"\n\
        size = \"1M\"\nwithin = \"0-0x1000000\"\n";
    std::fs::write(&file, text).expect("the folder can be written");
    let Run { err, .. } = run(&["--platform", file.to_str().expect("UTF-8"), "regions"]);
    assert!(err.contains("board.toml:7:"), "{err}");
    // A request whose window has no memory.
    let Run { code, err, .. } = shell(&[], b"a cam 1M below=2M\na cam 1M below=4K\n");
    let places: Vec<&str> = err.lines().collect();
    assert!(
        places[0].contains("below 0x200000; change the window, or use a region in it"),
        "{err}"
    );
    assert!(places[1].ends_with("at column 10: \"below=4K\""), "{err}");
    assert_eq!(code, 1);
}

#[test]
fn regions_are_requested_by_name_in_groups() {
    let Run { code, out, err } = shell(
        &["--cma", "a=32M@0x40000000;b=16M@0x42000000;c=1M@0x43000000", "--map", "*=a"],
        b"A a|b 1M\nA c, a | b 2M\nA a,b 1M\nl\n",
    );
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("  2: 0x200000@0x42100000\n  3: 0x100000@0x40000000\n"), "{out}");
    assert!(out.contains("from c,a|b in b\n"), "{out}");
    let Run { err, .. } = shell(&[], b"A b1||b2 1M\n");
    assert!(err.contains("or in b1|b2 for the one of them that fits best"), "{err}");
}

#[test]
fn the_shell_ends_at_quit_and_prints_help() {
    for end in ["q", "quit", "exit"] {
        let Run { code, out, err } = shell(&[], format!("{end}\na camera 4K\n").as_bytes());
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""), "{end}");
    }
    for help in ["h", "help", "?"] {
        let Run { code, out, .. } = shell(&[], format!("{help}\n").as_bytes());
        assert_eq!(code, 0);
        assert!(
            out.contains("  f, free [<num>]") && out.contains("q, quit, exit"),
            "{help}: {out}"
        );
    }
}

#[test]
fn a_line_that_is_too_long_is_one_error_and_the_next_is_read() {
    let mut session = vec![b'x'; 300_000];
    session.extend(b"\na camera 4K\n# ");
    session.extend([b'y'; (64 << 10) - 2]);
    session.extend(b"\n");
    let Run { code, out, err } = shell(&[], &session);
    assert_eq!((code, out.as_str()), (1, "  1: 0x1000@0x30100000\n"));
    assert_eq!(err, "line 1: a line has at most 65536 bytes\n");
}

#[test]
fn a_line_without_an_end_is_not_kept_in_memory() {
    const MIB: usize = 1 << 20;
    let mut child = Command::new("/bin/sh")
        .args(["-c", "ulimit -v 400000; exec \"$0\" shell", env!("CARGO_BIN_EXE_cma")])
        .env_clear()
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("it is piped");
    let zeros = vec![0; MIB];
    (0..512).try_for_each(|_| input.write_all(&zeros)).expect("the program reads on");
    drop(input);
    let Run { code, err, .. } = child.wait_with_output().expect("the program ends").into();
    assert_eq!((code, err.as_str()), (1, "line 1: a line has at most 65536 bytes\n"));
}
