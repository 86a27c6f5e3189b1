//! `cma`: the command line of [`cma_cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    cma_cli::main()
}
