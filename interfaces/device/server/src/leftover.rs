//! Processes that still have memory of an earlier server. A server gives out the same addresses as
//! the one before it, so two processes may have different memory at the same address then.

use crate::log;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// As many processes are named.
const MOST_NAMED: usize = 8;

/// A process that has memory of a region of that name, which this process didn't give it.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    process: String,
    region: String,
}

/// Says which processes have memory of earlier servers' regions of these names, as far as this
/// process may look.
pub(crate) fn report<'r>(regions: impl Iterator<Item = &'r str>) {
    let holders = find(&regions.collect());
    for Holder { pid, process, region } in holders.iter().take(MOST_NAMED) {
        log::emit(|| {
            tracing::warn!(
                pid,
                process,
                region,
                "this process has memory of a region of the same name that another server gave it, which may have ended; \
                 this server may give out the same addresses. End the process, or let it ask again"
            );
        });
    }
    if let Some(more) = holders.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        log::emit(|| tracing::warn!(more, "further processes have memory of earlier servers"));
    }
}

fn find(regions: &BTreeSet<&str>) -> Vec<Holder> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut holders = Vec::new();
    for pid in pids.filter(|pid| *pid != std::process::id()) {
        let folder = format!("/proc/{pid}");
        for region in
            files_in_memory(Path::new(&folder)).iter().filter_map(|file| region_of(file, regions))
        {
            let process = fs::read_to_string(format!("{folder}/comm")).unwrap_or_default();
            let process = process.trim_end().escape_debug().to_string();
            holders.push(Holder { pid, process, region: region.to_string() });
        }
    }
    holders
}

/// The region whose memory a file is, by the name that memory ports give their files: `cma:` and
/// the region's, cut to 60 characters.
fn region_of<'r>(file: &str, regions: &BTreeSet<&'r str>) -> Option<&'r str> {
    let name = file.strip_prefix("cma:")?;
    regions.iter().copied().find(|region| region.chars().take(60 - 4).eq(name.chars()))
}

/// The names of the files in memory that a process has open or mapped.
fn files_in_memory(process: &Path) -> BTreeSet<String> {
    let name = |path: &str| {
        let name = path.strip_prefix("/memfd:")?;
        Some(name.strip_suffix(" (deleted)").unwrap_or(name).to_string())
    };
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let open = open.filter_map(|file| name(&fs::read_link(file.path()).ok()?.to_string_lossy()));
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    let mapped = maps.lines().filter_map(|line| name(&line[line.find("/memfd:")?..]));
    open.chain(mapped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_that_has_memory_of_an_earlier_server_is_named() {
        let regions = BTreeSet::from(["of-a-test", "other"]);
        let file = memfd_create("cma:of-a-test", MemfdFlags::CLOEXEC).unwrap();
        let mut holder = Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap();
        let found = find(&regions);
        holder.kill().unwrap();
        holder.wait().unwrap();
        let [Holder { pid, region, .. }] = &found[..] else { panic!("{found:?}") };
        assert_eq!((*pid, &**region), (holder.id(), "of-a-test"));
        assert_eq!(find(&regions), []);
    }

    #[test]
    fn files_are_told_by_their_whole_name() {
        let long = "r".repeat(64);
        let regions = BTreeSet::from(["ram", &long]);
        assert_eq!(region_of("cma:ram", &regions), Some("ram"));
        assert_eq!(region_of("cma:ra", &regions), None);
        assert_eq!(region_of("ram", &regions), None);
        assert_eq!(region_of(&format!("cma:{long}")[..60], &regions), Some(&*long));
    }
}
