//! A library that would end the process is refused by its trial in a child process.

use super::*;
use cma_framework::loader::{SearchPath, Trial, load_all, trial_child};
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Not a test of its own: the process that a trial starts is this test binary, with arguments that
/// select only this test.
#[test]
fn child() {
    // The report decides, not the exit code.
    trial_child();
}

pub(super) fn trial() -> Trial {
    trial_with("")
}

/// A trial in which the constructor of the fixture `constructor` takes the action `action`.
fn trial_with(action: &str) -> Trial {
    trial_after(action, || ())
}

/// The same after `event`, which comes when the file was read.
fn trial_after(action: &str, event: impl Fn() + Send + Sync + 'static) -> Trial {
    let action = action.to_string();
    Trial::new(move || {
        event();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(ARGUMENTS).env("CMA_FIXTURE_CONSTRUCTOR", &action).env("RUST_BACKTRACE", "1");
        command
    })
}

const ARGUMENTS: [&str; 3] = ["--exact", "trial::child", "--test-threads=1"];

pub(super) fn refused(trial: &Trial, path: &Path) -> LoadError {
    assert_complete(path, trial.run(path).map(drop).unwrap_err())
}

#[test]
fn a_sound_plugin_passes_its_trial() {
    trial().run(&fixture("revision-one")).unwrap();
    trial().run(&fixture("stalling")).unwrap();
}

#[test]
fn a_plugin_that_aborts_in_its_constructor_crashes_only_its_trial() {
    let error = refused(&trial(), &fixture("constructor"));
    let LoadFailure::Crashed { signal, last_output } = error.reason() else { panic!("{error:?}") };
    assert_eq!((signal.as_str(), last_output.as_str()), ("SIGABRT", "the constructor aborts"));
    assert!(error.to_string().contains("leave it out"));
}

#[test]
fn a_plugin_that_ends_its_process_is_refused_even_if_it_claims_success() {
    let error = refused(&trial_with("exit"), &fixture("constructor"));
    assert!(matches!(error.reason(), LoadFailure::Ended { code: 0, .. }), "{error:?}");
}

#[test]
fn a_plugin_that_never_finishes_loading_is_stopped() {
    let limit = Duration::from_millis(300);
    let error = refused(&trial_with("hang").with_limit(limit), &fixture("constructor"));
    assert!(matches!(error.reason(), LoadFailure::Endless { .. }), "{error:?}");
    assert!(error.to_string().contains("within 300 ms"), "{error}");
}

#[test]
fn a_plugin_that_writes_more_than_a_pipe_holds_passes_its_trial() {
    trial_with("flood").run(&fixture("constructor")).unwrap();
}

#[test]
fn a_plugin_that_takes_more_memory_than_it_may_is_refused() {
    let error = refused(&trial_with("exhaust").with_memory(1 << 28), &fixture("constructor"));
    // Rust's allocator ends the process.
    assert!(
        matches!(error.reason(), LoadFailure::Crashed { signal, .. } if signal == "SIGABRT"),
        "{error:?}"
    );
}

/// A place to which a fixture connects, and its path.
fn place(folder: &TempDir) -> (UnixListener, String) {
    let path = folder.path().join("socket");
    (UnixListener::bind(&path).unwrap(), path.to_str().unwrap().to_string())
}

/// The text received on `connection` until no process has the other end.
fn until_closed(connection: &mut UnixStream) -> String {
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).expect("a process still has the other end");
    text
}

#[test]
fn every_process_that_a_constructor_leaves_behind_ends_with_the_trial() {
    let folder = folder();
    let (listener, socket) = place(&folder);
    for action in ["fork", "daemon", "chain"] {
        trial_with(&format!("{action}:{socket}")).run(&fixture("constructor")).unwrap();
        assert_eq!(until_closed(&mut listener.accept().unwrap().0), "left", "{action}");
    }
}

#[test]
fn processes_that_a_constructor_leaves_behind_end_when_the_trial_times_out() {
    let folder = folder();
    let (listener, socket) = place(&folder);
    let trial = trial_with(&format!("linger:{socket}")).with_limit(Duration::from_secs(2));
    let error = refused(&trial, &fixture("constructor"));
    assert!(matches!(error.reason(), LoadFailure::Endless { .. }), "{error:?}");
    assert_eq!(until_closed(&mut listener.accept().unwrap().0), "left");
}

#[test]
fn processes_that_a_constructor_leaves_behind_end_with_the_host() {
    let folder = folder();
    let (listener, socket) = place(&folder);
    let mut host = Command::new(std::env::current_exe().unwrap());
    let host = host.args(["--exact", "trial::host", "--test-threads=1", "--ignored"]);
    let mut host = host.env("CMA_FIXTURE_CONSTRUCTOR", format!("linger:{socket}")).spawn().unwrap();
    let mut connection = listener.accept().unwrap().0;
    connection.read_exact(&mut [0; "left".len()]).unwrap();
    host.kill().unwrap();
    host.wait().unwrap();
    assert_eq!(until_closed(&mut connection), "");
}

/// A host that is killed while a plug-in is on trial.
#[test]
#[ignore = "the process that another test starts and kills"]
fn host() {
    let action = std::env::var("CMA_FIXTURE_CONSTRUCTOR").unwrap();
    let _ = trial_with(&action).with_limit(Duration::from_secs(60)).run(&fixture("constructor"));
}

