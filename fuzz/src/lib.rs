//! Fuzz targets: one for each parser, one for the attribute tree, one for the allocators.
//!
//! A [`Target`] takes any bytes and panics when a property of the code under test fails. "No panic"
//! is the least of them: what a parser accepts must survive being printed and parsed again, and
//! must mean what an independent, simpler reading of the same text says; an error must lie inside
//! the text and quote it; a refused write must change nothing; an allocator must agree with the
//! shadow model of `cma-testkit`.
//!
//! Two engines drive the same targets:
//!
//! - [`Campaign`] runs on the stable toolchain for a bounded time. It generates inputs from the
//!   grammar of a target (proptest strategies), mutates the files in `corpus/TARGET` and its own
//!   finds with the tokens of `dictionary/TARGET.dict`, and shrinks a failing input. The same seed
//!   gives the same inputs.
//! - `libfuzzer/` is a `cargo fuzz` project for the nightly toolchain. It reads the same corpus and
//!   dictionaries.
//!
//! Coverage guidance needs compiler flags that only nightly has. In its place, a target names the
//! [`Outcome`] of each input (accepted or refused, and how), and a campaign keeps the inputs whose
//! outcome is new for further mutation.
//!
//! # A new target
//!
//! Write a module in `targets` with a `Target`, add it to [`TARGETS`], and put a few inputs into
//! `corpus/NAME` and tokens into `dictionary/NAME.dict`. `tests/targets.rs` runs each for a moment.

mod campaign;
mod escape;
mod isolation;
mod mutation;
mod shrinking;
mod targets;

pub use campaign::{Campaign, Failure, Limit, Report};
pub use isolation::{Panic, Watchdog};
pub use targets::TARGETS;

use proptest::strategy::BoxedStrategy;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One piece of code under test, with the properties it must have for any input.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name on the command line, and of its corpus and dictionary.
    pub name: &'static str,
    /// The code that it tests, in one line.
    pub about: &'static str,
    /// Whether inputs are text or binary; decides how they are mutated.
    form: Form,
    /// Inputs made from the grammar.
    generate: fn() -> BoxedStrategy<Vec<u8>>,
    /// Tokens of the grammar, in libFuzzer's dictionary format.
    dictionary: &'static str,
    /// Panics when a property fails.
    check: fn(&[u8]) -> Outcome,
}

/// How inputs of a target are mutated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// By words, numbers and the pieces between separators.
    Text,
    /// By bytes and by numbers of 2, 4 and 8 bytes.
    Binary,
}

/// The reaction of the code under test to an input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// Whether it accepted the input.
    pub accepted: bool,
    /// The class of the result, such as the kind of error. An input of a new class is kept.
    pub class: String,
}

impl Outcome {
    fn accepted(class: impl Into<String>) -> Outcome {
        Outcome { accepted: true, class: class.into() }
    }

    fn refused(class: impl Into<String>) -> Outcome {
        Outcome { accepted: false, class: class.into() }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Target {
    /// The target of that name.
    pub fn named(name: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Runs the code under test on `input`.
    ///
    /// # Panics
    ///
    /// A property fails.
    pub fn check(&self, input: &[u8]) -> Outcome {
        (self.check)(input)
    }

    /// The folder of its checked-in inputs.
    pub fn corpus_folder(&self) -> PathBuf {
        folder("corpus").join(self.name)
    }

    /// Its checked-in inputs with their files, in the order of the names.
    ///
    /// # Errors
    ///
    /// The folder or a file in it can't be read.
    pub fn corpus(&self) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut files = fs::read_dir(self.corpus_folder())?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<PathBuf>>>()?;
        files.sort();
        files.into_iter().map(|path| fs::read(&path).map(|input| (path, input))).collect()
    }
}

/// A folder of this crate.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The folder for failing inputs of `target`.
pub fn artifacts_folder(target: &Target) -> PathBuf {
    folder("artifacts").join(target.name)
}
