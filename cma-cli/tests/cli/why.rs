//! `cma why` of a trace, and `why` in the shell.

use crate::{Run, TRACE, folder, keys, run, shell, value, written};

#[test]
fn the_first_failure_of_a_trace_is_explained_with_the_ages_of_the_recording() {
    let folder = folder();
    let trace = written(&folder, "t.trace", TRACE);
    let Run { code, out, err } = run(&["why", "--region", "8K", &trace]);
    assert_eq!((code, err.as_str()), (0, ""));
    let expected = "operation 2 at 0.000 s fails, with best-fit in a region of 8K\n\
        4K for codec/common\n\
        trace: full: 0 of 8K free\n\
        \x20 0x100000000 [xx] 0x100002000\n\
        \x20 x to leave\n\
        \x20 free: nothing of 8K\n\
        \x20 to make room (least): 8K in 1 chunk; a new best-fit then places it at 0x100000000\n\
        \x20   0x100000000+0x2000 of camera/frame, 1.0 us old\n\
        \x20 owners:\n\
        \x20   camera/frame  8K  1 chunk  1.0 us old\n";
    assert_eq!(out, expected);

    let Run { code, out, .. } = run(&["why", "--json", "--region", "8K", "--op", "2", &trace]);
    assert_eq!((code, out.lines().count()), (0, 1));
    assert_eq!(keys(&out)[..4], ["trace", "allocator", "operation", "time_us"]);
    assert_eq!((value(&out, "operation"), value(&out, "time_us")), (2.into(), 1.into()));
    let region = &value(&out, "explanation")["regions"][0];
    assert_eq!(region["room"]["by_number"]["placed"], "0x100000000");
    assert_eq!(region["owners"][0]["device"], "camera");
}

#[test]
fn a_system_and_an_allocator_may_be_named_as_for_a_replay() {
    let folder = folder();
    let trace = written(&folder, "t.trace", TRACE);
    let system = ["--cma", "a=4K@0x40000000;b=4K@0x40001000", "--banks", "1M@0x40000000"];
    let why = ["--map", "*=a,b", "why", "--allocator", "buddy", &trace];
    let Run { code, out, err } = run(&[&system[..], &why].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    for said in [
        "operation 1 at 0.000 s fails, with buddy as the default allocator in 2 regions of 8K ",
        "together\n8K for camera/frame\n",
        "a: too small: 8K requested of a region of 4K\n",
        "b: too small: 8K requested of a region of 4K\n",
        "to make room: impossible, the region has no place even when it is empty\n",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
}

#[test]
fn what_is_no_failure_is_said() {
    let folder = folder();
    let trace = written(&folder, "t.trace", TRACE);
    let Run { code, out, .. } = run(&["why", &trace]);
    assert_eq!(
        (code, out.as_str()),
        (
            0,
            "every request is served, with best-fit in a region of 2M\n\
             the region has twice the peak of live memory; --region sets its size\n"
        )
    );
    let Run { code, out, .. } = run(&["why", "--region", "8K", "--op", "4", &trace]);
    assert_eq!(
        (code, out.as_str()),
        (0, "operation 4 is served, with best-fit in a region of 8K\n")
    );
    for (args, said) in [
        (&["why", "--op", "3", &trace][..], "operation 3 frees a chunk"),
        (&["why", "--op", "9", &trace], "there is no operation 9: the trace has 4"),
        (&["why", "--op", "0", &trace], "there is no operation 0"),
        (&["why", "--cma", "a=1M"], "`cma why --connect` does not use --cma"),
        (&["why", "--op", "1"], "TRACE"),
        (&["why", "--op", "1", "--connect", "s"], "cannot be used with"),
        (&["why", "--allocator", "buddy", "--connect", "s"], "cannot be used with"),
        (&["why", "--region", "1M", "--mount", "m"], "cannot be used with"),
        (&["why", "--region", "1M", "--cma", "a=1M", &trace], "contradict each other"),
        (&["why", "--allocator", "worst", &trace], "there is no allocator \"worst\""),
        (&["why", "/nonexistent.trace"], "/nonexistent.trace"),
    ] {
        let Run { code, err, out } = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains(said), "{args:?}: {err}");
    }
}

#[test]
fn a_request_that_was_refused_when_it_was_recorded_and_is_served_is_said_to_be_both() {
    let folder = folder();
    let recorded = "# cma-trace 1\n# source: a test\n\
        # ops: 3  peak-live-bytes: 4096  peak-live-chunks: 1\n0 a 1 4096 1 cam\n1 r 2 8192 1 codec\n2 r 3 4096 1 codec\n";
    let trace = written(&folder, "t.trace", recorded);
    let Run { code, out, err } = run(&["why", "--region", "1M", &trace]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("of 1M\nrefused when the trace was recorded: 2\n"), "{out}");
    let Run { out, .. } = run(&["why", "--region", "1M", "--op", "2", &trace]);
    assert_eq!(
        out,
        "operation 2 is served, with best-fit in a region of 1M\n\
         it was refused when the trace was recorded\n"
    );
    let Run { out, .. } = run(&["why", "--region", "1M", "--op", "1", &trace]);
    assert!(out.ends_with("of 1M\n"), "{out}");
}

#[test]
fn the_allocator_that_a_system_gives_a_region_is_the_one_that_is_named() {
    let folder = folder();
    let trace = written(&folder, "t.trace", TRACE);
    let system = ["--cma", "a=8K@0x40000000:bitmap", "--banks", "1M@0x40000000", "--map", "*=a"];
    let Run { code, out, .. } = run(&[&system[..], &["why", &trace]].concat());
    assert_eq!(code, 0);
    assert!(out.starts_with("operation 2 at 0.000 s fails, in a region of 8K\n"), "{out}");
    assert!(out.contains("; a new bitmap then places it at 0x40000000\n"), "{out}");
}

#[test]
fn the_shell_explains_its_last_refused_request() {
    let options = ["--cma", "r=1M@0x30000000", "--map", "*=r"];
    let input = b"why\na cam 1M\na mic 64K\nw\nwhy now\n";
    let Run { code, out, err } = shell(&options, input);
    assert_eq!(code, 1);
    for said in [
        "64K for mic/common\nr: full: 0 of 1M free\n",
        "to make room (least): 1M in 1 chunk; a new best-fit then places it at 0x30000000\n",
        "    cam/common  1M  1 chunk\n",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines[0], "line 1: no request was refused");
    assert_eq!(lines[2], "line 5: unexpected \"now\" at the end of the line");
    assert_eq!(lines.len(), 3, "{err}");
}
