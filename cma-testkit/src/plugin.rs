//! Finding and loading the plug-in that the same cargo run has built, and provoking its panics in
//! another process.

use cma_api::abi_stable::library::{LibHeader, lib_header_from_path};
use cma_api::v1::AllocatorModuleRef;
use cma_api::{Algorithm, PageRange};
use cma_conform::{Placing, Subject};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::env::{current_exe, var_os};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::thread;
use std::time::Duration;

/// The file of the plug-in library `name` (as `cma_best_fit_plugin`), built by the cargo run that
/// built this test.
///
/// Cargo puts the library of a path dependency, dev-dependencies included, into the `deps` folder
/// of the profile, together with the tests. Copies elsewhere may be from an older build and are
/// ignored.
///
/// # Panics
///
/// The file is missing: the test's package has no (dev-)dependency on the plug-in's package, or
/// that is not a cdylib.
pub fn built_library(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|reason| panic!("{reason}"))
}

/// The same; the error is one sentence.
fn find(name: &str) -> Result<PathBuf, String> {
    let test =
        current_exe().map_err(|error| format!("this test can't find its own file: {error}"))?;
    let file = format!("{DLL_PREFIX}{name}{DLL_SUFFIX}");
    let deps = test.ancestors().skip(1).find_map(|folder| {
        let deps =
            if folder.ends_with("deps") { folder.to_path_buf() } else { folder.join("deps") };
        deps.is_dir().then_some(deps)
    });
    let deps =
        deps.ok_or_else(|| format!("{} lies in no target folder of cargo", test.display()))?;
    let library = deps.join(&file);
    if library.is_file() {
        return Ok(library);
    }
    let prefix = format!("lib{name}");
    let built = fs::read_dir(&deps).into_iter().flatten().flatten().any(|entry| {
        let file = entry.file_name().into_string().unwrap_or_default();
        let rest = file.strip_prefix(&prefix);
        rest.is_some_and(|rest| rest.starts_with(['-', '.']) && rest.ends_with(".rlib"))
    });
    Err(if built {
        format!(
            "the package of {name} is built without a dynamic library: its Cargo.toml needs \
             crate-type = [\"cdylib\", \"rlib\"] under [lib]"
        )
    } else {
        format!(
            "{file} is not in {}: the package of this test needs the package of the plug-in, which \
             must be a cdylib, among its [dev-dependencies], by path",
            deps.display()
        )
    })
}

/// Loads the library of a plug-in in Rust at `path`.
///
/// # Panics
///
/// The file is not such a plug-in, or one for another version of the interface.
pub fn load(path: &Path) -> Algorithm {
    try_load(path).unwrap_or_else(|reason| panic!("{reason}"))
}

fn try_load(path: &Path) -> Result<Algorithm, String> {
    let module =
        lib_header_from_path(path).and_then(LibHeader::init_root_module::<AllocatorModuleRef>);
    module
        .map(Algorithm::Rust)
        .map_err(|error| format!("{} can't be loaded: {error}", path.display()))
}

/// The subject of `conformance_of_plugin!`.
///
/// # Errors
///
/// The reason why the library can't be found or loaded, in one sentence.
#[doc(hidden)]
pub fn subject_of_plugin(
    name: &str,
    params: &'static str,
    placing: Placing,
) -> Result<Subject, String> {
    Ok(Subject { algorithm: try_load(&find(name)?)?, params, placing })
}

/// The output of a test of `conformance_of_plugin!` without a subject.
#[doc(hidden)]
#[allow(clippy::print_stdout, reason = "a skipped test reports it")]
pub fn skipped() {
    println!(
        "skipped: the plug-in can't be loaded; the_library_is_there_and_can_be_loaded has the reason"
    );
}

/// Set in the second process.
const VARIABLE: &str = "CMA_TESTKIT_PANIC";

/// The progress of the second process, on its standard error.
const PROVOKES: &str = "cma-testkit: provokes a panic";
const DROPS: &str = "cma-testkit: drops an allocator with chunks";
const DONE: &str = "cma-testkit: done";

/// Starts the test `this`, which calls this function, in another process, and provokes a panic of
/// the library there.
///
/// # Errors
///
/// A panic isn't caught, or the allocator panics when it is dropped. The error is one sentence.
#[doc(hidden)]
pub fn panics_stay_in_the_library(subject: &Subject, this: &str) -> Result<(), String> {
    if var_os(VARIABLE).is_some() {
        panic_here(subject);
    }
    // The test's name without the crate's.
    let this = this.split_once("::").map_or(this, |(_, this)| this);
    let program =
        current_exe().map_err(|error| format!("this test can't find its own file: {error}"))?;
    let mut command = Command::new(program);
    command.args([this, "--exact", "--nocapture", "--test-threads=1"]).env(VARIABLE, "1");
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output();
    let output = output.map_err(|error| format!("this test can't start itself: {error}"))?;
    verdict(&String::from_utf8_lossy(&output.stderr))
}

/// The result of the second process, from its standard error.
fn verdict(stderr: &str) -> Result<(), String> {
    let Some((_, after)) = stderr.split_once(PROVOKES) else {
        return Err(format!("this test, started again, doesn't reach the library: {stderr}"));
    };
    let Some((_, after)) = after.split_once(DROPS) else {
        return Err("a panic in the library ends the process instead of being caught, as with \
                    panic = \"abort\": build it with panic = \"unwind\""
            .to_string());
    };
    let (dropping, ended) =
        after.split_once(DONE).map_or((after, false), |(dropping, _)| (dropping, true));
    match dropping.trim() {
        "" if ended => Ok(()),
        "" => Err("the process ends while the allocator is dropped".to_string()),
        printed if printed.contains("panicked at") => {
            Err(format!("the allocator panics when it is dropped: {printed}"))
        }
        _ if ended => Ok(()),
        printed => Err(format!("the process ends while the allocator is dropped: {printed}")),
    }
}

/// Runs in the second process.
fn panic_here(subject: &Subject) -> ! {
    let report = |what: &str| {
        // Without standard error this process can't report anything.
        let _ = writeln!(std::io::stderr(), "{what}");
    };
    // An allocator that doesn't return must not block this process, and the test that waits for it,
    // for ever.
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(60));
        report("not done after a minute");
        exit(1);
    });
    let initialise = |region| subject.algorithm.initialise(region, subject.params);
    report(PROVOKES);
    // A region without a page is invalid, so the library's side of the ABI boundary panics.
    drop(initialise(PageRange::from_pages(16, 0)));
    let mut allocator = initialise(PageRange::from_pages(16, 64));
    if let Ok(allocator) = &mut allocator {
        for pages in [1, 2, 3] {
            // Other tests check whether there is room.
            let _ = allocator.allocate(&cma_conform::request(pages, cma_api::Alignment::PAGE));
        }
    }
    report(DROPS);
    drop(allocator);
    report(DONE);
    exit(0)
}
