//! The start of the program `cma` with four plug-ins, each tried in child processes, up to the
//! first chunk.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The allocators whose plug-ins are tried.
const ALLOCATORS: [&str; 4] = ["best_fit", "bitmap", "buddy", "tlsf"];

/// The program with its plug-ins, installed in a folder of its own: it finds no others.
#[derive(Debug)]
pub struct Installed {
    folder: TempDir,
}

impl Installed {
    /// Copies `cma` and the plug-ins from `built`, the folder of cargo that holds them.
    ///
    /// # Errors
    ///
    /// A file is missing, or a copy can't be written.
    pub fn from(built: &Path) -> io::Result<Installed> {
        let folder = tempfile::tempdir()?;
        let plugins = folder.path().join("lib/cma");
        fs::create_dir_all(&plugins)?;
        fs::create_dir(folder.path().join("bin"))?;
        let installed = Installed { folder };
        copy(&built.join("cma"), &installed.program())?;
        for name in ALLOCATORS {
            let file = format!("{DLL_PREFIX}cma_{name}_plugin{DLL_SUFFIX}");
            copy(&built.join("deps").join(&file), &plugins.join(&file))?;
        }
        Ok(installed)
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("bin/cma")
    }

    /// The time from the start of the program to the line that says which chunk its first request
    /// got.
    ///
    /// # Errors
    ///
    /// The program can't be started, or it writes something else first.
    pub fn first_chunk(&self) -> io::Result<Duration> {
        let mut command = Command::new(self.program());
        // Without the variable by which a user adds plug-ins.
        command.args(["--cma", "pool=64M", "--map", "*=pool", "shell"]);
        command.env_remove("CMA_PLUGIN_PATH");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let begin = Instant::now();
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(mut input), Some(output)) = (input, output) else {
            return Err(io::Error::other("the program's standard input or output is missing"));
        };
        input.write_all(b"a dev 1M\n")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let time = begin.elapsed();
        drop(input);
        let status = child.wait()?;
        if !status.success() || !line.starts_with("  1: ") {
            return Err(io::Error::other(format!("cma wrote \"{}\" ({status})", line.trim_end())));
        }
        Ok(time)
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let explained =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", from.display()));
    fs::copy(from, to).map(drop).map_err(explained)
}
