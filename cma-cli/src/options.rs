//! The command line: its grammar, and the texts of `--help`.

mod common;
mod values;

use crate::known_board::KnownBoard;
use crate::outcome::CommandError;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use cma_conform::Placing;
use cma_draw::{Moment, Size};
use cma_framework::DmaAddr;
use common::{CommonOption, used_by};
use std::ffi::OsString;
use std::path::PathBuf;
use values::GivenMemory;

/// Divides a board's contiguous memory among its devices, with allocators loaded at run time.
///
/// Without a command it runs the demo. Unless --memory says otherwise the board's memory is
/// simulated: addresses only, so every board runs on any machine.
#[derive(Debug, Parser)]
#[command(name = "cma", version, max_term_width = 100, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER: &str = "\
Plug-ins (libcma_<name>_plugin.so) are searched for in each --plugin-dir, in the folders of \
CMA_PLUGIN_PATH, and beside the program: in its deps, ../lib/cma and its own folder.

Exit status: 0 success, 1 success except for requests refused or problems found, 2 error.

Example:
  cma --cma 'b1=32M;b2=16M:buddy' --map 'codec=b1;*=b1|b2' regions";

const DEMO: &str = "\
Example:
  cma demo --platform galaxy-s2";

const PLUGINS: &str = "\
Example:
  cma plugins --json";

const REGIONS_EXAMPLE: &str = "\
Example:
  cma regions --platform aquila --banks '2G@0;2G@0x800000000' --json";

const EXPORT: &str = "\
What the form can't express is reported on standard error.

Example:
  cma export --cma 'fw=1M;rest=32M@0-1G' --map 'codec/fw=fw;*=rest' --as dts > board.dts";

const GET: &str = "\
Example:
  cma get regions/b1/free";

const SET: &str = "\
Example:
  cma set map '*=b1|b2'";

const TOP: &str = "\
The keys are in the last line of the screen. A server that ends is shown as gone until it is back. \
Without --speed, a trace takes a minute; a speed of 1 is that of the recording. NO_COLOR turns \
colours off.

Examples:
  cma top --mount mount
  cma top camera.trace --allocator buddy --speed 0.001";

const TREE: &str = "\
Example:
  cma tree regions/b1";

const REGIONS: &str =
    "Replace the board's regions: name=size[@start[-end]][/alignment][:allocator[(params)]];...";
const MAP: &str = "Replace the board's map: device[/type],...=region[|region],...;...";

const BANKS: &str = "Replace the board's memory banks: size@start;...";

const MEMORY: &str = "The memory behind the addresses: simulated (none), memfd, hugetlb, auto (the \
best available), or by region: fw=memfd,b1=hugetlb,auto. The default is simulated, and memfd for \
serve --socket";

const MOUNT: &str = "The folder of the server's attributes; the default is CMA_MOUNT, or else the \
only mount there is";

const LIMITS: &str = "Limits, such as chunks=64,bytes=1G: chunks and bytes apply to the connections \
that one process opened, user-chunks, user-bytes and user-connections to a user, connections to \
the server";

const RULES: &str = "Which users may request for which device, or name which region: \
camera=uid:1000;video/frame=gid:44,uid:0;*,@*=*; without it all users may request everything";

/// Options that several commands take, before or after the command. [`Command::uses`] says which
/// command takes which.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of several commands")]
pub(crate) struct Options {
    #[arg(long, global = true, value_name = "BOARD", help = platform_help())]
    pub(crate) platform: Option<String>,

    #[arg(long, global = true, value_name = "BANKS", help = BANKS)]
    pub(crate) banks: Option<String>,

    #[arg(long, global = true, value_name = "REGIONS", help = REGIONS)]
    pub(crate) cma: Option<String>,

    #[arg(long, global = true, value_name = "MAP", help = MAP)]
    pub(crate) map: Option<String>,

    #[arg(long, global = true, value_name = "MEMORY", help = MEMORY)]
    pub(crate) memory: Option<GivenMemory>,

    /// Search this folder for plug-ins first; may be repeated, all before or all after the
    /// command
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plugin_dir: Vec<PathBuf>,

