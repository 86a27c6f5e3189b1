//! Plug-ins in C, compiled by the system's compiler: they work as those in Rust do, and whatever is
//! wrong with a table or a result is reported, and is the end of that allocator alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cma_api::DmaAddr;
use cma_framework::{AllocatorChoice, Cma, Plugin, Region};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const BASE: u64 = 0x4000_0000;
const MIB: u64 = 1 << 20;

/// A compiled plug-in, until it is dropped. One that is loaded runs from a copy.
struct Library {
    path: PathBuf,
    _folder: TempDir,
}

impl AsRef<Path> for Library {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// Compiles `source`, in the repository, with `options`. `None` on a machine without a compiler,
/// which is said on standard error past the test harness.
fn compiled(source: &str, options: &[&str]) -> Option<Library> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libcma_in_c_plugin.so");
    let output = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC"])
        .arg("-Wno-unused-function")
        .arg("-I")
        .arg(repository.join("cma-api/include"))
        .args(options)
        .arg("-o")
        .args([&path, &repository.join(source)])
        .output();
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::io::stderr().write_all(b"SKIPPED: there is no C compiler (cc)\n").unwrap();
            None
        }
        output => {
            let output = output.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(Library { path, _folder: folder })
        }
    }
}

/// The plug-in `faulty.c`.
fn faulty(options: &[&str]) -> Option<Library> {
    compiled("cma-framework/tests/in_c/faulty.c", options)
}

/// The example of the guide.
fn next_fit() -> Option<Library> {
    compiled("docs/my-allocator-c/next_fit.c", &[])
}

/// A region of 1 MiB with the allocator of `library`, initialised with `params`.
fn region(library: &Library, params: &str) -> (Cma, Region) {
    let cma = Cma::new();
    let plugin = Plugin::load(library).unwrap();
    let choice = AllocatorChoice::Given { plugin, params: params.to_string() };
    let region = cma.region_register(Some("r"), DmaAddr::new(BASE), MIB, choice).unwrap();
    (cma, region)
}

mod faults;
mod tables;
mod works;
