//! `cma record --ftrace`: the events of a kernel's contiguous memory allocator as a trace.

use crate::notice::Notice;
use crate::options::RecordArgs;
use crate::outcome::CommandError;
use crate::show::{counted, plain};
use cma_framework::config::Bytes;
use cma_trace::Trace;
use cma_trace::kernel::{ImportError, ImportOptions, Imported, KernelLog, Region, import, state};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// The path of standard input in place of a file's.
const STANDARD_INPUT: &str = "-";

/// What a line with free pages contains, and hardly a path.
const FREE_LIST: &str = "available pages:";

/// The recording that the options describe: of a kernel's events, or of the state in its log.
pub(super) fn recorded(args: &RecordArgs) -> Result<Imported, CommandError> {
    let log = args.free_list.as_deref().map(log).transpose()?;
    let of = |what: &str, path: &str| format!("{what} of a kernel, imported from {path}");
    let source = match (&args.ftrace, &args.free_list) {
        (Some(path), _) => of("events (cma:*)", &name(path)),
        (None, Some(text)) if text.contains(FREE_LIST) => "free pages of a kernel".to_string(),
        (None, Some(path)) => of("free pages", path),
        (None, None) => String::new(),
    };
    let mut options = ImportOptions::new(&source);
    options.page_size = args.page_size;
    options.start = args.area_start;
    options.log = log.as_ref();
    match (&args.ftrace, &log) {
        (Some(path), _) => {
            let imported = import(open(path)?, &options);
            imported.map_err(|reason| match reason {
                // The log is at fault, and not the recording.
                ImportError::NoStart { .. } => CommandError::KernelOptions(reason),
                ImportError::Option { .. } => CommandError::KernelOptions(reason),
                reason => CommandError::Kernel { name: name(path), reason },
            })
        }
        (None, Some(log)) => state(log, &options).map_err(CommandError::KernelOptions),
        // clap requires one of them.
        (None, None) => Err(CommandError::KernelOptions(ImportError::NoFreeList)),
    }
}

/// The kernel's log in `given`: its text, or the file of that name.
fn log(given: &str) -> Result<KernelLog, CommandError> {
    let of = |name: &str| {
        let name = name.to_string();
        |reason| CommandError::Kernel { name, reason }
    };
    if given.contains(FREE_LIST) {
        return KernelLog::read(given.as_bytes()).map_err(of("--free-list"));
    }
    let path = Path::new(given);
    KernelLog::read(open(path)?).map_err(of(&name(path)))
}

fn open(path: &Path) -> Result<Box<dyn Read>, CommandError> {
    if path == Path::new(STANDARD_INPUT) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let unreadable = |source| CommandError::NoTrace { path: path.to_path_buf(), source };
    if path.is_dir() {
        return Err(unreadable(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    Ok(Box::new(File::open(path).map_err(unreadable)?))
}

fn name(path: &Path) -> String {
    match path.to_str() {
        Some(STANDARD_INPUT) => "standard input".to_string(),
        _ => path.display().to_string(),
    }
}

/// Reports on standard error what was recorded, and what is missing: standard output may be where
/// the trace goes.
pub(super) fn report(imported: &Imported) -> io::Result<()> {
    for warning in imported.warnings.iter() {
        Notice::warning(&warning.to_string()).report();
    }
    let Imported { trace, regions, .. } = imported;
    let mut err = io::stderr().lock();
    writeln!(err, "{}", summary(trace))?;
    for region in regions {
        writeln!(err, "{}", place(region))?;
    }
    Ok(())
}

fn summary(trace: &Trace) -> String {
    let figures = trace.figures();
    format!(
        "{}: {} refused, at most {} and {} live",
        counted(figures.operations, "operation"),
        counted(trace.refused(), "request"),
        counted(figures.peak_live_chunks, "chunk"),
        Bytes(trace.peak_live().bytes())
    )
}

fn place(region: &Region) -> String {
    let name = region.name.as_deref().map_or("an area without a name".to_string(), plain);
    match &region.range {
        Some(range) => {
            format!("{name}: {} at {:#x}", Bytes(range.end - range.start), range.start)
        }
        None => {
            let used = &region.used;
            format!("{name}: chunks from {:#x} to {:#x}", used.start, used.end)
        }
    }
}