    /// Print JSON, one object a line (plugins, regions, check, size, compare, replay, why,
    /// conform)
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The help of `--platform`.
fn platform_help() -> String {
    format!(
        "The board whose memory, regions and map are used: {}, or a file: TOML (.toml), a \
        device-tree blob, or a kernel's command line; the default is {}",
        KnownBoard::names(),
        KnownBoard::DEFAULT.platform().name
    )
}

impl Options {
    /// The first option that was given and describes a system.
    pub(crate) fn of_a_system(&self) -> Option<String> {
        let mut given = self.given().into_iter();
        let option =
            given.find(|option| !matches!(option, CommonOption::PluginDir | CommonOption::Json));
        option.map(CommonOption::flag)
    }

    /// The options that were given.
    fn given(&self) -> Vec<CommonOption> {
        let Options { platform, banks, cma, map, memory, plugin_dir, json } = self;
        [
            (platform.is_some(), CommonOption::Platform),
            (banks.is_some(), CommonOption::Banks),
            (cma.is_some(), CommonOption::Cma),
            (map.is_some(), CommonOption::Map),
            (memory.is_some(), CommonOption::Memory),
            (!plugin_dir.is_empty(), CommonOption::PluginDir),
            (*json, CommonOption::Json),
        ]
        .into_iter()
        .filter_map(|(given, option)| given.then_some(option))
        .collect()
    }
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// Those of clap, which include the requests for help and version.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        Cli::from_arg_matches(&Cli::grammar().try_get_matches_from(arguments)?)
    }

    /// The grammar, in which each command's help shows only the options that the command uses.
    fn grammar() -> clap::Command {
        let mut all = Cli::command();
        let commands: Vec<_> =
            all.get_subcommands().map(|sub| sub.get_name().to_string()).collect();
        for name in commands {
            let unused =
                CommonOption::ALL.into_iter().filter(|option| !used_by(&name).contains(option));
            let hidden = all
                .get_arguments()
                .filter(|arg| unused.clone().any(|option| option.id() == arg.get_id().as_str()));
            let hidden: Vec<_> = hidden.map(|arg| arg.clone().hide(true)).collect();
            all = all.mut_subcommand(name, |sub| sub.args(hidden));
        }
        all
    }

