//! How a command ends: its outcome, the error that stopped it, and the exit status of both.

use crate::known_board::KnownBoard;
use crate::notice::{Notice, TextName};
use crate::place_in_text::{DescriptionError, Spot};
use crate::show::{plain, quoted};
use cma_device_server::{BindError, RecoverError};
use cma_framework::DmaAddr;
use cma_framework::config::{Bytes, ConfigError};
use cma_framework::errors::RegisterError;
use cma_framework::loader::{LoadError, Origin, SearchPath};
use cma_trace::kernel::ImportError;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

/// The exit status of `cma exec` if it fails before the program: 2 could be that of the program.
pub(crate) const NOT_EXECUTED: u8 = 125;

/// The outcome of a command, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The command succeeded.
    Done,
    /// The command succeeded, except that requests were refused or problems found.
    Refused,
    /// The command failed.
    NotDone,
    /// A program that the command ran ended with this status, which is not 0.
    Program(u8),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::Refused => ExitCode::from(1),
            Outcome::NotDone => ExitCode::from(2),
            Outcome::Program(status) => ExitCode::from(status),
        }
    }
}

impl Outcome {
    /// [`Outcome::Refused`] if `any`.
    pub(crate) fn refused_if(any: bool) -> Self {
        if any { Outcome::Refused } else { Outcome::Done }
    }

    /// That of a program: its exit status, or 128 and the number of the signal that ended it.
    pub(crate) fn of_program(status: ExitStatus) -> Self {
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(0) => Outcome::Done,
            Some(code) => Outcome::Program(code),
            None => Outcome::NotDone,
        }
    }

    /// This outcome, or `other` if this one is success.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Outcome::Done { other } else { self }
    }
}

