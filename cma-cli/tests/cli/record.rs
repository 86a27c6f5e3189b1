//! `cma record`: ordinary programs, their own output and exit status, and what goes wrong.

use crate::{Run, cma, folder, run};
use cma_trace::{Action, Trace};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether the machine has a program; prints that the test is skipped if not.
fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let is_found = found.is_ok_and(|found| found.status.success());
    if !is_found {
        // Written directly, because the test harness captures what tests print.
        let why = format!("SKIPPED: {program} is not installed; it was not recorded\n");
        std::io::stderr().write_all(why.as_bytes()).expect("standard error can be written");
    }
    is_found
}

/// Runs `cma record` with further options before the program.
fn recorded(output: &Path, options: &[&str], program: &[&str]) -> Run {
    let output = output.display().to_string();
    let mut command = cma(&["record", "-o", &output]);
    command.args(options).arg("--").args(program);
    command.env("PATH", std::env::var_os("PATH").expect("PATH is set"));
    command.output().expect("the program starts").into()
}

fn read(path: &Path) -> Trace {
    Trace::read(File::open(path).expect("the trace is there")).expect("it is a trace")
}

/// The bytes that each device requested.
fn bytes(trace: &Trace) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for operation in trace.operations() {
        if let Action::Allocate { size, requester, .. } = operation.action {
            let device = trace.requesters()[usize::from(requester)].to_string();
            *all.entry(device).or_default() += size;
        }
    }
    all
}

/// Whether a replay serves all requests of the trace in the usual region.
fn assert_replays(path: &Path) {
    let Run { code, out, err } = run(&["replay", &path.display().to_string()]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
}

#[test]
fn the_output_and_the_exit_status_are_the_programs_own() {
    let folder = folder();
    let path = folder.path().join("a.trace");
    let Run { code, out, err } =
        recorded(&path, &[], &["sh", "-c", "echo out; echo error >&2; exit 3"]);
    assert_eq!((code, out.as_str(), err.as_str()), (3, "out\n", "error\n"));
    assert!(read(&path).source().starts_with("sh -c echo out; echo error >&2; exit 3 (cma record"));
    let Run { code, err, .. } = recorded(&path, &[], &["sh", "-c", "kill -TERM $$"]);
    assert_eq!((code, err.as_str()), (128 + 15, ""));
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o600, 0o600);
}

#[test]
fn a_program_that_can_not_run_ends_as_in_a_shell_and_writes_no_trace() {
    let folder = folder();
    let path = folder.path().join("a.trace");
    let text = folder.path().join("text");
    fs::write(&text, "no program").expect("it can be written");
    let Run { code, err, .. } = recorded(&path, &[], &["no-such-program"]);
    assert_eq!(code, 127);
    assert!(err.contains("no-such-program: there is no such program"), "{err}");
    let Run { code, err, .. } = recorded(&path, &[], &[&text.display().to_string()]);
    assert_eq!(code, 126);
    assert!(err.contains("it can't be executed"), "{err}");
    assert_eq!(fs::read_dir(folder.path()).expect("it is a folder").count(), 1);
}

#[test]
fn a_static_program_is_not_started() {
    let folder = folder();
    let (source, program) = (folder.path().join("p.c"), folder.path().join("p"));
    fs::write(&source, "#include <stdio.h>\nint main(void) { return puts(\"ran\"); }")
        .expect("it can be written");
    let compiled = Command::new("cc").args(["-static", "-o"]).args([&program, &source]).output();
    if !compiled.is_ok_and(|compiled| compiled.status.success()) {
        has("cc -static");
        return;
    }
    let path = folder.path().join("a.trace");
    let Run { code, out, err } = recorded(&path, &[], &[&program.display().to_string()]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("statically linked") && err.contains("without -static"), "{err}");
    assert!(!path.exists());
}

#[test]
fn an_output_that_can_not_be_written_is_found_before_the_program_runs() {
    let folder = folder();
    for output in [folder.path().join("none/a.trace"), folder.path().to_path_buf()] {
        let Run { code, out, err } = recorded(&output, &[], &["sh", "-c", "echo ran"]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("the trace can't be written"), "{err}");
    }
    // A device is written and stays a device.
    let Run { code, out, err } = recorded(Path::new("/dev/full"), &[], &["sh", "-c", "echo ran"]);
    assert_eq!((code, out.as_str()), (2, "ran\n"));
    assert!(err.contains("/dev/full: the trace can't be written: No space left"), "{err}");
}

