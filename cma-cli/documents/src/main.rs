//! `cma-documents FOLDER`: writes the manual pages and the completions of the program `cma` into a
//! folder.

use cma_documents::{completions, manual_pages};
use std::env;
use std::fs;
use std::io::{self, Write, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        return fail("usage: cma-documents FOLDER");
    };
    match write_into(&PathBuf::from(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn write_into(folder: &Path) -> io::Result<()> {
    let mut documents = manual_pages(cma_cli::grammar())?;
    documents.extend(completions(cma_cli::grammar()));
    for document in documents {
        let file = folder.join(document.path);
        let in_file = |error: io::Error| {
            io::Error::new(error.kind(), format!("{} can't be written: {error}", file.display()))
        };
        file.parent().map_or(Ok(()), fs::create_dir_all).map_err(in_file)?;
        fs::write(&file, document.content).map_err(in_file)?;
    }
    Ok(())
}

fn fail(message: &str) -> ExitCode {
    // A message that can't be written is lost; the exit status is not.
    let _ = writeln!(stderr(), "{message}");
    ExitCode::FAILURE
}
