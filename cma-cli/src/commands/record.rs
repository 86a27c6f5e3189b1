//! `cma record`: the big buffers of a program as a trace, or what a kernel recorded.

mod ftrace;

use crate::notice::Notice;
use crate::options::{DeviceName, Options, RecordArgs};
use crate::outcome::{CommandError, Outcome};
use cma_framework::loader::SearchPath;
use cma_record::{LIBRARY, Naming, RecordError, Recorded, Settings, record};
use cma_trace::Trace;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

pub(crate) fn run(options: &Options, args: &RecordArgs) -> Result<Outcome, CommandError> {
    let unwritable = |source| CommandError::TraceOutput { path: args.output.clone(), source };
    let output = Output::new(&args.output).map_err(unwritable)?;
    // clap requires a program, or something of a kernel.
    let Some((program, arguments)) = args.program.split_first() else {
        let imported = ftrace::recorded(args)?;
        output.write(&imported.trace).map_err(unwritable)?;
        ftrace::report(&imported)?;
        return Ok(Outcome::Done);
    };
    let settings = Settings {
        at_least: args.at_least,
        naming: match args.device {
            DeviceName::Library => Naming::Library,
            DeviceName::Thread => Naming::Thread,
        },
        library: library(options)?,
    };
    let Recorded { trace, status, losses } = match record(program, arguments, &settings) {
        Ok(recorded) => recorded,
        Err(error) => return Ok(failed(error)),
    };
    for loss in losses {
        Notice::warning(&loss.to_string()).report();
    }
    let written = output.write(&trace).map_err(unwritable);
    Ok(written.map_or_else(
        |error| Outcome::of_program(status).or(error.report()),
        |()| Outcome::of_program(status),
    ))
}

/// The library that is preloaded, from the folders that are searched for plug-ins.
fn library(options: &Options) -> Result<PathBuf, CommandError> {
    let searched = SearchPath::from_environment(&options.plugin_dir);
    let found = searched.folders().map(|(folder, _)| folder.join(LIBRARY)).find(|it| it.is_file());
    found.ok_or(CommandError::NoRecordLibrary { name: LIBRARY, searched })
}

/// Reports why there is no recording. The outcome is the program's if that ran and failed, or that
/// of a shell that can't start a program.
fn failed(error: RecordError) -> Outcome {
    let outcome = match (&error, error.program_status()) {
        (_, Some(status)) => Outcome::of_program(status),
        (RecordError::Program(error), None) => {
            error.shell_status().map_or(Outcome::Done, Outcome::Program)
        }
        (_, None) => Outcome::Done,
    };
    outcome.or(CommandError::Record(error).report())
}

/// Where the trace is written.
enum Output {
    /// A file beside the one that it replaces when it is complete.
    Replacing(NamedTempFile, PathBuf),
    /// A device or a pipe.
    Direct(File),
}

impl Output {
    /// Opens it, so that a path that can't be written is found before the program runs.
    fn new(path: &Path) -> io::Result<Output> {
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
            Err(error) => return Err(error),
        };
        if path.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        } else if path.exists() && !path.is_file() {
            return OpenOptions::new().write(true).open(path).map(Output::Direct);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".cma-record-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        Ok(Output::Replacing(file, path))
    }

    fn write(self, trace: &Trace) -> io::Result<()> {
        match self {
            Output::Direct(file) => trace.write(file),
            Output::Replacing(mut file, path) => {
                if path.extension().is_some_and(|extension| extension == "gz") {
                    trace.write_compressed(&mut file)?;
                } else {
                    trace.write(&mut file)?;
                }
                file.flush()?;
                file.persist(path).map_err(|error| error.error)?;
                Ok(())
            }
        }
    }
}
