//! The subject: the process in which a plug-in is tried.

use super::super::image::Image;
use super::super::{LoadError, Plugin};
use super::message::Verdict;
use super::report::ReportWriter;
use cma_api::PageRange;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::set_name;
use std::env;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Tries the plug-in whose copy is the first of `descriptors`, and writes the verdict to the
/// report, which is the second.
pub(super) fn run(descriptors: Vec<OwnedFd>, memory: u64, supervisor: u32) -> io::Result<()> {
    let mut descriptors = descriptors.into_iter();
    let (Some(copy), Some(report)) = (descriptors.next(), descriptors.next()) else {
        return Err(io::Error::other("the descriptors of the order are missing"));
    };
    let mut report = ReportWriter::new(report)?;
    // Only the supervisor kills remaining processes, so the subject ends with it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(Pid::as_raw_pid).and_then(|parent| u32::try_from(parent).ok())
        != Some(supervisor)
    {
        return Err(io::Error::other("the supervisor has ended"));
    }
    limit_resource(Resource::Data, memory)?;
    name_this_process();
    let verdict = match Image::received(copy) {
        Err(error) => Verdict::NoTrial(error),
        Ok(image) => match try_out(image, &mut report) {
            Ok(()) => Verdict::Sound,
            Err(error) => Verdict::Refused(error.into_reason()),
        },
    };
    report.verdict(&verdict);
    Ok(())
}

/// Loads the plug-in, provokes a panic, and attaches an allocator to a region. A plug-in may refuse
/// the region.
fn try_out(image: Image, report: &mut ReportWriter) -> Result<(), LoadError> {
    // A region without pages is invalid. The plug-in's side of the ABI boundary panics, inside its
    // own panic handler.
    const EMPTY_REGION: PageRange = PageRange::from_pages(0x4_0000, 0);
    const REGION: PageRange = PageRange::from_pages(0x4_0000, 0x1000);
    // No reason contains the path, and the host knows it.
    let plugin = Plugin::from_image(Path::new(""), image)?;
    report.expect_panic();
    drop(plugin.initialise(EMPTY_REGION, ""));
    report.panic_caught();
    drop(plugin.initialise(REGION, ""));
    Ok(())
}

/// Limits `resource` of this process to `most`, or less if the limit is lower already.
pub(super) fn limit_resource(resource: Resource, most: u64) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(resource);
    let within = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    Ok(setrlimit(resource, Rlimit { current: within(current), maximum: within(maximum) })?)
}

/// Sets the name of this process to the file name of the program. Without it, a process that is
/// started through `/proc/self/exe` has the name `exe`.
fn name_this_process() {
    let program = env::args_os().next();
    let name = program.as_deref().and_then(|program| Path::new(program).file_name());
    if let Some(name) = name.and_then(|name| CString::new(name.as_bytes()).ok()) {
        // The name is not essential.
        let _ = set_name(&name);
    }
}
