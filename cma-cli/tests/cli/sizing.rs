//! `cma size` and `cma compare`.

use crate::{Run, TRACE, folder, keys, run, value, written};
use std::io::{self, Write};
use std::process::Command;

/// The lines of JSON that have `key`, with that value.
fn values(out: &str, key: &str) -> Vec<serde_json::Value> {
    out.lines().map(|line| value(line, key)).collect()
}

#[test]
fn size_shows_the_smallest_region_of_each_allocator_and_both_bounds() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let Run { code, out, err } = run(&["size", "--margin", "50", &trace]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let peak = "peak 12K in 2 chunks after operation 2 (0.000 s): camera/frame 8K, codec 4K\n";
    assert!(out.contains(peak), "{out}");
    assert!(out.contains("offline 12K, 1.000 of the peak, by first fit by size; decided"), "{out}");
    let bitmap = out.lines().find(|line| line.starts_with("bitmap")).expect("a row");
    let bitmap: Vec<_> = bitmap.split_whitespace().collect();
    assert_eq!(bitmap, ["bitmap", "12K", "1.000", "20K"]);
}

#[test]
fn size_prints_an_object_for_each_group_and_allocator() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let Run { code, out, err } =
        run(&["size", "--json", "--per-device", "--allocator", "bitmap", &trace]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let first = out.lines().next().expect("a line");
    assert_eq!(
        keys(first)[..7],
        [
            "trace",
            "group",
            "allocator",
            "peak_live_bytes",
            "offline_bytes",
            "region_bytes",
            "overhead"
        ]
    );
    assert_eq!(values(&out, "group"), ["camera", "codec"]);
    assert_eq!(values(&out, "peak_live_bytes"), [8192, 8192]);
    assert_eq!(values(&out, "region_bytes"), [8192, 8192]);
    let map = ["size", "--json", "--allocator", "buddy", "--map", "*/frame=a;*=b", &trace];
    let Run { code, out, .. } = run(&map);
    assert_eq!(code, 0);
    assert_eq!(values(&out, "group"), ["a", "b"]);
}

#[test]
fn the_board_that_size_prints_serves_its_trace() {
    let folder = folder();
    let limited = "# cma-trace 1\n# source: limits\n\
        # ops: 3  peak-live-bytes: 77824  peak-live-chunks: 3\n\
        0 a 1 4096 1 fw at=0x40005000\n1 a 2 8192 65536 fw below=1G\n2 a 3 65536 1 codec:0\n";
    for (text, more) in [
        (TRACE, &["--per-device"][..]),
        (TRACE, &["--map", "camera=b1;*=b2"]),
        (TRACE, &[]),
        (limited, &["--per-device", "--margin", "10"]),
    ] {
        let text = text.replace("below=1G", "below=0x40040000");
        let trace = written(&folder, "a.trace", &text);
        for form in ["toml", "options", "cmdline", "dts"] {
            let Run { code, out, err } = run(&[&["size", "--as", form, &trace], more].concat());
            assert_eq!(code, 0, "{out}{err}");
            // A kernel's command line has no region for some devices; that is reported.
            let empty = form == "cmdline" && !more.is_empty();
            assert!(if empty { err.contains("is left out") } else { out.contains('=') }, "{out}");
            if form == "toml" {
                let board = written(&folder, "board.toml", &out);
                let banks = ["--banks", "1G@0x40000000", "--platform", &board];
                let Run { code, out, err } = run(&[&banks[..], &["replay", &trace]].concat());
                assert_eq!(code, 0, "{more:?}\n{out}{err}");
            }
        }
    }
}

