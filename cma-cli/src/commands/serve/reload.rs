//! The configuration of a running server, and its file, which SIGHUP has it read again.

use super::socket::ChunkSocket;
use crate::described::Description;
use crate::notice::Notice;
use crate::options::ServeArgs;
use crate::outcome::CommandError;
use crate::service::Service;
use cma_board::{Board, BoardRegion};
use cma_framework::config::lint::Severity;
use cma_framework::{AllocatorChoice, Cma};
use std::path::PathBuf;

/// What a server with a file is configured as.
#[derive(Debug)]
pub(super) struct Configuration {
    file: PathBuf,
    args: ServeArgs,
    /// As the file described it when it was read last.
    board: Board,
    service: Service,
}

impl Configuration {
    pub(super) fn new(file: PathBuf, args: &ServeArgs, board: &Board, service: &Service) -> Self {
        let (board, service) = (board.clone(), service.clone());
        Configuration { file, args: args.clone(), board, service }
    }

    /// Reads the file again. What can change in a running server changes, and the rest is reported.
    /// A wrong file is reported, and changes nothing.
    pub(super) fn reload(&mut self, cma: &Cma, socket: Option<&ChunkSocket>) {
        let read = Description::configured(&self.file).map_err(CommandError::report);
        let Some((board, service)) = read.ok().and_then(|read| self.checked(read, cma)) else {
            Notice::warning("the configuration of before stays in force").report();
            return;
        };
        let mut changed = Vec::new();
        if *cma.map() != board.map {
            cma.set_map(board.map.clone());
            changed.push("map");
        }
        if let Some(socket) = socket {
            // The next server reads the file, too.
            socket.settings().forget_written("map");
        }
        if let Some(socket) = socket {
            if service.rules != self.service.rules {
                socket.settings().set_rules(service.rules.clone());
                socket.warn_of_access(&service);
                changed.push("rules");
            }
            if service.limits != self.service.limits {
                socket.settings().set_limits(service.limits.clone());
                changed.push("limits");
            }
        }
        if self.change_allocators(cma, socket, &board) {
            changed.push("allocators");
        }
        let changed = if changed.is_empty() { "nothing".to_string() } else { changed.join(", ") };
        tracing::info!(file = %self.file.display(), %changed, "configuration read again");
        let waiting = waiting_for_restart(&self.board, &self.service, &board, &service);
        if !waiting.is_empty() {
            let message = format!("{} changed, which takes a restart", waiting.join(", "));
            Notice::warning(&format!("{}: {message}", self.file.display())).report();
        }
        // What takes a restart is compared with what runs, so that it is reported until then.
        let Service { limits, rules, has_empty_rules, .. } = service;
        self.service = Service { limits, rules, has_empty_rules, ..self.service.clone() };
        self.board.map = board.map;
    }

    /// What was read, unless the linter finds an error: a server could not start with that.
    /// Reports what it finds.
    fn checked(
        &self,
        (description, service): (Description, Service),
        cma: &Cma,
    ) -> Option<(Board, Service)> {
        let allocators = cma.allocators();
        let names: Vec<&str> = allocators.iter().filter_map(|it| it.name.as_deref()).collect();
        let findings = description.findings(&names);
        findings.iter().for_each(|(_, notice)| notice.report());
        let has_error = findings.iter().any(|(severity, _)| *severity == Severity::Error);
        (!has_error).then(|| (description.read.board, service.with_options(&self.args)))
    }

    /// Gives each region whose allocator is another one in `board` that allocator. Returns whether
    /// there was one. A region that keeps its own is tried again by the next call.
    fn change_allocators(
        &mut self,
        cma: &Cma,
        socket: Option<&ChunkSocket>,
        board: &Board,
    ) -> bool {
        let mut changed = false;
        for old in &mut self.board.regions {
            let new = board.regions.iter().find(|new| new.name == old.name);
            let new = new.filter(|new| new.allocator != old.allocator);
            let (Some(new), Some(region)) = (new, cma.region(&old.name)) else { continue };
            let choice = new.spec().allocator.map_or(AllocatorChoice::Default, Into::into);
            match cma.set_region_allocator(&region, choice) {
                Ok(_) => {
                    old.allocator.clone_from(&new.allocator);
                    changed = true;
                    if let Some(socket) = socket {
                        let path = format!("regions/{}/alloc", region.range().start());
                        socket.settings().forget_written(&path);
                    }
                }
                Err(error) => {
                    let message = format!("region {} keeps its allocator: {error}", old.name);
                    Notice::warning(&message).report();
                }
            }
        }
        changed
    }
}

/// The names in the file of what differs and can't change in a running server.
fn waiting_for_restart(
    board: &Board,
    service: &Service,
    new_board: &Board,
    new: &Service,
) -> Vec<&'static str> {
    let places = |board: &Board| -> Vec<BoardRegion> {
        let regions = board.regions.iter().cloned();
        regions.map(|region| BoardRegion { allocator: None, ..region }).collect()
    };
    let socket = |service: &Service| service.socket.clone();
    [
        (board.banks != new_board.banks, "banks"),
        (board.growth != new_board.growth, "growth"),
        (places(board) != places(new_board), "regions"),
        (board.memory != new_board.memory, "memory"),
        (service.mount != new.mount, "mount"),
        (socket(service) != socket(new), "socket"),
        (service.metrics != new.metrics, "metrics"),
        (service.plugin_dirs != new.plugin_dirs, "plugin-dirs"),
        (service.record != new.record, "record"),
        (service.log != new.log, "log"),
    ]
    .into_iter()
    .filter_map(|(differs, name)| differs.then_some(name))
    .collect()
}
