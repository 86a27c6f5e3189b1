//! A library that would end the process is found out in another one.

use super::*;
use cma_framework::loader::{SearchPath, Trial, load_all, trial_child};
use std::process::Command;
use std::time::Duration;

/// Not a test of its own: the process that a trial starts is this test binary, told to run only this.
#[test]
fn child() {
    // The report decides, not the exit code.
    trial_child();
}

fn trial() -> Trial {
    trial_with("")
}

/// A trial in which the constructor of the fixture `constructor` does what `deed` says.
fn trial_with(deed: &'static str) -> Trial {
    Trial::new(move || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "trial::child", "--test-threads=1"]);
        command.env("CMA_FIXTURE_CONSTRUCTOR", deed);
        command
    })
}

fn refused(trial: &Trial, path: &Path) -> LoadError {
    says_everything(path, trial.run(path).unwrap_err())
}

#[test]
fn a_sound_plugin_passes_its_trial() {
    trial().run(&fixture("revision-one")).unwrap();
    trial().run(&fixture("stalling")).unwrap();
}

#[test]
fn a_plugin_that_aborts_in_its_constructor_crashes_only_its_trial() {
    let error = refused(&trial(), &fixture("constructor"));
    let LoadFailure::Crashed { signal, said } = error.reason() else { panic!("{error:?}") };
    assert_eq!((signal.as_str(), said.as_str()), ("SIGABRT", "the constructor aborts"));
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
    trial_with("shout").run(&fixture("constructor")).unwrap();
}

#[test]
fn a_trial_refuses_in_the_words_of_a_direct_load() {
    for name in ["refuses", "panics", "bad-name", "other-interface", "changed-layout", "no-header"] {
        let path = fixture(name);
        let (tried, direct) = (refused(&trial(), &path), refusal(&path));
        assert_eq!(tried.to_string(), direct.to_string());
        assert_eq!(tried.reason().kind(), direct.reason().kind());
    }
}

#[test]
fn a_file_that_can_be_refused_by_looking_at_it_starts_no_process() {
    let nobody = Trial::new(|| Command::new("/nobody/is/here"));
    let folder = folder();
    let text = file(folder.path(), "text.so", b"text");
    assert!(matches!(refused(&nobody, &text).reason(), LoadFailure::NotElf { .. }));
    assert!(matches!(refused(&nobody, &fixture("revision-one")).reason(), LoadFailure::NoTrial(_)));
}

#[test]
fn loading_all_plugins_with_a_trial_survives_the_one_that_crashes() {
    let folder = folder();
    for (name, from) in [("a", "constructor"), ("b", "revision-one")] {
        let content = fs::read(fixture(from)).unwrap();
        file(folder.path(), &format!("libcma_{name}_plugin.so"), &content);
    }
    let all = load_all(&SearchPath::new(&[folder.path().into()], None, None), Some(&trial()));
    let kind = |plugin: &Result<Plugin, LoadError>| match plugin {
        Ok(plugin) => plugin.name().to_string(),
        Err(error) => error.reason().kind().to_string(),
    };
    let kinds: Vec<_> = all.iter().map(|(_, plugin)| kind(plugin)).collect();
    assert_eq!(kinds, ["crashed", "revised"]);
}

#[test]
fn a_library_with_damaged_contents_is_judged_without_harm() {
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
        let verdict = trial().run(&path);
        judged[usize::from(verdict.is_ok())] += 1;
        if let Err(error) = verdict {
            says_everything(&path, error);
        }
    }
    assert!(judged[0] > 0, "no damage was ever noticed");
    assert!(judged[1] > 0, "the sound was never told from the damaged");
}
