//! From options to a running framework: the board's regions with simulated memory, and the plug-ins.

use crate::failure::{Failure, Outcome};
use crate::notice::{Notice, Place};
use crate::options::Options;
use cma_framework::config::{ConfigError, Platform};
use cma_framework::loader::{LoadError, SearchPath, Trial, load_all};
use cma_framework::reserve::Banks;
use cma_framework::{Attachments, Cma, EarlyHandle, EarlyState, Plugin};
use std::process::Command;

/// A framework with a board's regions.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) cma: Cma,
    pub(crate) board: &'static Platform,
}

impl Host {
    /// Describes the regions, gives them memory and registers them. There are no allocators yet.
    pub(crate) fn boot(options: &Options) -> Result<Host, Failure> {
        let board = options.platform.platform();
        let cma = Cma::new();
        cma.set_platform(board)
            .map_err(|error| Failure::Board { board: board.name, reason: error.to_string() })?;
        cma.command_line(options.cma.as_deref(), None).map_err(|error| misread("--cma", error))?;
        cma.command_line(None, options.map.as_deref()).map_err(|error| misread("--map", error))?;
        cma.early_regions_reserve(&mut Banks::new(board.banks, board.growth));
        cma.initialise();
        Ok(Host { cma, board })
    }

    /// The early regions that did not become regions, each with the reason.
    pub(crate) fn left_out(&self) -> Vec<(EarlyHandle, String)> {
        let reason = |early: &EarlyHandle| match early.state() {
            EarlyState::Registered(_) => None,
            EarlyState::NotReserved(error) => Some(error.to_string()),
            EarlyState::NotRegistered(_, error) => Some(error.to_string()),
            _ => Some("not initialised".to_string()),
        };
        let early = self.cma.early_regions().into_iter();
        early.filter_map(|early| reason(&early).map(|reason| (early, reason))).collect()
    }

    /// Registers what is found, and says on standard error what is refused.
    pub(crate) fn register(&self, found: Found) -> Outcome {
        let refused = found.report();
        let registered = found.plugins.into_iter().map(|plugin| self.register_one(plugin).1);
        registered.fold(refused, Outcome::max)
    }

    /// Registers one plug-in. What is refused is said on standard error.
    pub(crate) fn register_one(&self, plugin: Plugin) -> (Attachments, Outcome) {
        let file = plugin.path().map(|path| format!("{}: ", path.display())).unwrap_or_default();
        let attachments = match self.cma.allocator_register(plugin) {
            Ok(attachments) => attachments,
            Err(error) => {
                Notice::warning(format!("{file}{error}")).report();
                return (Attachments::default(), Outcome::Refused);
            }
        };
        for (region, reason) in &attachments.failed {
            Notice::warning(format!("region {region}: {reason}")).report();
        }
        let outcome = Outcome::refused_if(!attachments.failed.is_empty());
        (attachments, outcome)
    }
}

pub(crate) fn misread(option: &str, error: ConfigError) -> Failure {
    Failure::Config(Place(option.to_string()), error)
}

/// The plug-ins on the search path.
#[derive(Debug)]
pub(crate) struct Found {
    /// Those that work.
    pub(crate) plugins: Vec<Plugin>,
    refused: Vec<LoadError>,
    searched: SearchPath,
}

impl Found {
    /// Looks for plug-ins. Each is loaded in a process of its own first: this very program, started again.
    pub(crate) fn on_path(options: &Options) -> Found {
        let searched = SearchPath::from_environment(&options.plugin_dir);
        let trial = Trial::new(|| Command::new("/proc/self/exe"));
        let (mut plugins, mut refused) = (Vec::new(), Vec::new());
        for (_, loaded) in load_all(&searched, Some(&trial)) {
            match loaded {
                Ok(plugin) => plugins.push(plugin),
                Err(error) => refused.push(error),
            }
        }
        Found { plugins, refused, searched }
    }

    /// The same, for a command that can do nothing without a plug-in.
    pub(crate) fn some_on_path(options: &Options) -> Result<Found, Failure> {
        let found = Found::on_path(options);
        if found.plugins.is_empty() {
            found.report();
            return Err(Failure::NoPlugin { searched: found.searched });
        }
        Ok(found)
    }

    /// Says on standard error which files were refused, why, and what to do about it.
    pub(crate) fn report(&self) -> Outcome {
        self.refused.iter().for_each(|error| Notice::from(error).report());
        Outcome::refused_if(!self.refused.is_empty())
    }
}