#[test]
fn the_size_and_the_command_line_are_checked() {
    let folder = folder();
    let path = folder.path().join("a.trace");
    let Run { code, err, .. } = recorded(&path, &["--at-least", "0"], &["true"]);
    assert_eq!(code, 2);
    assert!(err.contains("a buffer can't have the size 0"), "{err}");
    let Run { code, err, .. } = recorded(&path, &[], &[]);
    assert_eq!(code, 2);
    assert!(err.contains("PROGRAM"), "{err}");
}

#[test]
fn children_of_a_shell_are_recorded_with_the_devices_that_request() {
    if !has("bash") || !has("python3") {
        return;
    }
    let folder = folder();
    let path = folder.path().join("a.trace.gz");
    let line = "python3 -c 'bytearray(3000000)' & python3 -S -c 'import ctypes; \
        ctypes.CDLL(None).malloc(5000000)'; wait; (exec env -i python3 -c 'bytearray(7000000)')";
    let Run { code, err, .. } = recorded(&path, &["--at-least", "2M"], &["bash", "-c", line]);
    assert_eq!((code, err.as_str()), (0, ""));
    let trace = read(&path);
    let sizes = trace.operations().iter().filter_map(|operation| match operation.action {
        Action::Allocate { size, .. } => Some(size / 1_000_000),
        _ => None,
    });
    let sizes: Vec<_> = sizes.collect();
    for size in [3, 5, 7] {
        assert!(sizes.contains(&size), "{size}: {sizes:?}");
    }
    // All three have ended.
    assert_eq!(trace.operations().len(), 2 * sizes.len());
    assert!(bytes(&trace).keys().any(|device| device.contains("python")), "{:?}", bytes(&trace));
    assert_replays(&path);
}

#[test]
fn ffmpeg_is_recorded_by_library_and_by_thread() {
    if !has("ffmpeg") {
        return;
    }
    let folder = folder();
    let path = folder.path().join("a.trace.gz");
    let ffmpeg = "ffmpeg -v error -f lavfi -i testsrc=size=1280x720:rate=25:duration=1 -vf \
        scale=640:360 -c:v mpeg4 -f null -";
    let ffmpeg: Vec<&str> = ffmpeg.split_whitespace().collect();
    let Run { code, err, .. } = recorded(&path, &[], &ffmpeg);
    assert_eq!((code, err.as_str()), (0, ""));
    let devices = bytes(&read(&path));
    // All of them call libavutil to allocate, whose callers are the devices.
    for library in ["libavcodec", "libavfilter", "libswscale"] {
        assert!(devices.contains_key(library), "{devices:?}");
    }
    assert!(!devices.contains_key("libavutil"), "{devices:?}");
    assert!(devices.values().sum::<u64>() > 1280 * 720 * 3 / 2, "{devices:?}");
    assert_replays(&path);
    let Run { code, .. } = recorded(&path, &["--device", "thread"], &ffmpeg);
    assert_eq!(code, 0);
    let devices = bytes(&read(&path));
    assert!(devices.contains_key("ffmpeg") && !devices.contains_key("libavcodec"), "{devices:?}");
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_program() {
    let folder = folder();
    let small = folder.path().join("small");
    fs::create_dir(&small).expect("it can be made");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1200k", "none"])
        .arg(&small)
        .output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        has("mount (as root)");
        return;
    }
    let path = folder.path().join("a.trace");
    let line = "for n in {1..20}; do x=$(printf %0200000d $n); done; echo end";
    let mut command = cma(&["record", "-o", &path.display().to_string(), "--at-least", "64"]);
    command.args(["--", "bash", "-c", line]).env("TMPDIR", &small).env("PATH", "/usr/bin:/bin");
    let Run { code, out, err } = command.output().expect("the program starts").into();
    let unmounted = Command::new("umount").arg(&small).status();
    assert!(unmounted.is_ok_and(|status| status.success()), "{}", small.display());
    assert_eq!((code, out.as_str()), (0, "end\n"), "{err}");
    assert!(err.contains("events were not recorded, because the log could not grow: No"), "{err}");
    assert!(read(&path).operations().len() > 1000);
}

