//! Real programs, compiled from C, whose buffers are known: the trace has exactly those.

use cma_record::{LIBRARY, Loss, Naming, Recorded, Settings, record};
use cma_trace::{Action, Trace};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The file name of the compiled program, and so its device.
const NAME: &str = "subject";

/// The compiled program; `None` where the machine has no C compiler.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program.c");
        let compiled = Command::new("cc")
            .args(["-O1", "-Wall", "-Werror", "-pthread", "-o"])
            .args([&path, &source])
            .status();
        match compiled {
            Ok(status) => {
                assert!(status.success(), "the program does not compile");
                Some((folder, path))
            }
            Err(_) => None,
        }
    });
    if program.is_none() {
        // Written directly, because the test harness captures what tests print.
        std::io::stderr().write_all(b"SKIPPED: there is no C compiler (cc)\n").unwrap();
    }
    program.as_ref().map(|(_, path)| path.as_path())
}

fn settings(naming: Naming) -> Settings {
    // The library is beside the test.
    let library = std::env::current_exe().unwrap().with_file_name(LIBRARY);
    Settings { at_least: 4096, naming, library }
}

/// Records a part of the program, which ends with this status.
fn recorded(part: &str, naming: Naming, signal: Option<i32>) -> Option<Recorded> {
    let recorded = record(program()?.as_os_str(), &[part.into()], &settings(naming)).unwrap();
    let expected = if signal.is_some() { None } else { Some(0) };
    assert_eq!((recorded.status.code(), recorded.status.signal()), (expected, signal), "{part}");
    // What was recorded is a trace also for a reader.
    let mut text = Vec::new();
    recorded.trace.write(&mut text).unwrap();
    assert_eq!(Trace::read(&text[..]).unwrap(), recorded.trace);
    Some(recorded)
}

/// A part of the program without losses.
fn trace(part: &str) -> Option<Trace> {
    let Recorded { trace, losses, .. } = recorded(part, Naming::Library, None)?;
    assert_eq!(losses, []);
    Some(trace)
}

/// The operations of the program itself: `+size` for a chunk, with `/alignment` if it has one, and
/// `-size` for its end. Buffers of libraries, as for standard output, are left out.
fn operations(trace: &Trace) -> String {
    let mut chunks = Vec::new();
    let mut words = Vec::new();
    for operation in trace.operations() {
        let (word, requester) =
            if let Action::Allocate { size, alignment, requester, .. } = operation.action {
                chunks.push((size, requester));
                let aligned = if alignment > 1 { format!("/{alignment}") } else { String::new() };
                (format!("+{size}{aligned}"), requester)
            } else if let Action::Free { chunk } = operation.action {
                let (size, requester) = chunks[chunk as usize];
                (format!("-{size}"), requester)
            } else {
                panic!("{operation:?} was recorded");
            };
        if trace.requesters()[usize::from(requester)].device == NAME {
            words.push(word);
        }
    }
    words.join(" ")
}

#[test]
fn every_function_of_the_heap_is_recorded_and_failed_calls_are_not() {
    let Some(trace) = trace("heap") else { return };
    assert_eq!(
        operations(&trace),
        "+10001 -10001 +12003 +20001 -12003 +30003 -20001 -30003 +40001 -40001 \
         +16384/8192 -16384 +50001/64 -50001 +60001/128 -60001 \
         +70001/4096 -70001 +73728/4096 -73728 +5001 -5001"
    );
}

#[test]
fn mappings_are_recorded_with_the_parts_that_remain_and_reservations_and_files_are_not() {
    let Some(trace) = trace("mappings") else { return };
    assert_eq!(
        operations(&trace),
        "+65536 -65536 +16384 +40960 -16384 -40960 +409595 +819200 -409595 -819200"
    );
}

#[test]
fn a_memory_file_is_one_buffer_until_it_is_closed_and_unmapped() {
    let Some(trace) = trace("memory-files") else { return };
    assert_eq!(
        operations(&trace),
        "+300000 +11111 -11111 +22222 -22222 -300000 +400000 +500000 -400000 -500000 \
         +600000 -600000"
    );
}

