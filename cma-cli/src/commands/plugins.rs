//! `cma plugins`: which allocators are there.

use crate::failure::{Failure, Outcome};
use crate::host::Found;
use crate::options::Options;
use crate::show::{BOLD, DIM, GOOD, Out, plain};
use cma_framework::Plugin;
use serde::Serialize;
use std::io::Write;

#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    version: &'a str,
    description: &'a str,
    interface_version: &'a str,
    path: String,
    /// Whether it serves the regions that ask for no allocator by name.
    default: bool,
}

impl<'a> Row<'a> {
    fn new(plugin: &'a Plugin, default: bool) -> Self {
        Row {
            name: plugin.name(),
            version: plugin.version(),
            description: plugin.description(),
            interface_version: plugin.interface_version(),
            path: plugin.path().map(|path| path.display().to_string()).unwrap_or_default(),
            default,
        }
    }
}

pub(crate) fn run(options: &Options, out: &mut Out) -> Result<Outcome, Failure> {
    let found = Found::some_on_path(options)?;
    let outcome = found.report();
    let width = found.plugins.iter().map(|plugin| plugin.name().len()).max().unwrap_or(0);
    for (n, plugin) in found.plugins.iter().enumerate() {
        let row = Row::new(plugin, n == 0);
        if options.json {
            writeln!(out, "{}", serde_json::to_string(&row).map_err(std::io::Error::from)?)?;
            continue;
        }
        let Row { name, version, description, interface_version, path, default } = row;
        writeln!(out, "{BOLD}{name:width$}{BOLD:#}  {version}  {description}")?;
        writeln!(
            out,
            "{:width$}  {DIM}interface {interface_version}  {}{DIM:#}",
            "",
            plain(&path)
        )?;
        if let Some(file) = found.replaced(plugin) {
            let file = plain(&file.display().to_string());
            writeln!(out, "{:width$}  {DIM}in place of {file}{DIM:#}", "")?;
        }
        if default {
            writeln!(out, "{:width$}  {GOOD}the default: it is found first{GOOD:#}", "")?;
        }
    }
    Ok(outcome)
}
