//! The suite on a loaded plug-in: it finds the library that the same cargo run built, and reports
//! the same violations through the binary interface as for a linked algorithm.

use cma_testkit::{
    Placing, Subject, Violation, built_library, guarantees, load, panics_stay_in_the_library,
    subject_of_plugin,
};
use std::path::{Path, PathBuf};
use std::process::Command;

cma_testkit::conformance_of_plugin!("cma_fixture_misbehaving", FirstFit);

macro_rules! caught {
    ($($test:ident: $params:literal, $guarantee:ident reports $violation:ident;)+) => {
        $(
            #[test]
            fn $test() {
                let algorithm = load(&built_library("cma_fixture_misbehaving"));
                let subject = Subject { algorithm, params: $params, placing: Placing::Exact };
                let failure = guarantees::$guarantee(&subject).expect_err("the plug-in breaks the contract");
                assert!(matches!(*failure.violation, Violation::$violation { .. }), "{failure}");
            }
        )+
    };
}

caught! {
    a_place_outside_the_region: "place=outside", random_operations_match_the_model reports Outside;
    a_place_that_wraps: "place=wrapping", random_operations_match_the_model reports Outside;
    a_chunk_that_is_too_small: "place=small", random_operations_match_the_model reports WrongSize;
    a_chunk_that_is_too_large: "place=large", random_operations_match_the_model reports WrongSize;
    a_chunk_over_another: "place=overlapping,after=1", random_operations_match_the_model reports Overlap;
    a_chunk_beyond_its_limits: "place=unlimited", every_limit_in_a_small_region_is_kept reports OutsideWindow;
    a_fit_of_nothing: "fit=none", every_limit_in_a_small_region_is_kept reports NoRoomThoughFree;
    a_fit_that_is_no_hole: "fit=region", limits_around_words_and_blocks_are_kept reports FitIsNoHole;
    a_refused_free: "free=refuse", random_operations_match_the_model reports FreeRefused;
    a_free_of_another_chunk: "free=other", random_operations_match_the_model reports Holes;
    an_adopted_range_that_is_forgotten: "adopt=lie", random_operations_match_the_model reports Holes;
    a_refused_region: "init=refuse", random_operations_match_the_model reports RegionRefused;
    a_panic_on_initialising: "panic=initialise", a_region_of_64_gibibytes_is_served_or_refused_with_a_reason reports Panicked;
    a_panic_on_allocating: "panic=allocate", a_whole_region_can_be_one_chunk reports Panicked;
    a_panic_on_asking_for_a_fit: "panic=fit", fit_names_the_hole_that_allocate_uses reports Panicked;
    a_panic_on_freeing: "panic=free", a_whole_region_can_be_one_chunk reports Panicked;
    a_panic_on_adopting: "panic=adopt", a_refused_adoption_changes_nothing reports Panicked;
    a_panic_on_reporting_holes: "panic=holes", a_whole_region_can_be_one_chunk reports Panicked;
    a_panic_on_reporting_the_largest_request: "panic=largest_request", a_whole_region_can_be_one_chunk reports Panicked;
    a_panic_on_checking: "panic=check,after=2", a_whole_region_can_be_one_chunk reports Panicked;
}

#[test]
#[should_panic(expected = "among its [dev-dependencies], by path")]
fn a_library_that_is_not_built_is_an_error_with_a_remedy() {
    built_library("cma_no_such_plugin");
}

#[test]
#[should_panic(expected = "can't be loaded")]
fn a_file_that_is_not_a_library_is_not_loaded() {
    load(std::path::Path::new(file!()));
}

#[test]
fn a_package_without_a_crate_type_is_one_error_of_one_sentence() {
    // The suite itself is a package without a dynamic library.
    let reason = subject_of_plugin("cma_testkit", "", Placing::Any).unwrap_err();
    let sentence = "the package of cma_testkit is built without a dynamic library: its Cargo.toml needs \
                    crate-type = [\"cdylib\", \"rlib\"] under [lib]";
    assert_eq!(reason, sentence);
}

