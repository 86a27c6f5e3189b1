//! `cma record --ftrace` and `--free-list`: what a kernel recorded, as a trace.

use crate::{Run, cma, folder, run, value, written};
use cma_trace::Trace;
use std::fs::{self, File};
use std::path::Path;

/// A file of a recording of a kernel.
fn recording(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cma-trace/recordings/arm64-vivid");
    folder.join(name).display().to_string()
}

#[test]
fn a_recording_of_a_kernel_becomes_a_trace_that_is_replayed() {
    let folder = folder();
    let trace = folder.path().join("kernel.trace.gz").display().to_string();
    let (events, log) = (recording("trace-cmd-report.txt.gz"), recording("dmesg.txt.gz"));
    let Run { code, out, err } =
        run(&["record", "--ftrace", &events, "--free-list", &log, "-o", &trace]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let expected = "7516 operations: 145 requests refused, at most 49 chunks and 57492K live\n\
                    reserved: 64M at 0x7ac00000\n";
    // A trace that is read from standard input is the same.
    assert_eq!(err, expected);
    let again = written(&folder, "again.trace", "");
    let mut piped = cma(&["record", "--ftrace", "-", "--free-list", &log, "-o", &again]);
    let piped = Run::from(piped.stdin(File::open(&events).unwrap()).output().unwrap());
    assert_eq!((piped.code, piped.err.as_str()), (0, expected));
    let read = |path: &str| Trace::read(File::open(path).unwrap()).unwrap();
    assert_eq!(read(&trace).operations(), read(&again).operations());

    let Run { code, out, err } = run(&["--json", "replay", "--region", "64M", &trace]);
    assert_eq!(code, 1, "{err}");
    let failed = |name: &str| {
        let line = out.lines().find(|line| value(line, "allocator") == name).unwrap();
        (value(line, "failed"), value(line, "refused"))
    };
    assert_eq!(failed("bitmap"), (143.into(), 145.into()));
    assert_eq!(failed("best-fit"), (94.into(), 145.into()));
}

#[test]
fn free_pages_become_the_chunks_between_them() {
    let folder = folder();
    let trace = folder.path().join("state.trace").display().to_string();
    let list = "cma: number of available pages: 4@2+8@8=> 12 free of 16 total pages";
    let Run { code, out, err } =
        run(&["record", "--free-list", list, "--area-start", "0x40000000", "-o", &trace]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let text = fs::read_to_string(&trace).unwrap();
    assert!(
        text.ends_with(
            "0 a 1 8192 4096 unknown at=0x40000000\n0 a 2 8192 4096 unknown at=0x40006000\n"
        ),
        "{text}"
    );
    let Run { code, err, .. } = run(&["record", "--free-list", list, "-o", &trace]);
    assert_eq!(code, 2);
    assert!(err.contains("where the area of 64K starts") && err.contains("--area-start"), "{err}");
}

#[test]
fn a_recording_that_cant_be_read_changes_no_file_and_names_file_line_and_reason() {
    let folder = folder();
    let trace = written(&folder, "kernel.trace", "as before");
    let whole = fs::read(recording("trace.txt.gz")).unwrap();
    let cut = folder.path().join("cut.txt.gz").display().to_string();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let back = written(
        &folder,
        "back.txt",
        "a-1 [000] 2.000000: cma_release: name=r pfn=1 count=1\n\
         a-1 [000] 1.000000: cma_release: name=r pfn=2 count=1\n",
    );
    let none = written(&folder, "none.txt", "# tracer: nop\n");
    let hex = written(&folder, "hex.txt", "\na-1 [000] 2.000000: cma_release: pfn=z count=1\n");
    for (file, reason) in [
        (&cut, "cut.txt.gz: the compressed data is truncated after line"),
        (&back, "back.txt: line 2: expected a time of 2.000000 s or later, found 1.000000"),
        (&none, "none.txt: none of its 1 lines is an event of the group cma"),
        (&hex, "hex.txt: line 2, column 38: expected pfn= and a page's number"),
        (&"/nonexistent".to_string(), "/nonexistent: No such file"),
    ] {
        let Run { code, out, err } = run(&["record", "--ftrace", file, "-o", &trace]);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        let err = err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(err.contains(reason), "{reason}: {err}");
    }
    assert_eq!(fs::read_to_string(&trace).unwrap(), "as before");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "a temporary file is left");
}

#[test]
fn what_makes_a_trace_less_than_the_truth_is_reported() {
    let folder = folder();
    let trace = folder.path().join("kernel.trace").display().to_string();
    let events = written(
        &folder,
        "lost.txt",
        "CPU:0 [LOST 3 EVENTS]\n\
         a-1 [000] 2.000000: cma_release: name=r pfn=1 count=1\n\
         a-1 [000] 2.000000: cma_release: name=r pfn=1 count=1\n",
    );
    let Run { code, err, .. } = run(&["record", "--ftrace", &events, "-o", &trace]);
    assert_eq!(code, 0);
    assert!(err.contains("from line 1: 3 events of any kind were lost"), "{err}");
    assert!(err.contains("from line 3: 1 release has pages that were free"), "{err}");
    assert!(err.ends_with("r: chunks from 0x1000 to 0x2000\n"), "{err}");
}