/// Compiles a library that has an allocator, for `LD_PRELOAD`. Each of its blocks is a mapping.
/// `None` where that is not possible.
fn allocator(folder: &tempfile::TempDir, further: &str) -> Option<PathBuf> {
    const TEXT: &str = r#"
        #include <stddef.h>
        #include <string.h>
        #include <sys/mman.h>
        void *malloc(size_t size) {
            size_t *p = mmap(0, size + 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (p == MAP_FAILED) return NULL;
            *p = size;
            return p + 8;
        }
        void free(void *p) { if (p) munmap((size_t *)p - 8, ((size_t *)p)[-8] + 64); }
        void *calloc(size_t n, size_t size) { return malloc(n * size); }
        void *realloc(void *p, size_t size) {
            void *q = malloc(size);
            if (p && q) {
                size_t old = ((size_t *)p)[-8];
                memcpy(q, p, old < size ? old : size);
                free(p);
            }
            return q;
        }
    "#;
    let (source, library) = (folder.path().join("m.c"), folder.path().join("m.so"));
    fs::write(&source, format!("{TEXT}{further}")).expect("it can be written");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-fno-builtin", "-o"])
        .args([&library, &source])
        .output();
    let is_compiled = compiled.is_ok_and(|compiled| compiled.status.success());
    if !is_compiled {
        has("cc -shared");
    }
    is_compiled.then_some(library)
}

/// Records `sort` with that allocator.
fn recorded_with(allocator: &Path, output: &Path) -> Run {
    let mut command = cma(&["record", "-o", &output.display().to_string(), "--"]);
    command.args(["sort", "/etc/passwd"]).env("LD_PRELOAD", allocator);
    command.output().expect("the program starts").into()
}

#[test]
fn an_allocator_that_does_not_tell_sizes_is_reported() {
    let (folder, size) = (folder(), "size_t other(void *p) { return ((size_t *)p)[-8]; }");
    let Some(library) = allocator(&folder, size) else { return };
    let path = folder.path().join("a.trace");
    let Run { code, err, .. } = recorded_with(&library, &path);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("of 1 processes only mappings were recorded"), "{err}");
    assert_eq!(read(&path).operations(), []);
}

#[test]
fn the_blocks_of_another_allocator_are_recorded_and_its_own_mappings_are_not() {
    let folder = folder();
    let size = "size_t malloc_usable_size(void *p) { return p ? ((size_t *)p)[-8] : 0; }";
    let Some(library) = allocator(&folder, size) else { return };
    let path = folder.path().join("a.trace");
    let recorded = |allocator: &Path| {
        let Run { code, err, .. } = recorded_with(allocator, &path);
        assert_eq!((code, err.as_str()), (0, ""));
        bytes(&read(&path))
    };
    assert_eq!(recorded(&library), recorded(Path::new("")));
}

#[test]
fn signals_reach_the_program_and_the_trace_is_written() {
    let folder = folder();
    let path = folder.path().join("a.trace");
    let line = "trap 'echo got; exit 5' TERM; x=$(printf %0100000d 1); echo ready; \
        while :; do sleep 0.1; done";
    let mut child = cma(&["record", "-o", &path.display().to_string(), "--", "bash", "-c", line])
        .env("PATH", std::env::var_os("PATH").expect("PATH is set"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut out = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    assert_eq!(out.next().and_then(Result::ok).as_deref(), Some("ready"));
    let runner = Pid::from_child(&child);
    // What a terminal sends to all processes ends only the program, if that wants it.
    kill_process(runner, Signal::INT).expect("it runs");
    kill_process(runner, Signal::TERM).expect("it runs");
    assert_eq!(out.next().and_then(Result::ok).as_deref(), Some("got"));
    assert_eq!(child.wait().expect("it ends").code(), Some(5));
    assert!(bytes(&read(&path))["bash"] >= 100_000);
}
