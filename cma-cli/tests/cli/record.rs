//! `cma record`: ordinary programs, their own output and exit status, and what goes wrong.

use crate::{Run, cma, folder, run};
use cma_trace::{Action, Trace};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

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

#[test]
fn an_allocator_that_does_not_tell_sizes_is_reported_and_its_mappings_are_recorded() {
    let folder = folder();
    let (source, library) = (folder.path().join("m.c"), folder.path().join("m.so"));
    // It never frees, and has no malloc_usable_size.
    let text = r#"
        #include <stddef.h>
        #include <string.h>
        static char area[1 << 24] __attribute__((aligned(64)));
        static size_t used;
        void *malloc(size_t size) {
            size_t *p = (size_t *)(area + used);
            used += (size + 95) / 64 * 64;
            if (used > sizeof area) return NULL;
            *p = size;
            return p + 2;
        }
        void free(void *p) { (void)p; }
        void *calloc(size_t n, size_t size) { return malloc(n * size); }
        void *realloc(void *p, size_t size) {
            void *q = malloc(size);
            if (p && q) { size_t old = ((size_t *)p)[-2]; memcpy(q, p, old < size ? old : size); }
            return q;
        }
    "#;
    fs::write(&source, text).expect("it can be written");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-fno-builtin", "-o"])
        .args([&library, &source])
        .output();
    if !compiled.is_ok_and(|compiled| compiled.status.success()) {
        has("cc -shared");
        return;
    }
    let path = folder.path().join("a.trace");
    let mut command = cma(&["record", "-o", &path.display().to_string(), "--", "ls", "/"]);
    command.env("LD_PRELOAD", &library);
    let Run { code, err, .. } = command.output().expect("the program starts").into();
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("of 1 processes only mappings were recorded"), "{err}");
    assert_eq!(read(&path).operations(), []);
}

#[test]
fn the_example_in_the_help_runs() {
    let folder = folder();
    let Run { out, .. } = run(&["record", "--help"]);
    let (_, examples) = out.split_once("Example:\n").expect("there is one");
    let program = Path::new(env!("CARGO_BIN_EXE_cma")).parent().expect("it is in a folder");
    let path = std::env::var("PATH").expect("PATH is set");
    for line in examples.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let run = Command::new("sh")
            .args(["-c", line])
            .env("PATH", format!("{}:{path}", program.display()))
            .current_dir(folder.path())
            .output()
            .expect("a shell starts");
        assert!(run.status.success(), "{line}: {}", String::from_utf8_lossy(&run.stderr));
    }
    assert_replays(&folder.path().join("sort.trace.gz"));
}
