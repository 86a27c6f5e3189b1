//! The allocators that a command analyses: those that are found, or those of `--allocator`.

use crate::described::config_error;
use crate::found_plugins::FoundPlugins;
use crate::options::Options;
use crate::outcome::{CommandError, Outcome};
use cma_analysis::Allocator;
use cma_framework::Plugin;
use cma_framework::config::parse_allocator;
use cma_framework::loader::{Trial, Tried};
use std::path::Path;

/// An allocator with the name under which results show it.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) allocator: Allocator,
}

impl Contender {
    /// All allocators that are found.
    pub(crate) fn all(options: &Options) -> Result<(Vec<Contender>, Outcome), CommandError> {
        let found = FoundPlugins::at_least_one(options)?;
        let reported = found.report();
        let contender = |plugin: Plugin| Contender {
            name: plugin.name().to_string(),
            allocator: Allocator::new(plugin),
        };
        Ok((found.plugins.into_iter().map(contender).collect(), reported))
    }

    /// Those of `wanted`: names as in `cma=`, with parameters or without, or files of plug-ins.
    /// Without any, all that are found.
    pub(crate) fn chosen(
        options: &Options,
        wanted: &[String],
    ) -> Result<(Vec<Contender>, Outcome), CommandError> {
        if wanted.is_empty() {
            return Contender::all(options);
        }
        let (found, reported) = match wanted.iter().all(|wanted| is_file(wanted)) {
            true => (Vec::new(), Outcome::Done),
            false => Contender::all(options)?,
        };
        let mut chosen: Vec<Contender> = Vec::new();
        for wanted in wanted {
            let allocator = match is_file(wanted) {
                true => Allocator::new(load(Path::new(wanted))?),
                false => named(wanted, &found)?,
            };
            let name = allocator.to_string();
            // Two builds of one allocator are told apart by their files.
            let taken = chosen.iter().any(|other| other.name == name);
            let name = if taken { wanted.clone() } else { name };
            if chosen.iter().any(|other| other.name == name) {
                return Err(CommandError::AllocatorTwice { name });
            }
            chosen.push(Contender { name, allocator });
        }
        Ok((chosen, reported))
    }
}

/// Whether a value of `--allocator` is the path of a file: a name has no `/`, which parameters may
/// have, and does not end as libraries do.
fn is_file(wanted: &str) -> bool {
    let name = wanted.split('(').next().unwrap_or_default();
    name.contains('/') || wanted.ends_with(".so")
}

/// Loads the plug-in, in a child process first.
fn load(path: &Path) -> Result<Plugin, CommandError> {
    let tried = Trial::of_this_program().run(path);
    tried.and_then(Tried::load).map_err(|error| CommandError::Plugin(Box::new(error)))
}

fn named(wanted: &str, found: &[Contender]) -> Result<Allocator, CommandError> {
    let spec = parse_allocator(wanted).map_err(|error| config_error("--allocator", error))?;
    let name = spec.map_or("", |spec| spec.name);
    let plugin = found.iter().map(|found| &found.allocator.plugin).find(|p| p.name() == name);
    match plugin {
        Some(plugin) => Ok(Allocator {
            plugin: plugin.clone(),
            params: spec.map_or("", |spec| spec.params).to_string(),
        }),
        None => Err(CommandError::UnknownAllocator {
            wanted: name.to_string(),
            known: found.iter().map(|found| found.name.clone()).collect(),
        }),
    }
}
