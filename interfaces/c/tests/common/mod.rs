//! Programs in C that are linked with the library that cargo built beside the test.

#![allow(dead_code, unreachable_pub, reason = "a module of several tests, of which none uses all")]

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The library in a folder of its own, by the names that the linkers look for.
pub struct Library {
    folder: TempDir,
}

impl Library {
    pub fn new() -> Self {
        let built = Library::built();
        let folder = tempfile::tempdir().unwrap();
        symlink(&built, folder.path().join("libcma.so")).unwrap();
        symlink(&built, folder.path().join("libcma.so.1")).unwrap();
        Library { folder }
    }

    /// The file that cargo built.
    pub fn built() -> PathBuf {
        let library = std::env::current_exe().unwrap().with_file_name("libcma.so");
        assert!(library.exists(), "{} is not there", library.display());
        library
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Compiles a program with every warning as an error. `None` without the compiler, which is
    /// reported.
    pub fn compile(&self, compiler: &str, standard: &str, source: &Path) -> Option<PathBuf> {
        self.compile_with(compiler, &[standard, "-Wall", "-Wextra", "-Werror", "-pedantic"], source)
    }

    /// The same with these arguments.
    pub fn compile_with<A: AsRef<OsStr>>(
        &self,
        compiler: &str,
        arguments: &[A],
        source: &Path,
    ) -> Option<PathBuf> {
        let program = self.folder.path().join(format!("{compiler}-program"));
        let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
        let compiled = Command::new(compiler)
            .args(arguments)
            .args(["-O1", "-g", "-pthread", "-o"])
            .arg(&program)
            .arg(source)
            .arg("-I")
            .arg(header)
            .arg("-L")
            .arg(self.folder.path())
            .arg("-lcma")
            .output();
        match compiled {
            Err(error) => {
                skip(&format!("no compiler {compiler} ({error}); its programs were not tested"));
                None
            }
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{compiler}: {errors}");
                Some(program)
            }
        }
    }

    /// A command in whose processes the library is found.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", self.folder.path());
        command
    }
}

/// Says that something was not tested. Written directly: the harness captures what tests print.
pub fn skip(why: &str) {
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
}

/// Runs a command, which must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{errors}", output.status);
    out.into_owned()
}
