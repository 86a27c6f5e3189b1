//! From options to a running framework: the board's regions with what memory they get, and the
//! plug-ins.

use crate::failure::{Failure, Outcome, name_a_folder};
use crate::notice::{Notice, Place};
use crate::options::Options;
use cma_framework::config::lint::Problem;
use cma_framework::config::{ConfigError, Platform, Span, parse_regions};
use cma_framework::loader::{Origin, SearchPath, Trial, is_plugin_name, load_all};
use cma_framework::reserve::Banks;
use cma_framework::{Attachments, Cma, EarlyHandle, EarlyState, PAGE_SIZE, Plugin};
use cma_memory::{Port, Ports};
use std::env::consts::{DLL_EXTENSION, DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};

/// A framework with a board's regions.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) cma: Cma,
    pub(crate) board: &'static Platform,
}

impl Host {
    /// Describes the regions, gives them memory and registers them. There are no allocators yet.
    pub(crate) fn boot(options: &Options) -> Result<Host, Failure> {
        Host::boot_on(options, Port::Simulated)
    }

    /// The same, with memory from `port` unless the options say otherwise.
    pub(crate) fn boot_on(options: &Options, port: Port) -> Result<Host, Failure> {
        let board = options.board();
        let cma = Cma::new();
        cma.set_platform(board)
            .map_err(|error| Failure::Board { board: board.name, reason: error.to_string() })?;
        cma.command_line(options.cma.as_deref(), None).map_err(|error| misread("--cma", error))?;
        cma.command_line(None, options.map.as_deref()).map_err(|error| misread("--map", error))?;
        let mut ports =
            Ports::new(Banks::of(board), options.memory.clone().unwrap_or_else(|| port.into()));
        cma.early_regions_reserve(&mut ports);
        cma.initialise();
        if let Some(name) = ports.not_asked().next() {
            return Err(Failure::NoSuchRegion { option: "--memory", name: name.to_string() });
        }
        tell(&ports);
        warn_of_slips(options);
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

    /// Says on standard error which early regions did not become regions.
    pub(crate) fn report_left_out(&self) -> Outcome {
        let left_out = self.left_out();
        for (early, reason) in &left_out {
            let name = early.description().name.as_deref().unwrap_or("-");
            Notice::warning(&format!("there is no region \"{name}\": {reason}")).report();
        }
        Outcome::refused_if(!left_out.is_empty())
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
                Notice::warning(&format!("{file}{error}")).report();
                return (Attachments::default(), Outcome::Refused);
            }
        };
        for (region, reason) in &attachments.failed {
            Notice::warning(&format!("region {region}: {reason}")).report();
        }
        let outcome = Outcome::refused_if(!attachments.failed.is_empty());
        (attachments, outcome)
    }
}

/// Says on standard error what is allowed in `--cma` and hardly meant: no region at all, and a size
/// below a page, where a suffix was forgotten.
fn warn_of_slips(options: &Options) {
    let Some(text) = &options.cma else { return };
    let regions = parse_regions(text).unwrap_or_default();
    let warn = |problem: Problem, span: &Span| {
        let notice = Notice::warning(&problem.to_string()).with_help(Some(problem.remedy()));
        notice.at(&Place("--cma".to_string()), text, span).report();
    };
    if regions.is_empty() {
        warn(Problem::NoRegions, &(0..0));
    }
    for region in regions.iter().filter(|region| region.spec.size < PAGE_SIZE) {
        let (name, size) = (region.spec.name.to_string(), region.spec.size);
        warn(Problem::SizeRounded { region: name, size }, &region.spans.size);
    }
}

/// Says on standard error what became of memory that was asked for.
fn tell(ports: &Ports) {
    for outcome in ports.outcomes().iter().filter(|outcome| outcome.remark.is_some()) {
        Notice::advice(&format!("region {outcome}")).report();
    }
}

pub(crate) fn misread(option: &str, error: ConfigError) -> Failure {
    Failure::Config(Place(option.to_string()), error)
}

/// The plug-ins on the search path.
#[derive(Debug)]
pub(crate) struct Found {
    /// Those that work, no two of one name. The first is the default allocator.
    pub(crate) plugins: Vec<Plugin>,
    /// What is to be said of the others, and of folders without any.
    remarks: Vec<Notice>,
    searched: SearchPath,
}

