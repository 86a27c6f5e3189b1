//! Sessions with the shell.

use crate::{Run, shell};

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
        \x20 1: 0x100000@0x30100000\n  3: 0x1000@0x30201000\n";
    assert_eq!(out, expected);
}

#[test]
fn the_shell_frees_the_newest_and_never_uses_a_number_twice() {
    let Run { code, out, .. } = shell(&[], b"A b2,b1 16M\nA b2,b1 16M\nf\nf\nA b2 8K\nl");
    assert_eq!(code, 0);
    let expected = "  1: 0x1000000@0x40000000\n  2: 0x1000000@0x30100000\n  3: 0x2000@0x40000000\n  3: 0x2000@0x40000000\n";
    assert_eq!(out, expected);
}

#[test]
fn the_shell_goes_on_behind_what_it_refuses_and_says_so_at_the_end() {
    let Run { code, out, err } = shell(
        &[],
        b"\nwhat\na s3c-mfc5/f 2M\nf\nf 9\na cam 0\nA nowhere 4K\na cam 1M/3\n\xff\xfe\na camera 4K\n",
    );
    assert_eq!(code, 1);
    assert_eq!(out, "  1: 0x1000@0x30100000\n");
    let lines: Vec<_> = err.lines().collect();
    for (line, expected) in lines.iter().zip([
        "line 2: there is no command \"what\"; there are: l[ist]",
        "line 3: ENOMEM: no region could serve it: fw: full: 1M of 1M free",
        "line 4: there is no chunk to free",
        "line 5: there is no chunk 9",
        "line 6: EINVAL: a size of 0",
        "line 7: ENOMEM: no region could serve it: nowhere: no such region",
        "line 8: EINVAL: an alignment of 3 is no power of two",
        "line 9: a line is UTF-8 text",
    ]) {
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
    assert_eq!(lines.len(), 8, "{err}");
}
