//! The options that several commands have, and the commands that use each.

use super::values::GivenMemory;
use crate::known_board::KnownBoard;
use clap::Args;
use std::path::PathBuf;

const REGIONS: &str =
    "Replace the board's regions: name=size[@start[-end]][/alignment][:allocator[(params)]];...";

const MAP: &str = "Replace the board's map: device[/type],...=region[|region],...;...";

const BANKS: &str = "Replace the board's memory banks: size@start;...";

const MEMORY: &str = "The memory behind the addresses: simulated (none), memfd, hugetlb, auto (the \
best available), or by region: fw=memfd,b1=hugetlb,auto. The default is simulated, and memfd for \
exec and serve --socket";

/// Options that several commands take, before or after the command. [`used_by`] says which command
/// takes which.
#[derive(Args, Clone, Debug)]
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

    /// Read board and server from this file, as /etc/cma/cma.toml; the guide describes it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

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

    /// The first option that was given although the file of --config says the same.
    pub(super) fn besides_config(&self) -> Option<String> {
        let mut given = self.given().into_iter();
        let stays = [CommonOption::Config, CommonOption::PluginDir, CommonOption::Json];
        self.config.as_ref()?;
        given.find(|option| !stays.contains(option)).map(CommonOption::flag)
    }

    /// The options that were given.
    pub(super) fn given(&self) -> Vec<CommonOption> {
        let Options { platform, banks, cma, map, memory, config, plugin_dir, json } = self;
        [
            (platform.is_some(), CommonOption::Platform),
            (banks.is_some(), CommonOption::Banks),
            (cma.is_some(), CommonOption::Cma),
            (map.is_some(), CommonOption::Map),
            (memory.is_some(), CommonOption::Memory),
            (config.is_some(), CommonOption::Config),
            (!plugin_dir.is_empty(), CommonOption::PluginDir),
            (*json, CommonOption::Json),
        ]
        .into_iter()
        .filter_map(|(given, option)| given.then_some(option))
        .collect()
    }
}

/// One of [`Options`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommonOption {
    Platform,
    Banks,
    Cma,
    Map,
    Memory,
    Config,
    PluginDir,
    Json,
}

impl CommonOption {
    pub(super) const ALL: [CommonOption; 8] = [
        CommonOption::Platform,
        CommonOption::Banks,
        CommonOption::Cma,
        CommonOption::Map,
        CommonOption::Memory,
        CommonOption::Config,
        CommonOption::PluginDir,
        CommonOption::Json,
    ];

    /// clap's identifier, which is the field's name.
    pub(super) fn id(self) -> &'static str {
        match self {
            CommonOption::Platform => "platform",
            CommonOption::Banks => "banks",
            CommonOption::Cma => "cma",
            CommonOption::Map => "map",
            CommonOption::Memory => "memory",
            CommonOption::Config => "config",
            CommonOption::PluginDir => "plugin_dir",
            CommonOption::Json => "json",
        }
    }

    /// As it is written on a command line.
    pub(super) fn flag(self) -> String {
        format!("--{}", self.id().replace('_', "-"))
    }
}

/// The options of a command that boots a system.
const SYSTEM: &[CommonOption] = &[
    CommonOption::Platform,
    CommonOption::Banks,
    CommonOption::Cma,
    CommonOption::Map,
    CommonOption::Memory,
    CommonOption::PluginDir,
];

/// The same, and the file of a server.
const SERVER: &[CommonOption] = &[
    CommonOption::Platform,
    CommonOption::Banks,
    CommonOption::Cma,
    CommonOption::Map,
    CommonOption::Memory,
    CommonOption::Config,
    CommonOption::PluginDir,
];

/// The options of a command that boots a system and can print JSON.
const REPORT: &[CommonOption] = &[
    CommonOption::Platform,
    CommonOption::Banks,
    CommonOption::Cma,
    CommonOption::Map,
    CommonOption::Memory,
    CommonOption::PluginDir,
    CommonOption::Json,
];

/// The options that describe a system.
const DESCRIPTION: &[CommonOption] = &[
    CommonOption::Platform,
    CommonOption::Banks,
    CommonOption::Cma,
    CommonOption::Map,
    CommonOption::Memory,
];

/// The options that the command of that name uses.
pub(super) fn used_by(command: &str) -> &'static [CommonOption] {
    match command {
        "demo" | "exec" | "shell" => SYSTEM,
        "serve" => SERVER,
        "regions" | "replay" | "why" => REPORT,
        "check" => &CommonOption::ALL,
        "export" => DESCRIPTION,
        "import" => &[CommonOption::Banks],
        "size" => &[CommonOption::Map, CommonOption::PluginDir, CommonOption::Json],
        "why --connect" => &[CommonOption::Json],
        "plugins" | "compare" | "conform" => &[CommonOption::PluginDir, CommonOption::Json],
        "draw" | "record" | "top" => &[CommonOption::PluginDir],
        _ => &[],
    }
}