    /// The options and the command.
    ///
    /// # Errors
    ///
    /// [`CommandError::UnusedOption`] if an option was given that the command doesn't use.
    pub(crate) fn checked(self) -> Result<(Options, Command), CommandError> {
        let command = self.command.unwrap_or(Command::Demo);
        let used = command.uses();
        match self.options.given().into_iter().find(|option| !used.contains(option)) {
            Some(option) => {
                Err(CommandError::UnusedOption { option: option.flag(), command: command.name() })
            }
            None => Ok((self.options, command)),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a tour of the framework; this is also what happens without a command
    #[command(after_help = DEMO)]
    Demo,
    /// List the allocator plug-ins that are found
    #[command(after_help = PLUGINS)]
    Plugins,
    /// List the regions with their figures, and those that got no memory
    #[command(after_help = REGIONS_EXAMPLE)]
    Regions,
    /// Check regions, map and choice of memory: exits 0 when clean, 1 with warnings, 2 with errors
    #[command(after_help = CHECK)]
    Check,
    /// Print a board in another form: TOML, options, kernel parameters, a device tree
    #[command(after_help = IMPORT)]
    Import(ImportArgs),
    /// Print the system that the options describe, in one of these forms
    #[command(after_help = EXPORT)]
    Export(ExportArgs),
    /// Allocate and free interactively, with commands from standard input
    #[command(after_help = SHELL)]
    Shell(ShellArgs),
    /// Find the smallest region in which each allocator serves recorded traces
    #[command(after_help = SIZE)]
    Size(SizeArgs),
    /// Compare allocators on recorded traces: memory, refusals, free ranges, speed
    #[command(after_help = COMPARE)]
    Compare(CompareArgs),
    /// Replay recorded traces on each allocator and measure it
    #[command(after_help = REPLAY)]
    Replay(ReplayArgs),
    /// Draw what an allocator did with a trace, or a running server, as a picture
    #[command(after_help = DRAW)]
    Draw(DrawArgs),
    /// Explain why a request of a trace fails, or why a running server refused its last ones
    #[command(after_help = WHY)]
    Why(WhyArgs),
    /// Run a program and record its big buffers as a trace, or read what a kernel recorded
    #[command(after_help = RECORD)]
    Record(RecordArgs),
    /// Check that a plug-in keeps every guarantee of an allocator
    #[command(after_help = CONFORM)]
    Conform(ConformArgs),
    /// Serve until Ctrl-C or SIGTERM, so that other processes can inspect, change and use the
    /// system
    #[command(after_help = SERVE)]
    Serve(ServeArgs),
    /// Print an attribute of a running server
    #[command(after_help = GET)]
    Get(GetArgs),
    /// Write to an attribute of a running server
    #[command(after_help = SET)]
    Set(SetArgs),
    /// Watch a running server, or a trace in slow motion, on the terminal: regions with their
    /// holes, owners, rates, waiters, refusals
    #[command(after_help = TOP)]
    Top(TopArgs),
    /// Draw the attributes of a running server with their values
    #[command(after_help = TREE)]
    Tree(TreeArgs),
}

impl Command {
    /// Its name, with the option that makes it use fewer of the common ones.
    fn name(&self) -> &'static str {
        match self {
            Command::Demo => "demo",
            Command::Plugins => "plugins",
            Command::Regions => "regions",
            Command::Check => "check",
            Command::Import(_) => "import",
            Command::Export(_) => "export",
            Command::Shell(ShellArgs { connect: Some(_) }) => "shell --connect",
            Command::Shell(_) => "shell",
            Command::Size(_) => "size",
            Command::Compare(_) => "compare",
            Command::Replay(_) => "replay",
            Command::Draw(_) => "draw",
            Command::Why(WhyArgs { trace: None, .. }) => "why --connect",
            Command::Why(_) => "why",
            Command::Record(_) => "record",
            Command::Conform(_) => "conform",
            Command::Serve(_) => "serve",
            Command::Get(_) => "get",
            Command::Set(_) => "set",
            Command::Top(_) => "top",
            Command::Tree(_) => "tree",
        }
    }

    /// The common options that it uses.
    fn uses(&self) -> &'static [CommonOption] {
        used_by(self.name())
    }
}

const SERVE: &str = "\
A plug-in that is put into a --plugin-dir, or a folder of CMA_PLUGIN_PATH, while the server runs is \
loaded; one with the name of a registered allocator replaces it. Copy the file, or write it \
elsewhere and rename it: it is loaded when it is complete.

Example:
  cma serve --socket cma.sock --limits chunks=64,bytes=1G --rules 'camera=uid:0;*,@*=*'";

const SIZE: &str = "\
All devices of a trace share one region, or each has its own, or --map groups them: a request goes \
to the first region of its rule.

A larger region can fail where a smaller one serves, so the region that is shown is the smallest \
size from which every larger size that was tried serves the trace. Tried are: twice the peak, or \
its doubles until the trace is served; from there down, steps of 1/128 of that until one fails; \
above that, steps 16 times smaller; and so on, down to a page. No request waits, and one that the \
recorded system refused has to be served, too.

The peak is the most memory that is live at a time: no region can be smaller. The offline layout is \
computed with the whole trace known: the chunks are sorted, by the order that is shown, and each \
gets the lowest place that is free in its whole life; those that end above the peak are then moved \
to the front, and the best of several rounds is shown. No allocator can be expected to reach it.

With --as, several traces get regions that are large enough for each of them, with the allocator \
that needs least.

Examples:
  cma size camera.trace
  cma size --per-device --margin 10 --as options camera.trace
  cma size --allocator bitmap --map 'camera/frame=frames;*=rest' --json camera.trace";

const COMPARE: &str = "\
Each trace is run on each allocator: to find the smallest region in which it serves the trace (see \
`cma size --help`); in one region that is as large as the smallest of these, or as --region says, \
for the refused requests and the largest free range after each operation; and several times in a \
region of twice the peak (or more, if an allocator needs it), in turn, for the time of an operation.

Example:
  cma compare camera.trace --allocator best-fit --allocator bitmap";