#[test]
fn every_form_that_size_prints_passes_check_or_size_says_what_is_missing() {
    let header = "# cma-trace 1\n# source: forms\n";
    let ops = |n: usize, bytes: u64| {
        format!("{header}# ops: {n}  peak-live-bytes: {bytes}  peak-live-chunks: {n}\n")
    };
    let low = ops(3, 77824)
        + "0 a 1 4096 1 fw at=0\n1 a 2 8192 65536 fw below=16M\n2 a 3 65536 1 codec:0\n";
    let named = ops(2, 12288) + "0 a 1 4096 1 fw from=b1\n1 a 2 8192 65536 codec\n";
    let alike = ops(2, 12288) + "0 a 1 4096 1 fw:0\n1 a 2 8192 65536 fw-0\n";
    let cases: &[(&str, &[&str], &str)] = &[
        (&low, &[], ""),
        (&low, &["--per-device"], ""),
        (&low, &["--map", "codec:*=b1;*=b2"], ""),
        (&alike, &["--per-device"], ""),
        (TRACE, &[], ""),
        (TRACE, &["--per-device", "--at", "0", "--margin", "10"], "can't start where another"),
        (TRACE, &["--at", "0", "--margin", "10"], ""),
        (TRACE, &["--map", "*=b1,b2|b3"], "\"*=b1,b2|b3\" is printed as \"*=b1\""),
        (TRACE, &["--map", "camera=b1|b2,b3;*=b3"], "is printed as \"camera=b1,b3\""),
        (TRACE, &["--map", "gpu=b1;*=b2"], "\"gpu=b1\": no request goes to its regions"),
        (&named, &["--map", "*=b2"], "no rule names region \"b1\""),
        (&named, &["--map", "fw=b1;*=b2"], ""),
    ];
    let folder = folder();
    for (text, more, missing) in cases {
        let trace = written(&folder, "a.trace", text);
        for form in ["toml", "options", "cmdline", "cmdline-v4", "dts"] {
            let Run { code, out, err: noted } =
                run(&[&["size", "--as", form, &trace], *more].concat());
            assert!(noted.contains(missing), "{more:?} {form}: {noted}");
            if code == 2 {
                continue;
            }
            assert_eq!(code, 0, "{more:?} {form}: {noted}");
            let Some(described) = described(&folder, form, out.trim_end()) else { continue };
            let described: Vec<&str> = described.iter().map(String::as_str).collect();
            let banks = ["--banks", "8G@0"];
            let Run { code, out, err } = run(&[&["check"], &described[..], &banks].concat());
            let clean = (code, err.as_str()) == (0, "");
            let said = code == 1 && (!missing.is_empty() || noted.contains("left out"));
            assert!(clean || said, "{more:?} {form}: {described:?}\n{noted}{out}{err}");
        }
    }
}

/// The options of `cma` for a board that was printed in that form; `None` if it says nothing, or
/// no program is there to compile it.
fn described(folder: &tempfile::TempDir, form: &str, printed: &str) -> Option<Vec<String>> {
    let file = match form {
        _ if printed.is_empty() => return None,
        "options" => {
            let shell =
                Command::new("sh").args(["-c", &format!("printf '%s\\n' {printed}")]).output();
            let words = String::from_utf8(shell.expect("a shell").stdout).expect("UTF-8");
            return Some(words.lines().map(String::from).collect());
        }
        "toml" => written(folder, "board.toml", printed),
        "dts" => {
            let source = written(folder, "board.dts", printed);
            let blob = source.replace("board.dts", "board.dtb");
            let dtc = Command::new("dtc").args(["-q", "-O", "dtb", "-o", &blob, &source]).status();
            match dtc {
                Ok(status) => assert!(status.success(), "{printed}"),
                Err(reason) => {
                    let why = format!(
                        "SKIPPED: dtc does not run, and its form was not checked: {reason}\n"
                    );
                    io::stderr().write_all(why.as_bytes()).expect("standard error is open");
                    return None;
                }
            }
            blob
        }
        _ => written(folder, "board.cmdline", printed),
    };
    Some(vec!["--platform".to_string(), file])
}

