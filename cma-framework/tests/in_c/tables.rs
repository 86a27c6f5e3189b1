//! What is wrong with a library or its table is found when it is loaded, and named.

use super::faulty;
use cma_framework::Plugin;
use cma_framework::loader::{LoadFailure, Trial, trial_child};
use std::process::Command;

/// Not a test of its own: the process that a trial starts is this test binary, with arguments that
/// select only this test.
#[test]
fn child() {
    // The report decides, not the exit code.
    trial_child();
}

fn trial() -> Trial {
    Trial::new(|| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tables::child", "--test-threads=1"]);
        command
    })
}

/// Asserts that the plug-in that is compiled with these options is refused with all of the words.
fn is_refused(options: &[&str], kind: &str, words: &[&str]) {
    let Some(library) = faulty(options) else { return };
    let error = Plugin::load(&library).unwrap_err();
    assert_eq!(error.reason().kind(), kind, "{error}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "\"{word}\" is not in: {text}");
    }
    // A second load gives the same answer, and so does a trial.
    assert_eq!(Plugin::load(&library).unwrap_err().to_string(), text);
    let tried = trial().run(library.as_ref()).unwrap_err();
    assert_eq!(tried.reason().kind(), kind);
    assert_eq!(tried.to_string(), text);
}

#[test]
fn another_version_is_refused_with_both_versions() {
    let version = "version 2 of the C interface of allocators, but this program supports version 1";
    is_refused(&["-DVERSION=2"], "interface", &[version, "cma_allocator.h"]);
    is_refused(&["-DVERSION=0"], "interface", &["for version 0", "supports version 1"]);
    // A later version may have another size.
    is_refused(&["-DVERSION=2", "-DSIZE=200"], "interface", &[version]);
}

#[test]
fn a_smaller_or_larger_table_is_refused_with_version_and_both_sizes() {
    let ours = "in this program version 1 has 104 bytes";
    is_refused(&["-DSIZE=96"], "layout", &["version 1 and 96 bytes", ours]);
    is_refused(&["-DSIZE=112"], "layout", &["version 1 and 112 bytes", ours]);
    is_refused(&["-DNOT_CONSTANT"], "damaged", &["no constant in its contents"]);
}

#[test]
fn a_library_without_the_symbol_is_no_plugin() {
    is_refused(&["-DNO_TABLE"], "no-header", &["exports no plug-in header", "cma_allocator_v1"]);
}

/// The dynamic linker finds the symbols of both.
#[test]
fn a_plugin_that_needs_another_one_is_loaded_itself() {
    // Cargo puts the fixture, a plug-in in Rust, beside the tests that depend on it.
    let tests = std::env::current_exe().unwrap();
    let needed = tests.parent().unwrap().join("libcma_fixture_revision_one.so");
    let needed = needed.to_str().unwrap();
    assert_eq!(Plugin::load(needed).unwrap().name(), "revised");
    let Some(library) = faulty(&["-Wl,--no-as-needed", needed]) else { return };
    let plugin = Plugin::load(&library).unwrap();
    assert_eq!((plugin.name(), plugin.interface_version()), ("faulty", "C 1"));
}

#[test]
fn a_missing_function_is_named() {
    is_refused(
        &["-DALLOCATE=0"],
        "no-function",
        &["`allocate`", "null pointer", "only adopt, largest_request and check may be null"],
    );
}

#[test]
fn an_unfit_name_or_description_is_refused() {
    let long = format!("-DNAME=\"{}\"", "x".repeat(65));
    is_refused(&[&long], "bad-info", &["its name", "longer than 64 bytes", "in its table"]);
    let endless = format!("-DDESCRIPTION=\"{}\"", "\u{e9}".repeat(700));
    is_refused(&[&endless], "bad-info", &["its description", "longer than 256 bytes"]);
    is_refused(&["-DNAME=\"caf\\xe9\""], "bad-info", &["name \"caf\\xe9\" is not UTF-8"]);
    is_refused(&["-DNAME=\"two words\""], "bad-info", &["has a character that is white space"]);
    is_refused(&["-DNAME=0"], "bad-info", &["the name in its table", "null pointer"]);
}

#[test]
fn a_crash_in_a_constructor_ends_the_trial_alone() {
    let Some(library) = faulty(&["-DCONSTRUCTOR"]) else { return };
    let error = trial().run(library.as_ref()).unwrap_err();
    let LoadFailure::Crashed { signal, .. } = error.reason() else { panic!("{error}") };
    assert_eq!(signal, "SIGABRT");
}

#[test]
fn a_sound_plugin_passes_its_trial_and_is_the_same_each_time() {
    let Some(library) = faulty(&[]) else { return };
    let plugin = trial().run(library.as_ref()).unwrap().load().unwrap();
    assert_eq!(plugin, Plugin::load(&library).unwrap());
    assert_eq!((plugin.name(), plugin.interface_version()), ("faulty", "C 1"));
    let Some(other) = faulty(&["-DADOPTS"]) else { return };
    assert_ne!(plugin, Plugin::load(other).unwrap());
}
