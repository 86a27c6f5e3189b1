//! Runs the demo on the board Goni: `cargo run -p loader-demo -- [PLUGIN FOLDER]...`
//!
//! Exit status: 0 when every step succeeded, 1 when something was refused, 2 on an error.

use cma_platform_goni::PLATFORM;
use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    // First in every host that tries plug-ins in a child process: the child is this program,
    // started again, and does its work in this call.
    if let Some(code) = cma_framework::loader::trial_child() {
        return code;
    }
    let folders: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    // It has no options: such an argument is an error, unless it is a path such as `./-folder`.
    if folders.iter().any(|folder| folder.as_os_str().as_encoded_bytes().starts_with(b"-")) {
        let _ = writeln!(io::stderr(), "usage: loader-demo [PLUGIN FOLDER]...");
        return ExitCode::from(2);
    }
    match loader_demo::run(&PLATFORM, &folders, loader_demo::REQUESTS, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Without a standard error the exit status is all that can be reported.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}