#[test]
fn a_constructor_finds_the_arguments_the_environment_and_the_descriptors_of_the_program_alone() {
    let folder = folder();
    let (listener, socket) = place(&folder);
    let action = format!("inspect:{socket}");
    trial_with(&action).run(&fixture("constructor")).unwrap();
    let found = until_closed(&mut listener.accept().unwrap().0);
    let [_, command, environment, descriptors] = found.lines().collect::<Vec<_>>()[..] else {
        panic!("{found}");
    };
    let program = std::env::current_exe().unwrap();
    let expected = [&[program.to_str().unwrap()], &ARGUMENTS[..]].concat();
    assert_eq!(command.trim_end_matches("\\x00").split("\\x00").collect::<Vec<_>>(), expected);
    let others = ["CMA_FIXTURE_CONSTRUCTOR", "RUST_BACKTRACE"];
    let mut expected: Vec<_> =
        std::env::vars().filter(|(name, _)| !others.contains(&&**name)).collect();
    expected.push(("CMA_FIXTURE_CONSTRUCTOR".to_string(), action));
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(name, value)| format!("{name}={value}").escape_debug().to_string())
        .collect();
    let environment = environment.trim_end_matches("\\x00").split("\\x00");
    let mut environment: Vec<_> = environment.map(str::to_string).collect();
    expected.sort();
    environment.sort();
    assert_eq!(environment, expected);
    let count = |what: &str| descriptors.matches(what).count();
    assert_eq!((count("socket:"), count("/memfd:")), (0, 1), "{descriptors}");
}

#[test]
fn the_content_that_was_tried_is_loaded_even_if_the_file_has_changed() {
    let folder = folder();
    let content = |name: &str| fs::read(fixture(name)).unwrap();
    let path = file(folder.path(), "libcma_swapped_plugin.so", &content("revision-one"));
    // Its constructor would end the trial, or this process.
    let bad = content("constructor");
    let swapped = path.clone();
    let trial = trial_after("", move || {
        file(swapped.parent().unwrap(), "libcma_swapped_plugin.so", &bad);
    });
    let tried = trial.run(&path).unwrap();
    assert_eq!(refused(&trial, &path).reason().kind(), "crashed");
    let plugin = tried.load().unwrap();
    assert_eq!((plugin.name(), plugin.path()), ("revised", Some(path.as_path())));
}

#[test]
fn a_program_without_trial_child_is_reported_as_a_missing_verdict() {
    let error = refused(&Trial::new(|| Command::new("true")), &fixture("revision-one"));
    assert!(matches!(error.reason(), LoadFailure::NoTrial(_)), "{error:?}");
    assert!(error.to_string().contains("without a verdict (exit status: 0)"), "{error}");
}

#[test]
fn a_trial_reports_the_same_error_as_a_direct_load() {
    for name in ["refuses", "panics", "bad-name", "other-interface", "changed-layout", "no-header"]
    {
        let path = fixture(name);
        let (tried, direct) = (refused(&trial(), &path), refusal(&path));
        assert_eq!(tried.to_string(), direct.to_string());
        assert_eq!(tried.reason().kind(), direct.reason().kind());
    }
}

#[test]
fn a_file_that_is_refused_by_its_content_starts_no_process() {
    let unstartable = Trial::new(|| Command::new("/no/such/program"));
    let folder = folder();
    let text = file(folder.path(), "text.so", b"text");
    assert!(matches!(refused(&unstartable, &text).reason(), LoadFailure::NotElf { .. }));
    let error = refused(&unstartable, &fixture("revision-one"));
    assert!(matches!(error.reason(), LoadFailure::NoTrial(_)));
}

#[test]
fn loading_all_plugins_survives_those_that_crash_with_a_supervisor_for_each_processor() {
    let folder = folder();
    for (name, from) in ('a'..='j').zip(["constructor", "revision-one"].into_iter().cycle()) {
        let content = fs::read(fixture(from)).unwrap();
        file(folder.path(), &format!("libcma_{name}_plugin.so"), &content);
    }
    let started = Arc::new(AtomicUsize::new(0));
    let count = started.clone();
    let trial = trial_after("", move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let all = load_all(&SearchPath::new(&[folder.path().into()], None, None), Some(&trial));
    let kind = |plugin: &Result<Plugin, LoadError>| match plugin {
        Ok(plugin) => plugin.name().to_string(),
        Err(error) => error.reason().kind().to_string(),
    };
    let kinds: Vec<_> = all.iter().map(|(_, plugin)| kind(plugin)).collect();
    assert_eq!(kinds, ["crashed", "revised"].repeat(5));
    let processors = thread::available_parallelism().unwrap().get();
    assert!(started.load(Ordering::Relaxed) <= processors, "{started:?} supervisors");
}

#[test]
fn a_library_with_damaged_contents_does_not_end_the_process() {
    let folder = folder();
    let good = fs::read(fixture("revision-one")).unwrap();
    let mut state = 1_u64;
    let mut judged = [0; 2];
    for round in 0..24 {
        let mut bytes = good.clone();
        for _ in 0..1 << (round / 2) {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let at = usize::try_from(z >> 8).unwrap() % bytes.len();
            bytes[at] ^= 1 << (z & 7);
        }
        let path = file(folder.path(), "damaged.so", &bytes);
        let verdict = trial().run(&path).map(drop);
        judged[usize::from(verdict.is_ok())] += 1;
        if let Err(error) = verdict {
            assert_complete(&path, error);
        }
    }
    assert!(judged[0] > 0, "no damaged library was refused");
    assert!(judged[1] > 0, "every damaged library was refused");
}
