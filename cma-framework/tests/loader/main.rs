//! The guarantees of the loader, tested with real libraries: the fixture plug-ins, and files made
//! from them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aborts;
mod arrivals;
mod loaded;
mod rebuilt;
mod refused;
mod replaced;
mod trial;

use cma_framework::loader::{LoadError, LoadFailure, Plugin};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The fixture plug-in `name`, which cargo puts beside the tests that depend on it.
fn fixture(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests
        .with_file_name(format!("{DLL_PREFIX}cma_fixture_{}{DLL_SUFFIX}", name.replace('-', "_")));
    assert!(path.is_file(), "{} is not built", path.display());
    path
}

/// A folder for one test.
fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// `content` as the file `name` in `folder`, as a new file even when there was one.
fn file(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let (path, fresh) = (folder.join(name), folder.join("fresh"));
    fs::write(&fresh, content).unwrap();
    fs::rename(fresh, &path).unwrap();
    path
}

/// The error of loading `path`.
fn refusal(path: &Path) -> LoadError {
    assert_complete(path, Plugin::load(path).unwrap_err())
}

/// Asserts that an error names the file and has a reason and a remedy, in one line.
fn assert_complete(path: &Path, error: LoadError) -> LoadError {
    let (text, reason) = (error.to_string(), error.reason());
    assert_eq!(error.path(), path);
    assert_eq!(text, format!("{}: {reason}; {}", path.display(), reason.remedy()));
    assert!(!reason.kind().is_empty() && !reason.remedy().is_empty());
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.len() < 1000, "{text}");
    error
}

/// Asserts that the error of loading `path` matches the pattern, and its text has all of the words.
macro_rules! assert_refused {
    ($path:expr, $pattern:pat $(if $guard:expr)?, $($word:expr),+ $(,)?) => {{
        let error = $crate::refusal($path.as_ref());
        assert!(matches!(error.reason(), $pattern $(if $guard)?), "{:?}", error.reason());
        $(assert!(error.to_string().contains($word), "\"{}\" is not in: {error}", $word);)+
    }};
}
use assert_refused;

/// `bytes` with every occurrence of `old` replaced by `new`, which is as long.
fn patched(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    let mut found = false;
    // By the first byte, because an unoptimised comparison at each of ten million places is slow.
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == old[0]) {
        at += next;
        if bytes[at..].starts_with(old) {
            bytes[at..at + new.len()].copy_from_slice(new);
            found = true;
        }
        at += 1;
    }
    assert!(found);
    bytes
}
