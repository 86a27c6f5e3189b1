//! Ordinary programs: they get the errno that a driver without read and write functions would
//! return, and never hang.

#[path = "../../server/tests/common/mod.rs"]
mod common;

use common::{MIB, TestServer, with_map};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The library, beside the test.
fn library() -> PathBuf {
    let library = std::env::current_exe().unwrap().with_file_name("libcma_dev_preload.so");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

/// Runs a shell command in `folder`, which has a file `in`, and a symbolic link `link` to the
/// device.
fn run(line: &str, folder: &Path, socket: &Path) -> Output {
    // A program that hangs is killed, which gives another exit status than a failure.
    Command::new("timeout")
        .args(["-s", "KILL", "20", "sh", "-c", line])
        .current_dir(folder)
        .env("LD_PRELOAD", library())
        .env("CMA_SOCKET", socket)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Whether the machine has a program; prints that the test is skipped if not.
fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    if !found.status.success() {
        // Written directly, because the test harness captures what tests print.
        let why =
            format!("SKIPPED: {program} is not installed; it was not tested with the device\n");
        std::io::stderr().write_all(why.as_bytes()).unwrap();
    }
    found.status.success()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in"), "some text\n").unwrap();
    std::os::unix::fs::symlink("/dev/cma", folder.path().join("link")).unwrap();
    folder
}

#[test]
fn ordinary_programs_get_the_errno_of_a_driver_and_never_hang() {
    let server = TestServer::start(with_map("ram=64M", "*=ram"));
    let folder = folder();
    let reads = [
        "cat DEVICE",
        "cat < DEVICE",
        "od DEVICE",
        "od < DEVICE",
        "sed p DEVICE",
        "sort DEVICE",
        "md5sum DEVICE",
        "head DEVICE",
        "tail DEVICE",
        "wc DEVICE",
        "grep x DEVICE",
        "cut -c1 DEVICE",
        "tr a b < DEVICE",
        "cmp DEVICE in",
        "dd if=DEVICE of=out",
        "cp DEVICE out",
        "cat /dev/stdin < DEVICE",
        "bash -c 'read line < DEVICE'",
        "awk 1 DEVICE",
        "python3 -c 'open(\"DEVICE\", \"rb\").read()'",
        "python3 -c 'open(\"DEVICE\").readline()'",
        "perl -e 'open F, \"<\", \"DEVICE\" or die; $_ = <F>; die $! if $!'",
    ];
    let writes = [
        "bash -c 'echo text > DEVICE'",
        "bash -c 'printf text >> DEVICE'",
        "cp in DEVICE",
        "dd if=in of=DEVICE",
        "tee DEVICE < in",
        "sort -o DEVICE in",
        "sed 'w DEVICE' in",
        "truncate -s 0 DEVICE",
        "awk '{ print > \"DEVICE\" }' in",
        "python3 -c 'open(\"DEVICE\", \"wb\", buffering=0).write(b\"x\")'",
        "python3 -c 'print(\"x\", file=open(\"DEVICE\", \"w\"), flush=True)'",
        "perl -e 'open F, \">\", \"DEVICE\" or die; $| = 1; print F \"x\"; close F or die $!'",
    ];
    for line in reads.into_iter().chain(writes) {
        if !has(line.split(' ').next().unwrap()) {
            continue;
        }
        for device in ["/dev/cma", "link"] {
            let line = line.replace("DEVICE", device);
            let output = run(&line, folder.path(), &server.path);
            let text = output_text(&output);
            assert!(
                !output.status.success() && text.contains("Invalid argument"),
                "{line}: {} {text}",
                output.status
            );
        }
    }
    assert!(!Path::new("/dev/cma").exists());
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn ordinary_programs_see_a_device() {
    let server = TestServer::start(with_map("ram=64M", "*=ram"));
    let folder = folder();
    for (line, expected) in [
        ("ls -l /dev/cma", "crw-rw-rw-"),
        ("ls -lL link", "10, 255"),
        ("stat -c %F /dev/cma", "character special file"),
        ("stat -L -c %t,%T link", "a,ff"),
        ("test -c link && test -r link && echo yes", "yes"),
        ("file /dev/cma", "character special"),
        ("readlink -f link", "/dev/cma"),
        ("cp /dev/null /dev/cma && cp /dev/null link && echo copied", "copied"),
        ("touch /dev/cma && echo touched", "touched"),
        ("ls /dev/cma/", "Not a directory"),
        ("cat /dev/cma/", "Not a directory"),
        ("cat link/", "Not a directory"),
        ("cat /dev/cma/x", "Not a directory"),
        ("cat /dev/cm", "No such file or directory"),
    ] {
        if has(line.split(' ').next().unwrap()) {
            let text = output_text(&run(line, folder.path(), &server.path));
            assert!(text.contains(expected), "{line}: {text}");
        }
    }
}

#[test]
fn without_a_server_the_missing_server_is_reported_once() {
    let folder = folder();
    let missing = folder.path().join("none");
    let open = "cat /dev/cma in /dev/cma; ! test -e /dev/cma";
    let output = run(open, folder.path(), &missing);
    let text = output_text(&output);
    assert!(output.status.success() && text.contains("some text"), "{text}");
    // `cat` opens the device twice; `test` only queries its path.
    assert_eq!(text.matches("set CMA_SOCKET").count(), 1, "{text}");
    assert_eq!(text.matches("cat: /dev/cma: No such device").count(), 2, "{text}");
    assert!(text.contains(&format!("no server listens at {}; start", missing.display())), "{text}");
    // The message is not written to another file under the number of standard error, and a full or
    // closed pipe neither blocks nor ends the program.
    let other = "bash -c 'exec 2>other; read line < /dev/cma'; grep -q 'No such device' other && ! grep CMA_SOCKET other";
    assert!(run(other, folder.path(), &missing).status.success());
    assert!(!run("exec 2>&-; cat /dev/cma", folder.path(), &missing).status.success());
    let closed = "(sleep 0.3; cmp -s /dev/cma in; echo $? > status) 2>&1 | true; while ! test -s status; do sleep 0.1; done; cat status";
    assert_eq!(output_text(&run(closed, folder.path(), &missing)), "2\n");
}
