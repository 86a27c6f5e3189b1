//! Upgrades: another program continues the server.

use super::Supervisor;
use crate::control::{Asker, Control, Request};
use crate::program::Program;
use crate::report::Report;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Instant;

/// An upgrade in progress. No other one begins.
pub(super) struct Upgrade {
    pub(super) program: Program,
    /// Further arguments of its first start.
    pub(super) arguments: Vec<OsString>,
    pub(super) asker: Option<Asker>,
    pub(super) stage: Stage,
    /// When the server that runs is killed.
    pub(super) deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The old server was asked to end.
    Leaving,
    /// The new one is started, and not ready yet.
    Trying,
}

impl Supervisor<'_> {
    pub(super) fn take_request(&mut self) {
        let request = self.control.as_mut().and_then(Control::proceed);
        if let Some(Request { program, arguments, asker }) = request {
            self.begin_upgrade(program, arguments, Some(asker));
        }
    }

    pub(super) fn begin_upgrade(
        &mut self,
        program: Option<PathBuf>,
        arguments: Vec<OsString>,
        asker: Option<Asker>,
    ) {
        if self.upgrade.is_some() || self.is_ending {
            return;
        }
        let path = program.unwrap_or_else(|| self.plan.program.path().to_path_buf());
        match Program::open(&path) {
            Ok(program) => {
                (self.report)(&Report::Upgrading { program: path });
                let (stage, deadline) = (Stage::Leaving, None);
                self.upgrade = Some(Upgrade { program, arguments, asker, stage, deadline });
            }
            Err(error) => {
                let reason = format!("{} can't be started: {error}", path.display());
                (self.report)(&Report::NotUpgraded { reason: reason.clone() });
                if let Some(asker) = asker {
                    asker.answer(&Err(reason));
                }
            }
        }
    }

    /// From now on the new program is started.
    pub(super) fn try_upgrade(&mut self) {
        if let Some(upgrade) = &mut self.upgrade {
            (upgrade.stage, upgrade.deadline) = (Stage::Trying, None);
        }
    }

    pub(super) fn server_is_ready(&mut self) {
        self.was_ready = true;
        if let Some(upgrade) = self.upgrade.take_if(|upgrade| upgrade.stage == Stage::Trying) {
            let path = upgrade.program.path().to_path_buf();
            self.plan.program = upgrade.program;
            let report = Report::Upgraded { program: path };
            (self.report)(&report);
            if let Some(asker) = upgrade.asker {
                asker.answer(&Ok(report.to_string()));
            }
        }
    }

    /// The old program is started again.
    pub(super) fn give_upgrade_up(&mut self, reason: &str) {
        let Some(upgrade) = self.upgrade.take() else { return };
        let path = upgrade.program.path().display();
        let reason =
            format!("{path} did not become ready ({reason}); the old program is started again");
        (self.report)(&Report::NotUpgraded { reason: reason.clone() });
        if let Some(asker) = upgrade.asker {
            asker.answer(&Err(reason));
        }
    }

    /// Answers who waits for an upgrade that doesn't happen any more.
    pub(super) fn conclude(&mut self, result: Result<String, &str>) {
        if let Some(asker) = self.upgrade.take().and_then(|upgrade| upgrade.asker) {
            asker.answer(&result.map_err(str::to_string));
        }
    }
}

/// Where requests for an upgrade come from. During one, others wait.
pub(super) fn awaited<'a>(
    control: &'a Option<Control>,
    upgrade: &Option<Upgrade>,
) -> Option<BorrowedFd<'a>> {
    control.as_ref().filter(|_| upgrade.is_none()).map(Control::as_fd)
}