const REPLAY: &str = "\
Without options that describe a system, a trace is replayed in one region, with each allocator in \
turn. With one of --platform, --banks, --cma, --map or --memory it is replayed on that system: the \
map finds regions for the trace's devices, and each allocator in turn serves the regions that name \
none. A request that may wait does so in the trace's time.

Examples:
  cma replay --cma 'b1=32M;b2=16M' --map 'camera=b1;*=b1|b2' camera.trace
  zcat phone.trace.gz | cma replay --allocator best-fit --json -";

const DRAW: &str = "\
The picture of a trace shows addresses over time. Each chunk is a rectangle in the colour of its \
device; chunks smaller than a pixel are added up. Refused requests are marks above, and live bytes, \
free bytes and the largest free range are curves below. The dashed line is at the first refusal, or \
else where most free memory is outside the largest free range; beside it is the region at that \
moment, with the sizes of its free ranges and a bar as high as the refused request.

With --at, and without a trace, the picture shows the region, or each region of the server, at one \
moment. TIME is a time of the trace as 500us, 40ms, 12.5s or 2m, an operation as op:1200, or one of \
refusal (the first) and worst (the worst fragmentation).

Examples:
  cma draw phone.trace.gz -o phone.svg --region 320M
  cma draw phone.trace.gz -o phone.png --allocator best-fit --allocator tlsf --theme dark
  cma draw camera.trace -o camera.svg --at 20us --size 800x400
  cma draw camera.trace -o camera.png --axis operations";

const WHY: &str = "\
For each region: its reason, a picture of its addresses, its free ranges and what rules them out, \
the least chunks whose leaving makes room, where the allocator then places the request, and the \
owners of the rest.

A trace is replayed as by cma replay, with one allocator, up to the first request that fails or to \
that of --op. The ages of chunks are those of the recording. Without a trace the last refused \
requests of a running server are explained, with the chunks that it has now.

Examples:
  cma why --region 1M camera.trace
  cma why --cma 'b1=1M;b2=2M' --map 'camera=b1;*=b1|b2' --json camera.trace";

const RECORD: &str = "\
A buffer is a block of the heap (malloc and its kind), an anonymous mapping or a memory file (memfd) \
of at least that size. Each process has its own buffers, which are freed when it ends; the recording \
ends with the program, whose exit status is that of cma record. A program that is statically linked \
or setuid can't be recorded. The file is compressed if its name ends with .gz.

A kernel records its contiguous memory allocator with trace-cmd record -e cma, perf record -e \
'cma:*', or echo 1 > /sys/kernel/tracing/events/cma/enable. An area becomes a region that requests \
name, a thread becomes a device; refused requests stay refused. A chunk that was allocated before \
and is released is placed at the start. Lost events and contradictions are reported.

Examples:
  cma record -o sort.trace.gz -- sort /etc/passwd
  cma record --ftrace trace.txt.gz --free-list dmesg.txt.gz -o kernel.trace.gz
  cma record --free-list dmesg.txt.gz -o state.trace";

const CONFORM: &str = "\
A plug-in is named by its file, or by its allocator's name, with the allocator's parameters in \
brackets. Each guarantee is checked in a process of its own, which may crash, loop, or use memory \
without bound. For a broken guarantee the shortest calls that were found to show it are printed, and a test to \
paste if they are few. Exit status: 0 every guarantee is kept, 1 some are broken, 2 error.

Examples:
  cma conform --placing best-fit --only a_whole_region_can_be_one_chunk best-fit
  cma conform --only every_short_sequence_matches_the_model 'buddy(max-order=3)' --json";

const CHECK: &str = "\
Each allocator is tried on the address range that its region would get. A place is shown as \
name:line:column, where a long text has one rule or region a line, and columns count characters. \
With --json, start and end are byte offsets into the text; a clean configuration prints nothing.

Examples:
  cma check --cma 'fw=1M;rest=32M@0-1G' --map 'codec/fw=fw;*=rest' --memory fw=memfd
  cma check --platform board.toml";

