//! The options that several commands have, and the commands that use each.

/// One of [`Options`](super::Options).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommonOption {
    Platform,
    Banks,
    Cma,
    Map,
    Memory,
    PluginDir,
    Json,
}

impl CommonOption {
    pub(super) const ALL: [CommonOption; 7] = [
        CommonOption::Platform,
        CommonOption::Banks,
        CommonOption::Cma,
        CommonOption::Map,
        CommonOption::Memory,
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
        "demo" | "shell" | "serve" => SYSTEM,
        "regions" | "check" | "replay" | "why" => &CommonOption::ALL,
        "export" => DESCRIPTION,
        "import" => &[CommonOption::Banks],
        "size" => &[CommonOption::Map, CommonOption::PluginDir, CommonOption::Json],
        "why --connect" => &[CommonOption::Json],
        "plugins" | "compare" | "conform" => &[CommonOption::PluginDir, CommonOption::Json],
        "draw" | "record" | "top" => &[CommonOption::PluginDir],
        _ => &[],
    }
}
