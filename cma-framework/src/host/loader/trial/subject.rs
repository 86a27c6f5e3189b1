//! The process in which a plug-in is loaded to see what happens.

use super::super::image::Image;
use super::super::{LoadError, Plugin};
use super::message::Verdict;
use super::report::Writer;
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

/// Tries the plug-in whose copy is the first of `descriptors`, and writes what comes of it to the
/// second.
pub(super) fn run(descriptors: Vec<OwnedFd>, memory: u64, supervisor: u32) -> io::Result<()> {
    let mut descriptors = descriptors.into_iter();
    let (Some(copy), Some(report)) = (descriptors.next(), descriptors.next()) else {
        return Err(io::Error::other("the descriptors of the order are missing"));
    };
    let mut report = Writer::new(report)?;
    // The supervisor ends what is left over. Without one, nobody would.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(Pid::as_raw_pid).and_then(|parent| u32::try_from(parent).ok())
        != Some(supervisor)
    {
        return Err(io::Error::other("the supervisor has ended"));
    }
    limit(Resource::Data, memory)?;
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

/// Loads the plug-in, lets it panic, and lets it serve a region for a moment. That it refuses the
/// region is its right.
fn try_out(image: Image, report: &mut Writer) -> Result<(), LoadError> {
    // A region without a page is no region, so the plug-in's side of the border panics, inside of
    // what catches panics.
    const NO_REGION: PageRange = PageRange::from_pages(0x4_0000, 0);
    const REGION: PageRange = PageRange::from_pages(0x4_0000, 0x1000);
    // The path stands in no reason, and the host knows it.
    let plugin = Plugin::from_image(Path::new(""), image)?;
    report.panics();
    drop(plugin.initialise(NO_REGION, ""));
    report.goes_on();
    drop(plugin.initialise(REGION, ""));
    Ok(())
}

/// Lets this process have at most `most` of `resource`.
pub(super) fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(resource);
    let within = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    Ok(setrlimit(resource, Rlimit { current: within(current), maximum: within(maximum) })?)
}

/// Gives this process the name that the program has when it is started by its path. Started through
/// `/proc/self/exe` its name is `exe`.
fn name_this_process() {
    let program = env::args_os().next();
    let name = program.as_deref().and_then(|program| Path::new(program).file_name());
    if let Some(name) = name.and_then(|name| CString::new(name.as_bytes()).ok()) {
        // A name is no matter to fail for.
        let _ = set_name(&name);
    }
}