pub(crate) const SHELL: &str = "\
Commands, one a line:
  l, list                               the live chunks, their requesters and regions
  a, alloc <device>[/<type>] <request>  a chunk for a device, by the map
  A, afrom <regions> <request>          a chunk from the first of these regions that has room, as in
                                        b1,b2; of b1|b2 from the one that fits best
  f, free [<num>]                       free a chunk, the newest without a number
  w, why                                what is in the way of the last refused request, by the
                                        chunks that are live now
  h, help, ?                            this list
  q, quit, exit                         free all chunks and end, as the end of input does
  # ...                                 a comment
  an empty line                         the last command again

A request is <size>[/<align>] and any of these limits:
  above=<address>  at this address or higher
  below=<address>  with all bytes below this address
  boundary=<size>  crossing no multiple of this power of two
  at=<address>     starting here
  wait=<time>      waiting up to so long for room, as in 500ms, 2s or 1m

A chunk is printed as \"number: size@start\". Each new chunk gets the next number, from 1; numbers \
are not reused. Sizes and addresses are decimal, 0x hex or 0 octal and take K, M, G, T, P, E. An \
alignment of 0 means none.

Example:
  echo 'a camera/frame 3M/64K below=4G boundary=4M' | cma shell";

const IMPORT: &str = "\
A kernel's command line may be the whole of /proc/cmdline: the words cma=, hugetlb_cma= and cma.map= \
are read, and the others ignored. What the form can't express is reported on standard error.

Examples:
  cma import 'console=ttyS0 cma=64M@0-1G quiet' --banks '4G@0' > board.toml
  cma import board.toml --as options";

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// A file as --platform takes it, a kernel's command line as text, or the name of a board
    #[arg(value_name = "FILE|COMMAND LINE")]
    pub(crate) source: String,

    /// The form to print
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Toml)]
    pub(crate) form: Form,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The form to print
    #[arg(long = "as", value_name = "FORM", value_enum)]
    pub(crate) form: Form,
}

/// A form of a board's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A file for --platform
    Toml,
    /// --banks, --cma, --map and --memory, for a shell
    Options,
    /// The parameters cma= and hugetlb_cma= of Linux
    Cmdline,
    /// The parameters cma= and cma.map= of the patch series of 2010
    CmdlineV4,
    /// Device-tree source
    Dts,
}

#[derive(Args, Debug)]
pub(crate) struct ShellArgs {
    /// Request from the server that listens on this socket (`cma serve --socket`), in place of a
    /// system in this process
    #[arg(long, value_name = "PATH")]
    pub(crate) connect: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct SizeArgs {
    /// The traces: .trace, or .trace.gz; - is standard input
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,

    /// Only this allocator: a name, with parameters or without, or the file of a plug-in; may be
    /// repeated
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) allocator: Vec<String>,

    /// A region for each device
    #[arg(long)]
    pub(crate) per_device: bool,

    /// The start of the region; the default is 4G, or what the limits of the requests need
    #[arg(long, value_name = "ADDRESS", value_parser = values::page_address)]
    pub(crate) at: Option<DmaAddr>,

    /// Show the size with so many percent more, and check that it is served
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) margin: u32,

    /// Print the regions and their map in this form
    #[arg(long = "as", value_name = "FORM", value_enum)]
    pub(crate) form: Option<Form>,
}

#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// The traces: .trace, or .trace.gz; - is standard input
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,

    /// An allocator: a name, with parameters or without, or the file of a plug-in; repeated, and
    /// all that are found without it
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) allocator: Vec<String>,

    /// The size of the region for refusals and free ranges
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) region: Option<u64>,

    /// How often the time is measured
    #[arg(long, value_name = "COUNT", default_value_t = 9, value_parser = runs)]
    pub(crate) runs: usize,
}

