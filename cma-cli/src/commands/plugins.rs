//! `cma plugins`: the allocators that are found.

use crate::found_plugins::FoundPlugins;
use crate::options::Options;
use crate::outcome::{CommandError, Outcome};
use crate::show::{BOLD, DIM, GOOD, Out, plain};
use cma_framework::Plugin;
use serde::Serialize;
use std::io::Write;

#[derive(Debug, Serialize)]
struct PluginRow<'a> {
    name: &'a str,
    version: &'a str,
    description: &'a str,
    interface_version: &'a str,
    path: String,
    /// Whether it serves the regions that request no allocator by name.
    default: bool,
}

impl<'a> PluginRow<'a> {
    fn new(plugin: &'a Plugin, default: bool) -> Self {
        PluginRow {
            name: plugin.name(),
            version: plugin.version(),
            description: plugin.description(),
            interface_version: plugin.interface_version(),
            path: plugin.path().map(|path| path.display().to_string()).unwrap_or_default(),
            default,
        }
    }
}

pub(crate) fn run(options: &Options, out: &mut Out) -> Result<Outcome, CommandError> {
    let found = FoundPlugins::at_least_one(options)?;
    let outcome = found.report();
    let width = found.plugins.iter().map(|plugin| plugin.name().len()).max().unwrap_or(0);
    for (n, plugin) in found.plugins.iter().enumerate() {
        let row = PluginRow::new(plugin, n == 0);
        if options.json {
            writeln!(out, "{}", serde_json::to_string(&row).map_err(std::io::Error::from)?)?;
            continue;
        }
        let PluginRow { name, version, description, interface_version, path, default } = row;
        writeln!(out, "{BOLD}{name:width$}{BOLD:#}  {version}  {description}")?;
        writeln!(
            out,
            "{:width$}  {DIM}interface {interface_version}  {}{DIM:#}",
            "",
            plain(&path)
        )?;
        if let Some(file) = found.hidden_by(plugin) {
            let file = plain(&file.display().to_string());
            writeln!(out, "{:width$}  {DIM}in place of {file}{DIM:#}", "")?;
        }
        if default {
            writeln!(out, "{:width$}  {GOOD}the default: it is found first{GOOD:#}", "")?;
        }
    }
    Ok(outcome)
}