#[test]
fn size_says_what_is_wrong_and_still_sizes_the_other_traces() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let wrong = written(&folder, "wrong.trace", &TRACE.replace("1 a 2 4096", "1 a 2 none"));
    let empty = written(
        &folder,
        "empty.trace",
        "# cma-trace 1\n# source: nothing\n# ops: 0  peak-live-bytes: 0  peak-live-chunks: 0\n",
    );
    let at = written(&folder, "at.trace", &TRACE.replace("codec\n2", "codec at=0x1000\n2"));
    let size = ["size", "--allocator", "bitmap"];
    for (arguments, message) in [
        (vec![wrong.as_str(), trace.as_str()], "line 5"),
        (vec![&empty, &trace], "the trace requests nothing"),
        (vec!["--map", "camera=b1", &trace], "no rule of the map matches codec"),
        (vec!["--map", "*=b1", "--per-device", &trace], "contradict each other"),
        (vec!["--at", "0x2000", &at], "no region that starts at 0x2000 has a place"),
        (vec!["--at", "0x2001", &at], "multiple of 4096"),
        (vec!["--at", "0x2000", "--per-device", &trace], "can't start where another one does"),
        (vec!["--allocator", "nobody", &trace], "there is no allocator \"nobody\""),
        (vec!["--allocator", "bitmap", &trace], "\"bitmap\" is given twice"),
        (vec!["--allocator", "./nothing.so", &trace], "nothing.so"),
    ] {
        let Run { code, out, err } = run(&[&size[..], &arguments].concat());
        assert_eq!(code, 2, "{arguments:?}: {out}{err}");
        assert!(err.contains(message), "{arguments:?}: {err}");
        if arguments.first() == Some(&wrong.as_str()) {
            let row = out.lines().find(|line| line.starts_with("bitmap")).expect("a row");
            assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["bitmap", "12K", "1.000"]);
        }
    }
}

#[test]
fn an_allocator_that_serves_no_size_is_shown_with_the_reason() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let Run { code, out, .. } = run(&["size", "--allocator", "bitmap(x)", &trace]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("bitmap(x): not served in a region of "), "{out}");
}

#[test]
fn compare_has_figures_of_each_allocator_and_ends_with_a_verdict() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let Run { out, .. } = run(&["plugins", "--json"]);
    let tlsf = out.lines().find(|line| value(line, "name") == "tlsf").expect("tlsf");
    let tlsf = value(tlsf, "path").as_str().expect("a path").to_string();
    let both = ["--allocator", "bitmap", "--allocator", &tlsf, "--runs", "2", &trace];
    let Run { code, out, err } = run(&[&["compare", "--json"], &both[..]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(values(&lines[..2].join("\n"), "allocator"), ["bitmap", "tlsf"]);
    assert_eq!(value(lines[0], "smallest_region_bytes"), 12288);
    assert_eq!(value(lines[0], "refused"), 0);
    assert_eq!(value(lines[0], "least_free_range_bytes"), 0);
    let verdict = value(lines[2], "verdict");
    let verdict = verdict.as_str().expect("a text");
    assert!(verdict.contains("2 interleaved runs of each trace"), "{verdict}");
    let Run { out, .. } = run(&[&["compare", "--json", "--region", "8K"], &both[..]].concat());
    assert_eq!(value(out.lines().next().expect("a line"), "refused"), 1);
    let Run { code, out, .. } = run(&[&["compare"], &both[..]].concat());
    assert_eq!(code, 0);
    assert!(out.contains("smallest region") && out.contains("quartiles"), "{out}");
}

#[test]
fn compare_needs_two_allocators() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let Run { code, err, .. } = run(&["compare", "--allocator", "bitmap", &trace]);
    assert_eq!(code, 2);
    assert!(err.contains("nothing to compare"), "{err}");
}

#[test]
fn an_allocator_that_refuses_its_parameters_leaves_the_others_compared() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let three = ["--allocator", "bitmap(x)", "--allocator", "bitmap", "--allocator", "buddy"];
    let arguments = [&["compare", "--json", "--runs", "1"], &three[..], &[&trace]].concat();
    let Run { code, out, err } = run(&arguments);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(value(lines[0], "refused"), serde_json::Value::Null);
    let reason = value(lines[0], "error");
    assert!(reason.as_str().is_some_and(|text| text.contains("unknown parameter \"x\"")), "{out}");
    assert_eq!(value(lines[1], "smallest_region_bytes"), 12288);
    let verdict = value(lines[3], "verdict").to_string();
    assert!(verdict.contains("bitmap(x) not measured"), "{verdict}");
    assert!(verdict.contains("one run of each trace"), "{verdict}");
    let Run { out, .. } = run(&[&["compare", "--runs", "1"], &three[..], &[&trace]].concat());
    assert!(!out.contains("quartiles"), "{out}");
}

#[test]
fn an_error_of_a_plug_in_file_names_its_remedy_once() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let text = written(&folder, "mine.so", "no library");
    let Run { code, err, .. } = run(&["size", "--allocator", &text, &trace]);
    assert_eq!(code, 2);
    assert_eq!(err.matches("name a plug-in library").count(), 1, "{err}");
}

