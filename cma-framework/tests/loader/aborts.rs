//! A plug-in that is built with `panic = "abort"` would end the host at its first panic: it doesn't
//! compile, and the trial refuses one that was exported without the macro.

use super::trial::{refused, trial};
use super::*;
use std::process::{Command, Output};
use std::time::SystemTime;

/// Exported with the macro, as authors do.
const MACRO_EXPORT: &str = "tests/loader/aborts/exported.rs";

/// Exported without the macro, so that it compiles with `panic = "abort"` as well.
const MANUAL_EXPORT: &str = "../cma-testkit/tests/plugin/manual_export.rs";

/// Compiles `source`, a path from the package's folder, to the plug-in `library` with the panic
/// strategy `panic`.
fn compile(source: &str, panic: &str, library: &Path) -> std::io::Result<Output> {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc.args(["--edition=2024", "--crate-type=cdylib", "--crate-name=plugin"]);
    rustc.arg(format!("-Cpanic={panic}")).arg(source).arg("-o").arg(library).arg("-L").arg(&deps);
    // It re-exports the interface that it was built with. The newest build of `cma_api` itself may
    // be another.
    let first_fit = newest(&deps, "cma_fixture_first_fit");
    rustc.arg("--extern").arg(format!("cma_fixture_first_fit={}", first_fit.display()));
    rustc.output()
}

/// The crate `name` of the newest build in `deps`.
fn newest(deps: &Path, name: &str) -> PathBuf {
    let files = fs::read_dir(deps).unwrap().map(|entry| entry.unwrap());
    let age = |path: &Path| {
        path.metadata().and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    files
        .filter(|entry| {
            let file = entry.file_name().into_string().unwrap_or_default();
            let hash = file.strip_prefix("lib").and_then(|file| file.strip_prefix(name));
            hash.is_some_and(|hash| hash.ends_with(".rlib") && (hash.starts_with(['-', '.'])))
        })
        .map(|entry| entry.path())
        .max_by_key(|path| age(path))
        .unwrap()
}

#[test]
fn a_plugin_whose_panics_abort_does_not_compile() {
    let folder = folder();
    let path = folder.path().join("libcma_exported_plugin.so");
    let output = match compile(MACRO_EXPORT, "abort", &path) {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: the compiler can't be started: {error}");
            return;
        }
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("must be built with panic = \"unwind\""),
        "{stderr}"
    );
    let output = compile(MACRO_EXPORT, "unwind", &path).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(trial().run(&path).unwrap().load().unwrap().name(), "exported");
}

#[test]
fn a_plugin_whose_panics_abort_is_refused_by_its_trial() {
    let folder = folder();
    let path = folder.path().join("libcma_manual_export_plugin.so");
    let output = match compile(MANUAL_EXPORT, "abort", &path) {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: the compiler can't be started: {error}");
            return;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let error = refused(&trial(), &path);
    assert!(matches!(error.reason(), LoadFailure::AbortsOnPanic), "{error:?}");
    assert!(error.to_string().contains("build it with `panic = \"unwind\"`"), "{error}");
    let output = compile(MANUAL_EXPORT, "unwind", &path).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(trial().run(&path).unwrap().load().unwrap().name(), "manual-export");
}
