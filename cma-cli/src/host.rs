//! The boot of a system: from options to a framework with the board's regions.

use crate::described::Description;
use crate::found_plugins::FoundPlugins;
use crate::notice::{Notice, TextName};
use crate::options::Options;
use crate::outcome::{CommandError, Outcome};
use crate::place_in_text::Spot;
use cma_board::Board;
use cma_framework::config::lint::{Problem, lint};
use cma_framework::config::{Span, parse_regions};
use cma_framework::{Cma, EarlyHandle, EarlyState, PAGE_SIZE, Plugin};
use cma_memory::{Port, Ports, RestoredRegion};

/// A framework with a board's regions.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) cma: Cma,
    pub(crate) board: Board,
    /// Where the regions are described. Not kept for a system that is booted again.
    described: Option<DescribedRegions>,
}

/// The text of the regions.
#[derive(Debug)]
enum DescribedRegions {
    /// That of `--cma`.
    Given(String),
    Board(Box<Description>),
}

impl Host {
    /// Describes the regions, reserves their memory and registers them. No allocator is registered
    /// yet.
    pub(crate) fn boot(options: &Options) -> Result<Host, CommandError> {
        Host::boot_described(Description::of(options)?, options, Port::Simulated, Vec::new())
    }

    /// The same for a board that was read, with memory from `port` unless the options or the board
    /// say otherwise. Regions of a server that has ended get its memory.
    pub(crate) fn boot_described(
        description: Description,
        options: &Options,
        port: Port,
        restored: Vec<RestoredRegion>,
    ) -> Result<Host, CommandError> {
        description.warn_of_banks();
        let title = description.title().to_string();
        let board = Board { name: Some(title), ..description.system(options)? };
        let (mut host, ports) = Host::boot_quietly(board, port, restored)?;
        host.described = Some(match &options.cma {
            Some(text) => DescribedRegions::Given(text.clone()),
            None => DescribedRegions::Board(Box::new(description)),
        });
        report_memory(&ports);
        warn_of_unlikely_regions(options);
        Ok(host)
    }

    /// A system with the regions of `board`, which was booted before, and with `plugins` as its
    /// allocators, the first as the default. Nothing is reported again.
    pub(crate) fn boot_again<'a>(
        board: &Board,
        plugins: impl Iterator<Item = &'a Plugin>,
    ) -> Result<Host, CommandError> {
        let (host, _) = Host::boot_quietly(board.clone(), Port::Simulated, Vec::new())?;
        for plugin in plugins {
            // A refusal was reported before, or is the reason of the requests that fail.
            let _ = host.cma.allocator_register(plugin.clone());
        }
        Ok(host)
    }

    fn boot_quietly(
        board: Board,
        port: Port,
        restored: Vec<RestoredRegion>,
    ) -> Result<(Host, Ports), CommandError> {
        let cma = Cma::new();
        cma.set_defaults(&board.specs(), board.map.clone()).map_err(|error| {
            CommandError::Board { board: board.title().to_string(), reason: error.to_string() }
        })?;
        let choice = board.memory.clone().unwrap_or_else(|| port.into());
        let ports = Ports::new(board.memory_banks(), choice);
        let mut ports = ports.with_restored(restored).map_err(CommandError::Restored)?;
        cma.early_regions_reserve(&mut ports);
        cma.initialise();
        if let Some(name) = ports.unrequested().next() {
            return Err(CommandError::NoSuchRegion { option: "--memory", name: name.to_string() });
        }
        Ok((Host { cma, board, described: None }, ports))
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

    /// Reports on standard error the early regions that did not become regions.
    pub(crate) fn report_left_out(&self) -> Outcome {
        let left_out = self.left_out();
        for (early, reason) in &left_out {
            let name = early.description().name.as_deref().unwrap_or("-");
            let notice = Notice::error(&format!("there is no region \"{name}\": {reason}"));
            self.locate(notice, early).report();
        }
        Outcome::refused_if(!left_out.is_empty())
    }

    /// `notice` about a region that got no memory, with the place where it is described, and with
    /// the remedy if the board's banks have none for it.
    fn locate(&self, notice: Notice, early: &EarlyHandle) -> Notice {
        let (Some(described), Some(name)) = (&self.described, &early.description().name) else {
            return notice;
        };
        let text = match described {
            DescribedRegions::Given(text) => text.as_str(),
            DescribedRegions::Board(description) => description.read.regions.text(),
        };
        let regions = parse_regions(text).unwrap_or_default();
        let Some(region) = regions.iter().find(|region| region.spec.name == name) else {
            return notice;
        };
        let is_cause = |problem: &Problem| match (problem, early.state()) {
            (Problem::NoMemory { region, reason, .. }, EarlyState::NotReserved(error)) => {
                region == name && *reason == error
            }
            _ => false,
        };
        let found = lint(&regions, &self.board.map, &self.board.banks, self.board.growth, &[]);
        let cause = found.into_iter().map(|finding| finding.problem).find(is_cause);
        let notice = notice.with_help(cause.map(|cause| cause.remedy()));
        let span = region.spans.place.as_ref().unwrap_or(&region.spans.size);
        match described {
            DescribedRegions::Given(text) => {
                notice.underlining(&TextName("--cma".to_string()), text, span)
            }
            DescribedRegions::Board(description) => {
                match description.origin(&description.read.regions, span) {
                    Some(Spot::Text(source, span)) => {
                        notice.underlining(&source.name, &source.text, &span)
                    }
                    Some(Spot::Node(_) | Spot::Whole) | None => notice,
                }
            }
        }
    }

    /// Registers the plug-ins, and reports refusals on standard error.
    pub(crate) fn register(&self, found: FoundPlugins) -> Outcome {
        let reported = found.report();
        let registered = found.plugins.into_iter().map(|plugin| self.register_one(plugin));
        registered.fold(reported, Outcome::max)
    }

    pub(crate) fn register_one(&self, plugin: Plugin) -> Outcome {
        let file = plugin.path().map(|path| format!("{}: ", path.display())).unwrap_or_default();
        let attachments = match self.cma.allocator_register(plugin) {
            Ok(attachments) => attachments,
            Err(error) => {
                Notice::warning(&format!("{file}{error}")).report();
                return Outcome::Refused;
            }
        };
        for (region, reason) in &attachments.failed {
            Notice::warning(&format!("region {region}: {reason}")).report();
        }
        Outcome::refused_if(!attachments.failed.is_empty())
    }
}

/// Warns of a `--cma` that is valid and hardly intended: no region at all, or a size below a page,
/// where a suffix is probably missing.
fn warn_of_unlikely_regions(options: &Options) {
    let Some(text) = &options.cma else { return };
    let regions = parse_regions(text).unwrap_or_default();
    let warn = |problem: Problem, span: &Span| {
        let notice = Notice::warning(&problem.to_string()).with_help(Some(problem.remedy()));
        notice.underlining(&TextName("--cma".to_string()), text, span).report();
    };
    if regions.is_empty() {
        warn(Problem::NoRegions, &(0..0));
    }
    for region in regions.iter().filter(|region| region.spec.size < PAGE_SIZE) {
        let (name, size) = (region.spec.name.to_string(), region.spec.size);
        warn(Problem::SizeRounded { region: name, size }, &region.spans.size);
    }
}

/// Reports on standard error where memory differs from the choice.
fn report_memory(ports: &Ports) {
    for outcome in ports.outcomes().iter().filter(|outcome| outcome.remark.is_some()) {
        Notice::advice(&format!("region {outcome}")).report();
    }
}