/// 60 buffers, of which some are freed, and others come.
fn program(seed: u64) -> String {
    let mut lines = String::new();
    let (mut live, mut most, mut bytes) = (Vec::new(), (0, 0), 0);
    let mut random = seed;
    for time in 0..200 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let luck = random >> 33;
        if live.len() > 20 {
            let (id, size) = live.swap_remove(luck as usize % live.len());
            bytes -= size;
            lines += &format!("{time} f {id}\n");
        } else {
            let size = 4096 << (luck % 6);
            live.push((time, size));
            bytes += size;
            lines += &format!("{time} a {time} {size} 1 program\n");
        }
        most = (most.0.max(bytes), most.1.max(live.len()));
    }
    let (bytes, chunks) = most;
    let figures = format!("# ops: 200  peak-live-bytes: {bytes}  peak-live-chunks: {chunks}");
    format!("# cma-trace 1\n# source: random\n{figures}\n{lines}")
}

#[test]
fn a_profile_that_size_learns_can_be_given_to_packing() {
    let folder = folder();
    let traces = [1, 2].map(|seed| written(&folder, &format!("{seed}.trace"), &program(seed)));
    let profile = written(&folder, "program.profile", "an old file");
    let learn = ["size", "--learn", &profile, &traces[0], &traces[1]];
    let Run { code, out, err } = run(&learn);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("with the profile") && out.contains("to use it: packing(profile="),
        "{out}"
    );
    let text = std::fs::read_to_string(&profile).expect("it is written");
    assert!(text.starts_with("# cma-packing-profile 1\n"), "{text}");
    assert!(text.contains(&format!("# - {}: peak ", traces[1])), "{text}");
    let Run { code, out, err } = run(&[&["--json"], &learn[..]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(
        std::fs::read_to_string(&profile).expect("it is there"),
        text,
        "it is the same again"
    );
    let allocator = format!("packing(profile={profile})");
    let size = ["size", "--json", "--allocator", &allocator, "--allocator", "packing"];
    let Run { code, out: sized, err } = run(&[&size[..], &[&traces[0], &traces[1]]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{sized}");
    let regions = values(&sized, "region_bytes");
    assert_eq!(values(&out, "region_bytes"), [regions[0].clone(), regions[2].clone()]);
    assert_eq!(values(&out, "default_region_bytes"), [regions[1].clone(), regions[3].clone()]);
    let region = format!("b1=1M:{allocator}");
    let Run { code, out, err } = run(&["--cma", &region, "--map", "*=b1", "regions"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("packing"), "{out}");
}

#[test]
fn size_learns_nothing_from_wrong_input_and_leaves_the_file() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let wrong = written(&folder, "wrong.trace", &TRACE.replace("1 a 2 4096", "1 a 2 none"));
    let old = written(&folder, "old.profile", "an old file");
    let comma = folder.path().join("a,b").display().to_string();
    let nowhere = folder.path().join("no/b").display().to_string();
    let here = folder.path().display().to_string();
    for (arguments, message) in [
        (vec!["--learn", old.as_str(), &trace, &wrong], "line 5"),
        (vec!["--learn", &comma, &trace], "a parameter can't contain ','"),
        (vec!["--learn", &nowhere, &trace], "the profile can't be written: No such file"),
        (vec!["--learn", &here, &trace], "the profile can't be written: is a directory"),
        (vec!["--learn", &old, "--map", "*=b1", &trace], "--learn and --map contradict"),
        (vec!["--learn", &old, "--allocator", "packing", &trace], "cannot be used with"),
        (
            vec!["--allocator", "packing(profile=old.profile)", "--learn", &old],
            "cannot be used with",
        ),
    ] {
        let Run { code, out, err } = run(&[&["size"], &arguments[..]].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(message), "{arguments:?}: {err}");
    }
    assert_eq!(std::fs::read_to_string(&old).expect("it is there"), "an old file");
    let files = std::fs::read_dir(folder.path()).expect("it is a folder").count();
    assert_eq!(files, 3, "no other file is left");
    let Run { code, out, .. } =
        run(&["size", "--allocator", &format!("packing(profile={old})"), &trace]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("old.profile: line 1: expected \"# cma-packing-profile 1\""), "{out}");
}