/// The number of runs.
fn runs(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=1000).contains(count));
    count.ok_or_else(|| "the number of runs is 1 to 1000".to_string())
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// The traces: .trace, or .trace.gz; - is standard input
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,

    /// Only this allocator
    #[arg(long, value_name = "NAME")]
    pub(crate) allocator: Option<String>,

    /// The size of the region to replay in, such as 256M, without a system; the default is twice
    /// the trace's peak of live memory
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) region: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct ConformArgs {
    /// The plug-ins: a file, or the name of an allocator that is found; parameters may follow, as
    /// in 'buddy(max-order=3)'
    #[arg(required_unless_present = "list", value_name = "PLUGIN")]
    pub(crate) plugins: Vec<String>,

    /// Only this guarantee; may be repeated
    #[arg(long, value_name = "GUARANTEE", value_parser = values::guarantee)]
    pub(crate) only: Vec<String>,

    /// The rule by which the allocator places chunks: first-fit, best-fit, exact (it refuses only
    /// what no hole can hold), any
    #[arg(long, value_name = "RULE", default_value = "any", value_parser = values::placing)]
    pub(crate) placing: Placing,

    /// The seed of the random operations; the default is fixed
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// List the guarantees
    #[arg(long)]
    pub(crate) list: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DrawArgs {
    /// The trace: .trace, or .trace.gz; - is standard input. Without one, a running server is drawn
    #[arg(value_name = "TRACE", conflicts_with_all = ["mount", "connect"])]
    pub(crate) trace: Option<PathBuf>,

    /// The picture to write, .svg or .png; a file that is there is replaced
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// The allocator, as in `cma=`, or the file of a plug-in; may be repeated for a panel each, on
    /// one scale. The default is the first one that is found
    #[arg(long, value_name = "NAME", requires = "trace")]
    pub(crate) allocator: Vec<String>,

    /// The size of the region, such as 256M; the default is twice the trace's peak of live memory
    #[arg(long, value_name = "SIZE", requires = "trace", value_parser = values::size)]
    pub(crate) region: Option<u64>,

    /// Draw the region at this moment
    #[arg(long, value_name = "TIME", requires = "trace", value_parser = values::moment)]
    pub(crate) at: Option<Moment>,

    /// What the horizontal axis shows
    #[arg(long, value_name = "WHAT", requires = "trace", conflicts_with = "at", value_enum)]
    pub(crate) axis: Option<DrawnAxis>,

    /// Width and height in pixels; the default is 1200 wide, and as high as the panels need
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    pub(crate) size: Option<Size>,

    /// The colours
    #[arg(long, value_enum, default_value_t = DrawnTheme::Light)]
    pub(crate) theme: DrawnTheme,
}

/// What the horizontal axis of a picture shows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DrawnAxis {
    /// The recorded time
    Time,
    /// The operations, all equally wide: for traces with long idle times
    Operations,
}

/// The colours of a picture.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DrawnTheme {
    /// Dark on white
    Light,
    /// Light on nearly black
    Dark,
}

#[derive(Args, Debug)]
pub(crate) struct WhyArgs {
    /// The trace: .trace, or .trace.gz; - is standard input
    #[arg(value_name = "TRACE", conflicts_with_all = ["mount", "connect"])]
    pub(crate) trace: Option<PathBuf>,

    /// The number of the operation, counted from 1, as cma replay reports it; the default is the
    /// first that fails
    #[arg(long, value_name = "N", requires = "trace")]
    pub(crate) op: Option<u64>,

    /// The allocator; the default is the first that is found
    #[arg(long, value_name = "NAME", requires = "trace")]
    pub(crate) allocator: Option<String>,

    /// The size of the region to replay in, such as 256M, without a system; the default is twice
    /// the trace's peak of live memory
    #[arg(long, value_name = "SIZE", value_parser = values::size, requires = "trace")]
    pub(crate) region: Option<u64>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RecordArgs {
    /// The trace to write; a file that is there is replaced when the recording is complete
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Record buffers of this size and more. Smaller ones than a page of 4K share pages, so they
    /// say little about contiguous memory, and recording them makes the program slower
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = values::buffer_size)]
    pub(crate) at_least: u64,

    /// What the trace's devices are
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = DeviceName::Library)]
    pub(crate) device: DeviceName,

    /// Read what a kernel recorded of its contiguous memory allocator: the text of its file trace,
    /// of trace-cmd report or of perf script, also compressed by gzip; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["program", "at_least", "device"])]
    pub(crate) ftrace: Option<PathBuf>,

    /// The kernel's log of free pages, "number of available pages: 4@572+...", as text or as the
    /// file of dmesg: all other pages are chunks that live from the start. Without --ftrace the
    /// trace has these alone
    #[arg(
        long,
        value_name = "TEXT|FILE",
        allow_hyphen_values = true,
        conflicts_with_all = ["program", "at_least", "device"]
    )]
    pub(crate) free_list: Option<String>,

    /// Where the kernel's area starts, if the log does not say it
    #[arg(
        long,
        value_name = "ADDRESS",
        value_parser = values::address,
        requires = "free_list",
        conflicts_with = "program"
    )]
    pub(crate) area_start: Option<u64>,

    /// The size of the kernel's pages
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "4K",
        value_parser = values::page_size,
        conflicts_with = "program"
    )]
    pub(crate) page_size: u64,

    /// The program and its arguments
    #[arg(
        last = true,
        required_unless_present_any = ["ftrace", "free_list"],
        value_name = "PROGRAM"
    )]
    pub(crate) program: Vec<OsString>,
}