#[test]
fn no_buffer_of_eight_threads_is_lost_and_devices_can_be_threads() {
    let Some(Recorded { trace, losses, .. }) = recorded("threads", Naming::Thread, None) else {
        return;
    };
    assert_eq!(losses, []);
    let named = |device: &str| {
        let sizes = trace.operations().iter().filter_map(|operation| match operation.action {
            Action::Allocate { size, requester, .. } => Some((size, requester)),
            _ => None,
        });
        let is_its = |&(size, requester): &(u64, u16)| {
            size == 8192 && trace.requesters()[usize::from(requester)].device == device
        };
        sizes.filter(is_its).count()
    };
    // A map can't name the characters that are replaced.
    assert_eq!((named("odd_one"), named("even_1")), (4 * 5_000, 4 * 5_000));
    let mut live = BTreeSet::new();
    let mut counts = Vec::new();
    let mut next = 0;
    for operation in trace.operations() {
        if let Action::Allocate { size, .. } = operation.action {
            if size == 8192 {
                live.insert(next);
            }
            next += 1;
        } else if let Action::Free { chunk } = operation.action {
            live.remove(&chunk);
        }
        counts.push(live.len());
    }
    // From the time when all 64 places of the shelf are taken until it is cleared, those are live,
    // and up to two in the hands of each thread.
    let full = &counts[6000..counts.len() - 100];
    assert!(full.iter().all(|live| (64..=64 + 2 * 8).contains(live)), "{:?}", full.iter().min());
    assert_eq!(counts.last(), Some(&0));
}

#[test]
fn a_child_of_fork_has_its_own_chunks_which_end_with_it() {
    let Some(trace) = trace("forks") else { return };
    assert_eq!(
        operations(&trace),
        "+10001 +20001 +30001 -30001 -20001 +40001 +50001 -50001 -10001 +60001"
    );
}

#[test]
fn exec_frees_the_chunks_and_a_cleared_environment_gets_the_library_again() {
    let Some(trace) = trace("execs") else { return };
    assert_eq!(operations(&trace), "+10001 -10001 +20001 -20001 +30001 -30001");
}

#[test]
fn spawned_programs_are_recorded_and_a_child_of_vfork_ends_nothing_of_its_parent() {
    let Some(trace) = trace("spawns") else { return };
    assert_eq!(
        operations(&trace),
        "+10001 +30001 -30001 +15001 +16001 -16001 -15001 +30001 -30001 +40001 -40001"
    );
}

#[test]
fn what_was_recorded_before_a_kill_is_in_the_trace() {
    let Some(recorded) = recorded("killed", Naming::Library, Some(9)) else { return };
    assert_eq!(operations(&recorded.trace), "+10001 +20001");
    assert_eq!(recorded.losses, []);
}

#[test]
fn a_program_that_closes_all_descriptors_is_recorded() {
    let Some(trace) = trace("closes") else { return };
    assert_eq!(operations(&trace).split(' ').count(), 40_000);
}

#[test]
fn a_signal_handler_that_maps_memory_during_an_allocation_harms_nothing() {
    let Some(trace) = trace("interrupted") else { return };
    let words = operations(&trace);
    let count = |wanted: &str| words.split(' ').filter(|word| *word == wanted).count();
    assert!(count("+65536") >= 500, "{}", count("+65536"));
    assert_eq!(count("+65536"), count("-65536"));
    assert_eq!(count("+10001"), count("-10001"));
}

#[test]
fn a_process_that_outlives_the_program_is_reported() {
    let Some(recorded) = recorded("daemon", Naming::Library, None) else { return };
    assert_eq!(recorded.losses, [Loss::StillRunning { processes: 1 }]);
    assert_eq!(operations(&recorded.trace), "+10001");
}

#[test]
fn requests_of_new_are_those_of_its_caller_also_when_it_throws() {
    let folder = tempfile::tempdir().unwrap();
    let (source, path) = (folder.path().join("p.cc"), folder.path().join(NAME));
    let text = r#"
        #include <new>
        #include <vector>
        int main() {
            volatile std::size_t too_much = std::size_t(1) << 60;
            try {
                delete[] new char[too_much];
            } catch (const std::bad_alloc &) {
                std::vector<char> bytes(10001);
                auto *aligned = new (std::align_val_t(256)) char[20001];
                operator delete[](aligned, std::align_val_t(256));
                return bytes[5000];
            }
            return 1;
        }
    "#;
    std::fs::write(&source, text).unwrap();
    let compiled =
        Command::new("c++").args(["-std=c++17", "-O0", "-o"]).args([&path, &source]).output();
    if !compiled.is_ok_and(|compiled| compiled.status.success()) {
        std::io::stderr().write_all(b"SKIPPED: no C++ compiler (c++)\n").unwrap();
        return;
    }
    let recorded = record(path.as_os_str(), &[], &settings(Naming::Library)).unwrap();
    assert!(recorded.status.success());
    let words = operations(&recorded.trace);
    // libstdc++ rounds up the size of an aligned block.
    assert_eq!(words.replace("20224", "20001"), "+10001 +20001/256 -20001 -10001");
}