impl Found {
    /// Looks for plug-ins. Each is loaded in a process of its own first.
    pub(crate) fn on_path(options: &Options) -> Found {
        let mut found = Found::so_far(options);
        let empty = options.plugin_dir.iter().filter_map(|folder| without_plugins(folder));
        found.remarks.splice(..0, empty);
        found
    }

    /// The same, for a command that waits for more: a folder may be empty.
    pub(crate) fn so_far(options: &Options) -> Found {
        let searched = SearchPath::from_environment(&options.plugin_dir);
        let trial = trial();
        let mut plugins: Vec<Plugin> = Vec::new();
        let mut remarks: Vec<Notice> = Vec::new();
        for (_, loaded) in load_all(&searched, Some(&trial)) {
            match loaded {
                Ok(plugin) => match plugins.iter().find(|first| first.name() == plugin.name()) {
                    Some(first) => remarks.push(second(&plugin, first)),
                    None => plugins.push(plugin),
                },
                Err(error) => remarks.push(Notice::from(&error)),
            }
        }
        Found { plugins, remarks, searched }
    }

    /// The same, for a command that can do nothing without a plug-in.
    pub(crate) fn some_on_path(options: &Options) -> Result<Found, Failure> {
        let found = Found::on_path(options);
        if found.plugins.is_empty() {
            found.remarks.iter().for_each(Notice::report);
            return Err(Failure::NoPlugin { searched: found.searched });
        }
        Ok(found)
    }

    /// The file that `plugin` stands in for: of the same name, in a folder that is searched later
    /// than one the user named.
    pub(crate) fn replaced(&self, plugin: &Plugin) -> Option<PathBuf> {
        let (folder, name) = (plugin.path()?.parent()?, plugin.path()?.file_name()?);
        let mut folders = self.searched.folders().skip_while(|(searched, _)| *searched != folder);
        folders.next().filter(|(_, origin)| *origin != Origin::Executable)?;
        folders.map(|(folder, _)| folder.join(name)).find(|file| file.is_file())
    }

    /// Says on standard error which files were refused, why, and what to do about it.
    pub(crate) fn report(&self) -> Outcome {
        self.remarks.iter().for_each(Notice::report);
        if self.plugins.is_empty() {
            Notice::warning("no allocator plug-in was found, so no region can serve anything")
                .with_help(Some(name_a_folder(&self.searched)))
                .report();
        }
        Outcome::refused_if(self.plugins.is_empty() || !self.remarks.is_empty())
    }
}

/// How a plug-in is tried in a process of its own: this very program, started again.
pub(crate) fn trial() -> Trial {
    Trial::of_this_program()
}

/// What to say of a plug-in whose name an earlier one has.
fn second(plugin: &Plugin, first: &Plugin) -> Notice {
    let path =
        |plugin: &Plugin| plugin.path().map(|path| path.display().to_string()).unwrap_or_default();
    let message = format!(
        "{}: not used: it calls itself \"{}\", as does {}, which is found first",
        path(plugin),
        plugin.name(),
        path(first)
    );
    let help = "take one of them away, or give its allocator another name; \
        searched are --plugin-dir, CMA_PLUGIN_PATH and the program's place, in this order, and in each by file name";
    Notice::warning(&message).with_help(Some(help.to_string()))
}

/// What to say of a folder that the user named and that holds no plug-in. One that can't be listed
/// is reported elsewhere.
fn without_plugins(folder: &Path) -> Option<Notice> {
    let mut names: Vec<_> =
        fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name()).collect();
    if names.iter().any(|name| is_plugin_name(name)) {
        return None;
    }
    names.sort();
    let message = format!("{}: no plug-in is in this folder", folder.display());
    let library =
        names.iter().find(|name| Path::new(name).extension() == Some(DLL_EXTENSION.as_ref()));
    let there = library.map(|name| format!("there is {}; ", name.display())).unwrap_or_default();
    let help =
        format!("{there}a plug-in's file is called {DLL_PREFIX}cma_<name>_plugin{DLL_SUFFIX}");
    Some(Notice::warning(&message).with_help(Some(help)))
}