#[test]
fn a_panic_in_drop_of_a_library_allocator_is_reported() {
    let algorithm = load(&built_library("cma_fixture_misbehaving"));
    let subject = Subject { algorithm, params: "panic=drop", placing: Placing::Exact };
    let this = concat!(module_path!(), "::a_panic_in_drop_of_a_library_allocator_is_reported");
    let reason = panics_stay_in_the_library(&subject, this).unwrap_err();
    assert!(reason.starts_with("the allocator panics when it is dropped"), "{reason}");
    assert!(reason.contains("drop panics, as its parameters say"), "{reason}");
}

/// Exported without the macro, which doesn't compile with `panic = "abort"`.
const MANUAL_EXPORT: &str = "tests/plugin/manual_export.rs";

#[test]
fn a_library_that_aborts_on_panic_is_reported() {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libcma_manual_export_plugin.so");
    // The test starts itself again, with the library already built.
    if std::env::var_os("CMA_TESTKIT_PANIC").is_none() {
        let deps = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
        rustc.args([
            "--edition=2024",
            "--crate-type=cdylib",
            "--crate-name=plugin",
            "-Cpanic=abort",
        ]);
        rustc
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(MANUAL_EXPORT))
            .arg("-o")
            .arg(&library);
        rustc.arg("-L").arg(&deps);
        // It re-exports the interface that it was built with. The newest build of `cma_api` itself
        // may be another.
        let first_fit = newest(&deps, "cma_fixture_first_fit");
        rustc.arg("--extern").arg(format!("cma_fixture_first_fit={}", first_fit.display()));
        match rustc.output() {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            Err(error) => {
                println!("skipped: the compiler can't be started: {error}");
                return;
            }
        }
    }
    let subject = Subject { algorithm: load(&library), params: "", placing: Placing::FirstFit };
    let this = concat!(module_path!(), "::a_library_that_aborts_on_panic_is_reported");
    assert_eq!(
        panics_stay_in_the_library(&subject, this).unwrap_err(),
        "a panic in the library ends the process instead of being caught, as with panic = \"abort\": \
         build it with panic = \"unwind\""
    );
}

/// The newest build of crate `name` in `deps`.
fn newest(deps: &Path, name: &str) -> PathBuf {
    let prefix = format!("lib{name}");
    let files = deps.read_dir().unwrap().map(|entry| entry.unwrap());
    let files = files.filter(|entry| {
        let file = entry.file_name().into_string().unwrap_or_default();
        let rest = file.strip_prefix(&prefix);
        rest.is_some_and(|rest| rest.starts_with(['-', '.']) && rest.ends_with(".rlib"))
    });
    files.max_by_key(|file| file.metadata().unwrap().modified().unwrap()).unwrap().path()
}

/// The file of a plug-in that says that it was built with version `version` of the interface's
/// crate.
fn built_with(version: &str) -> std::path::PathBuf {
    let (is, says) = (b"cma-api;1.0.0", format!("cma-api;{version}").into_bytes());
    let mut content = std::fs::read(built_library("cma_fixture_misbehaving")).unwrap();
    let at = |content: &[u8]| content.windows(is.len()).position(|bytes| bytes == is);
    assert!(at(&content).is_some(), "the types of a plug-in have the crate's version");
    while let Some(at) = at(&content) {
        content[at..at + is.len()].copy_from_slice(&says);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("built_with_{version}.so"));
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_plugin_built_with_a_later_minor_version_of_the_interface_is_loaded() {
    assert_eq!(load(&built_with("1.7.9")).name(), "misbehaving");
}

#[test]
#[should_panic(expected = "incompatible package versions")]
fn a_plugin_built_with_another_major_version_of_the_interface_is_refused() {
    load(&built_with("2.0.0"));
}

// As `Finding::test` returns it, which `examined.rs` compares.
#[should_panic(expected = "FreeRefused")]
#[test]
fn random_operations_match_the_model_in_2_calls() {
    use cma_testkit::cma_api::PageRange;
    use cma_testkit::{Placing, Subject, alignment, load, request};
    let algorithm = load("libcma_fixture_misbehaving.so".as_ref());
    let subject = Subject { algorithm, params: "free=refuse", placing: Placing::Exact };
    let outcome = subject.on(PageRange::from_pages(0x0, 1), |allocator| {
        let chunk_1 = allocator.allocate(&request(1, alignment(12)))?.unwrap();
        allocator.free(chunk_1.first_page())?;
        Ok(())
    });
    outcome.unwrap();
}