/// What the devices of a recording are named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceName {
    /// The library that requests, as libavcodec, or the program itself. C++'s new, GLib and
    /// libavutil request for their callers
    Library,
    /// The thread that requests, by its name
    Thread,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// Mount the attributes on this folder, which must exist and be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,

    /// Serve chunks to other processes that connect to this socket
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// The socket's permissions, in octal: users with write permission may connect
    #[arg(
        long,
        value_name = "MODE",
        default_value = "666",
        value_parser = values::mode,
        requires = "socket"
    )]
    pub(crate) socket_mode: u32,

    #[arg(
        long,
        value_name = "LIMITS",
        default_value = "",
        hide_default_value = true,
        help = LIMITS,
        requires = "socket"
    )]
    pub(crate) limits: String,

    #[arg(long, value_name = "RULES", help = RULES, requires = "socket")]
    pub(crate) rules: Option<String>,

    /// Record the requests, refusals and frees to this file, as a trace; an existing file is
    /// replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// The events to log on standard error: error, warn, info, debug, trace, or by module; the
    /// default is RUST_LOG, or else info
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}

/// Selects one of the running servers.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    #[arg(long, value_name = "DIR", help = MOUNT)]
    pub(crate) mount: Option<PathBuf>,

    /// Read the server that listens on this socket (`cma serve --socket`), as root or as the user
    /// that it runs as
    #[arg(long, value_name = "PATH", conflicts_with = "mount")]
    pub(crate) connect: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// The attribute, such as map or regions/b1/free
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    #[arg(long, value_name = "DIR", help = MOUNT)]
    pub(crate) mount: Option<PathBuf>,

    /// The attribute, such as map or regions/b1/alloc
    #[arg(value_name = "PATH")]
    pub(crate) path: String,

    /// The text to write; an empty one clears the map, and selects the default allocator for a
    /// region
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) value: String,
}

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// Execute this trace in one region in place of watching a server: .trace, or .trace.gz; - is
    /// standard input
    #[arg(value_name = "TRACE", conflicts_with_all = ["mount", "connect"])]
    pub(crate) trace: Option<PathBuf>,

    /// The allocator that serves the trace, by name or as the file of a plug-in; the default is the
    /// first that is found
    #[arg(long, value_name = "NAME", requires = "trace")]
    pub(crate) allocator: Option<String>,

    /// The size of the trace's region, such as 256M; the default is twice the trace's peak of live
    /// memory
    #[arg(long, value_name = "SIZE", value_parser = values::size, requires = "trace")]
    pub(crate) region: Option<u64>,

    /// How many times as fast as it was recorded the trace is executed, such as 0.1
    #[arg(long, value_name = "N", value_parser = values::speed, requires = "trace")]
    pub(crate) speed: Option<f64>,
}

#[derive(Args, Debug)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// The folder to begin with, such as regions/b1
    #[arg(value_name = "PATH", default_value = "")]
    pub(crate) path: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::grammar().debug_assert();
    }

    #[test]
    fn every_common_option_is_known_to_clap_and_used_by_a_command() {
        let all = Cli::command();
        for option in CommonOption::ALL {
            let known = all.get_arguments().find(|arg| arg.get_id().as_str() == option.id());
            assert_eq!(
                known.and_then(clap::Arg::get_long).map(|long| format!("--{long}")),
                Some(option.flag())
            );
            assert!(
                all.get_subcommands().any(|sub| used_by(sub.get_name()).contains(&option)),
                "{option:?}"
            );
        }
    }
}
