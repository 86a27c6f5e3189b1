//! The examples, as the programs that a reader runs.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program of an example. `cargo test` builds it, unless only some tests are selected.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    if !path.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let arguments = ["build", "--package", "cma-memory", "--example", name];
        assert!(Command::new(cargo).args(arguments).status().unwrap().success());
    }
    path
}

fn run(name: &str, arguments: &[&str]) -> Output {
    Command::new(example(name)).args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && error.is_empty(), "{out}{error}");
    out.into_owned()
}

fn skipped(why: &str) {
    let mut terminal = std::io::stderr().lock();
    let name = std::thread::current().name().unwrap_or("?").to_string();
    writeln!(terminal, "SKIPPED: {name}: {why}").unwrap();
}

#[test]
fn every_frame_of_a_ring_reaches_the_other_process_once() {
    let shown = "displayed frames 0 to 49\n16777216 bytes are free again\n";
    assert_eq!(printed(&run("ring", &["50"])), shown);
    let none = "displayed no frame\n16777216 bytes are free again\n";
    assert_eq!(printed(&run("ring", &["0"])), none);
}

#[test]
fn the_ring_goes_on_at_the_frame_in_which_its_consumer_was_killed() {
    for (killed_at, rest) in [("0", "0"), ("17", "17"), ("29", "29")] {
        let output = printed(&run("ring", &["30", killed_at]));
        let expected = format!(
            "the display was killed; another one goes on\n\
             displayed frames {rest} to 29\n16777216 bytes are free again\n"
        );
        assert_eq!(output, expected);
    }
}

#[test]
fn a_ring_whose_producer_is_killed_ends_with_the_frames_that_are_in_it() {
    let mut camera = Command::new(example("ring"))
        .arg("4000000000")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut error) = (camera.stdout.take().unwrap(), camera.stderr.take().unwrap());
    let pid = camera.id();
    // It starts its display after it has made the ring, and the display maps it.
    let has_display = || {
        let of = format!("/proc/{pid}/task/{pid}/children");
        let display = std::fs::read_to_string(of).unwrap();
        // Before it executes its program, it has the camera's memory.
        let says = |file: &str, text: &str| {
            let content = std::fs::read_to_string(format!("/proc/{}/{file}", display.trim()));
            content.is_ok_and(|content| content.contains(text))
        };
        says("cmdline", "display") && says("maps", "cma:video")
    };
    while !has_display() {
        std::thread::yield_now();
    }
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    camera.wait().unwrap();
    // Both pipes end with the display.
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("displayed "), "{text}");
    text.clear();
    error.read_to_string(&mut text).unwrap();
    assert_eq!(text, "the camera ended without saying so\n");
}

#[test]
fn the_kernel_reads_a_file_into_a_registered_chunk() {
    let file = tempfile();
    let content: Vec<u8> =
        (0..3_000_001_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    let output = run("registered", &["io_uring", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    // A container or a setting (kernel.io_uring_disabled) can rule it out.
    if !output.status.success()
        && ["not permitted", "not implemented"].iter().any(|why| error.contains(why))
    {
        return skipped(error.trim());
    }
    let sum =
        content.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    let expected = format!("read 3000001 bytes into the chunk at 0x40000000, sum {sum:016x}\n");
    assert!(printed(&output).ends_with(&expected), "{}", printed(&output));
}

#[test]
fn the_devices_of_a_group_get_a_chunk() {
    let groups = std::fs::read_dir("/dev/vfio").into_iter().flatten().flatten();
    let group = groups.map(|entry| entry.file_name()).find(|name| name != "vfio");
    let Some(group) = group else {
        return skipped("no IOMMU group is bound to vfio-pci (/dev/vfio)");
    };
    let output = run("registered", &["vfio", group.to_str().unwrap()]);
    assert!(printed(&output).contains("the devices of the group see 2097152 bytes at 0x"));
}

#[test]
fn an_example_says_what_is_wrong_with_its_arguments() {
    let output = run("registered", &["io_uring", "/nonexistent"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error, "/nonexistent: No such file or directory (os error 2)\n");
    let output = run("ring", &["many"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error, "many: invalid digit found in string\n");
}

fn tempfile() -> PathBuf {
    let name = format!("cma-registered-{}", std::process::id());
    Path::new(&std::env::temp_dir()).join(name)
}