/// An error that stops a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("standard output can't be written: {0}")]
    Output(#[from] io::Error),
    #[error("standard input can't be read: {0}")]
    Input(io::Error),
    #[error("{}", .1.kind)]
    Config(TextName, ConfigError),
    #[error("{}", .1.kind)]
    Access(TextName, cma_device_server::PolicyError),
    #[error(transparent)]
    Socket(#[from] BindError),
    #[error("{0}")]
    NotConnected(cma_client::Error),
    #[error("the defaults of {board} can't be used: {reason}")]
    Board { board: String, reason: String },
    #[error("{}", no_board(wanted, reason))]
    NoBoard { wanted: String, reason: io::Error },
    #[error(transparent)]
    Description(Box<DescriptionError>),
    #[error("no allocator plug-in could be loaded")]
    NoPlugin { searched: SearchPath },
    #[error("there is no allocator \"{wanted}\"")]
    UnknownAllocator { wanted: String, known: Vec<String> },
    #[error("{}: {}", .0.path().display(), .0.reason())]
    Plugin(Box<LoadError>),
    #[error("--allocator: \"{name}\" is given twice")]
    AllocatorTwice { name: String },
    #[error("there is only one allocator, so there is nothing to compare")]
    OneAllocator,
    #[error("--map and --per-device contradict each other: both say which device has which region")]
    TwoGroupings,
    #[error("--learn and --map contradict each other: a profile is of a whole recording")]
    LearnByMap,
    #[error("{}: the profile can't be written: {source}", path.display())]
    Profile { path: PathBuf, source: io::Error },
    #[error("--learn {}: {reason}, so the allocator could not be given this profile", path.display())]
    ProfilePath { path: PathBuf, reason: String },
    #[error("{trace}: {reason}")]
    NothingToLearn { trace: String, reason: cma_analysis::CannotLearn },
    #[error("--at {at}: region \"{region}\" can't start where another one does")]
    SeveralRegionsAt { at: DmaAddr, region: String },
    #[error("{trace}: {unmatched}")]
    NoRuleFor { trace: String, unmatched: cma_analysis::Unmatched },
    #[error("{trace}: {reason}")]
    NoDemand { trace: String, reason: cma_analysis::NoDemand },
    #[error("region \"{region}\" has no size: no allocator serves all traces")]
    NoSize { region: String },
    #[error("{}: {source}", path.display())]
    NoTrace { path: PathBuf, source: io::Error },
    #[error("{}: it is a folder, not a trace", path.display())]
    TraceFolder { path: PathBuf },
    #[error("{}: {reason}", path.display())]
    Trace { path: PathBuf, reason: cma_trace::ReadError },
    #[error("there is no operation {number}: the trace has {operations}, counted from 1")]
    NoOperation { number: u64, operations: usize },
    #[error("operation {number} frees a chunk, so it can't be refused")]
    NoRequest { number: u64 },
    #[error("{}: the trace can't be written: {source}", path.display())]
    TraceOutput { path: PathBuf, source: io::Error },
    #[error("{}: the picture can't be written: {source}", path.display())]
    Picture { path: PathBuf, source: io::Error },
    #[error("{}: {reason}", path.display())]
    PictureFormat { path: PathBuf, reason: cma_draw::UnknownFormat },
    #[error("--size: {0}")]
    PictureSize(#[from] cma_draw::SizeError),
    #[error("--at: {0}")]
    Moment(#[from] cma_draw::NoMoment),
    #[error("the server at {server} has no region whose chunks can be read")]
    NothingToDraw { server: String },
    #[error("the library {name}, which records, was not found")]
    NoRecordLibrary { name: &'static str, searched: SearchPath },
    #[error(transparent)]
    Record(cma_record::RecordError),
    #[error("{name}: {reason}")]
    Kernel { name: String, reason: ImportError },
    #[error(transparent)]
    KernelOptions(ImportError),
    #[error("{plugin}: the guarantees can't be checked: {source}")]
    Conform { plugin: String, source: io::Error },
    #[error("no replay in a region of {}: {reason}", Bytes(*region_bytes))]
    Replay { region_bytes: u64, reason: RegisterError },
    #[error("--region and {option} contradict each other: a system has its own regions")]
    RegionOfSystem { option: String },
    #[error("{option}: there is no region \"{name}\"")]
    NoSuchRegion { option: &'static str, name: String },
    #[error("no region got memory, so there is nothing to serve")]
    NoRegion,
    #[error("{}: {source}", path.display())]
    NoConfig { path: PathBuf, source: io::Error },
    #[error("--config and {option} contradict each other: the file has its own")]
    BesidesConfig { option: String },
    #[error("the figures can't be served: {0}")]
    Metrics(io::Error),
    #[error("the service manager passed {count} sockets; expected one")]
    Sockets { count: usize },
    #[error("neither a folder for attributes nor a socket for chunks is given")]
    NoFrontEnd,
    #[error(transparent)]
    Mount(#[from] cma_sysfs::MountError),
    #[error("--log: {0}")]
    Log(tracing_subscriber::filter::ParseError),
    #[error(
        "\"{word}\" is not a level of the log: error, warn, info, debug, trace or off, or \
         module=level"
    )]
    LogLevel { word: String },
    #[error("the server can't start: {0}")]
    Serve(io::Error),
    #[error("without a socket there is nothing to keep")]
    NothingToKeep,
    #[error("--discard: no server before this one has left anything")]
    NothingToDiscard,
    #[error("the keeper can't start: {0}")]
    Keeper(cma_keeper::SuperviseError),
    #[error("{0}")]
    Kept(cma_keeper::KeeperError),
    #[error("the regions of the server before this one can't be made again: {0}")]
    Restored(cma_framework::reserve::ReserveError),
    #[error(transparent)]
    Recover(Box<cma_device_server::RecoverError>),
    #[error("{}: {error}", socket.display())]
    Upgrade { socket: PathBuf, error: cma_keeper::UpgradeError },
    #[error(transparent)]
    Running(#[from] cma_running::Error),
    #[error(transparent)]
    Top(cma_top::Error),
    #[error("`cma {command}` does not use {option}")]
    UnusedOption { option: String, command: &'static str },
}

impl From<DescriptionError> for CommandError {
    fn from(error: DescriptionError) -> Self {
        CommandError::Description(Box::new(error))
    }
}

impl CommandError {
    /// Reports the error on standard error, and returns the outcome. A reader that closes the pipe
    /// (`cma demo | head`) is no error.
    pub(crate) fn report(self) -> Outcome {
        match &self {
            CommandError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Outcome::Done
            }
            error => {
                Notice::from(error).report();
                match error {
                    CommandError::UnusedOption { command: "exec" | "exec --socket", .. } => {
                        Outcome::Program(NOT_EXECUTED)
                    }
                    _ => Outcome::NotDone,
                }
            }
        }
    }

    /// The remedy, if there is one to name.
    fn help(&self) -> Option<String> {
        let fixed = |help: &str| help.to_string();
        Some(match self {
            CommandError::NoPlugin { searched } => name_a_folder(searched),
            CommandError::UnknownAllocator { known, .. } => {
                format!("loaded are: {}", known.join(", "))
            }
            CommandError::Plugin(error) => fixed(error.reason().remedy()),
            CommandError::AllocatorTwice { .. } => fixed("name another one, or leave it out"),
            CommandError::OneAllocator => {
                fixed("name two, as in --allocator best-fit --allocator ./libcma_mine_plugin.so")
            }
            CommandError::TwoGroupings => fixed("leave one of them out"),
            CommandError::SeveralRegionsAt { .. } => {
                fixed("leave out --at, or size one region: without --per-device or other regions")
            }
            CommandError::NoRuleFor { unmatched, .. } => {
                format!(
                    "add a rule to --map, such as {}=<region>, or *=<region>",
                    unmatched.requester.device
                )
            }
            CommandError::NoDemand { reason: cma_analysis::NoDemand::NoPlace { .. }, .. } => {
                fixed("name the start of the region with --at")
            }
            CommandError::TraceFolder { path } => {
                format!("name the traces in it, as {}", path.join("*.trace.gz").display())
            }
            CommandError::NoRecordLibrary { name, searched } => {
                format!("{}; searched: {}", put_beside(name, searched), in_words(searched))
            }
            CommandError::Record(cma_record::RecordError::Program(error)) => fixed(error.remedy()?),
            CommandError::KernelOptions(ImportError::NoStart { .. }) => {
                fixed("state it with --area-start")
            }
            CommandError::NoOperation { .. } | CommandError::NoRequest { .. } => {
                fixed("leave --op out for the first request that fails")
            }
            CommandError::RegionOfSystem { .. } => {
                fixed("leave one of them out; --cma has the sizes of a system's regions")
            }
            CommandError::NoBoard { reason, .. } if reason.kind() == io::ErrorKind::NotFound => {
                format!(
                    "name a file, one of the boards {}, or a kernel's command line with cma=, \
                    hugetlb_cma= or cma.map=",
                    KnownBoard::names()
                )
            }
            CommandError::NoBoard { .. } => fixed(
                "name a file that this user can read: TOML, a device-tree blob, or a kernel's \
                command line",
            ),
            CommandError::Description(error) => return error.note().remedy,
            CommandError::NoConfig { .. } => fixed("name a file that this user can read"),
            CommandError::BesidesConfig { .. } => {
                fixed("write it into the file; --log, --record and --plugin-dir may be given too")
            }
            CommandError::Metrics(_) => fixed("name another endpoint with --metrics"),
            CommandError::Sockets { .. } => {
                fixed("the socket unit of the server has one ListenSequentialPacket=")
            }
            CommandError::NoFrontEnd => fixed(
                "name one with --mount or --socket, or both, or as mount or socket in the file of \
                 --config",
            ),
            CommandError::Socket(BindError::System { path, source })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                let folder = path.parent().unwrap_or(path).display();
                format!(
                    "make the folder, as with mkdir -p '{folder}', or name another path with \
                    --socket"
                )
            }
            CommandError::NothingToKeep => fixed(
                "name it with --socket, or in the file of --config; a service manager keeps \
                     its own",
            ),
            CommandError::Upgrade { error: cma_keeper::UpgradeError::NoKeeper { .. }, .. } => {
                fixed(
                    "name the socket of a server that runs with `cma serve --keep`; under systemd, \
                restart the service",
                )
            }
            CommandError::Keeper(cma_keeper::SuperviseError::Control { .. }) => {
                fixed("name another path with --socket; beside it is the socket of the keeper")
            }
            CommandError::NothingToDiscard => fixed(
                "`cma upgrade --discard` starts a server that continues another one with this choice",
            ),
            CommandError::Socket(BindError::Recover(error)) => match **error {
                RecoverError::Damaged(_)
                | RecoverError::NoRegion { .. }
                | RecoverError::NotRestored { .. } => fixed(
                    "`cma upgrade --discard` starts a server with such a choice; under systemd, \
                     the unit gets the option until the service has started",
                ),
                _ => return None,
            },
            CommandError::Socket(_) => fixed("name another path with --socket"),
            CommandError::ProfilePath { .. } => fixed("name another file"),
            CommandError::Picture { .. } | CommandError::Profile { .. } => {
                fixed("name a file in a folder that is there and that this user can write to")
            }
            CommandError::PictureFormat { .. } => {
                fixed("the ending is the format, as in -o picture.svg")
            }
            CommandError::PictureSize(cma_draw::SizeError::Panels { .. }) => {
                fixed("without --size the picture is as high as its panels need")
            }
            CommandError::Moment(cma_draw::NoMoment::NothingRefused { .. }) => {
                fixed("--region takes a smaller region; --at worst is the worst fragmentation")
            }
            CommandError::NoSuchRegion { .. } => fixed("`cma regions` lists them"),
            CommandError::NoRegion => fixed("--memory and --cma say what each region needs"),
            CommandError::NotConnected(_) => fixed("start one with `cma serve --socket PATH`"),
            CommandError::Running(error) => return running_help(error),
            CommandError::Top(cma_top::Error::NoTerminal) => {
                fixed("run it on a terminal; `cma tree` and `cma get` print")
            }
            CommandError::UnusedOption { command: "shell --connect" | "exec --socket", .. } => {
                fixed("leave it out: the server has regions, map and plug-ins of its own")
            }
            CommandError::UnusedOption { command: "why --connect", .. } => {
                fixed("name a trace to replay on that system; a server has its own")
            }
            CommandError::UnusedOption { option, .. } if option == "--json" => fixed(
                "leave it out: plugins, regions, check, size, compare, replay, why and conform \
                    have it",
            ),
            CommandError::UnusedOption { command, .. } => {
                format!("leave it out; `cma {command} --help` has its options")
            }
            _ => return None,
        })
    }
}

/// The remedy when a running server can't be read or written.
fn running_help(error: &cma_running::Error) -> Option<String> {
    use cma_running::Error;
    let fixed = |help: &str| help.to_string();
    Some(match error {
        Error::NoServer => fixed(
            "start one with `cma serve --mount DIR`, or name its folder with --mount or CMA_MOUNT",
        ),
        Error::Servers(folders) => {
            let folders: Vec<_> =
                folders.iter().map(|folder| folder.display().to_string()).collect();
            format!("name one with --mount or CMA_MOUNT: {}", folders.join(", "))
        }
        Error::NotServed(_) => fixed("name the folder that `cma serve --mount` got"),
        Error::ServerGone(_) => {
            fixed("start it again, which replaces the mount, or remove the mount with umount")
        }
        Error::Folder { path } => format!("`cma tree {path}` shows what is in it"),
        Error::Socket(cma_client::Error::NoServer { .. }) => {
            fixed("start one with `cma serve --socket PATH`")
        }
        _ => return None,
    })
}

/// Why `wanted` is neither a board nor the file of one.
fn no_board(wanted: &str, reason: &io::Error) -> String {
    match reason.kind() {
        io::ErrorKind::NotFound => format!("there is no board and no file \"{}\"", quoted(wanted)),
        _ => format!("{}: {reason}", plain(wanted)),
    }
}

/// The remedy when no plug-in is found.
pub(crate) fn name_a_folder(searched: &SearchPath) -> String {
    format!(
        "{}, or name a folder that holds some with --plugin-dir; searched: {}",
        put_beside("libcma_*_plugin.so", searched),
        in_words(searched)
    )
}

/// How a program that is installed alone, as `cargo install` does, gets `files`.
fn put_beside(files: &str, searched: &SearchPath) -> String {
    let installed = |(folder, origin): &(&Path, Origin)| {
        *origin == Origin::Executable && folder.ends_with("lib/cma")
    };
    match searched.folders().find(installed) {
        Some((folder, _)) => format!(
            "copy target/release/deps/{files} of the repository, where `cargo build --release` and \
             `cargo install` leave it, to {}",
            folder.display()
        ),
        None => "mount /proc, without which the program can't find its own folders".to_string(),
    }
}

/// The folders of a search path.
fn in_words(searched: &SearchPath) -> String {
    let folders: Vec<_> =
        searched.folders().map(|(folder, _)| folder.display().to_string()).collect();
    folders.join(", ")
}

impl From<&CommandError> for Notice {
    fn from(error: &CommandError) -> Self {
        let notice = Notice::error(&error.to_string()).with_help(error.help());
        match error {
            CommandError::Config(text, error) => notice.underlining(text, &error.text, &error.span),
            CommandError::Description(error) => match error.spot() {
                Spot::Text(source, span) => notice.underlining(&source.name, &source.text, &span),
                Spot::Whole | Spot::Node(_) => notice,
            },
            CommandError::Access(text, error) => notice.underlining(text, &error.text, &error.span),
            _ => notice,
        }
    }
}
