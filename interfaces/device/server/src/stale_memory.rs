//! Processes that still hold memory of an earlier server. A server allocates the same addresses as
//! its predecessor, so two processes may then have different memory for the same address.

use crate::log;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The number of processes that are logged by name.
const MAX_NAMED: usize = 8;

/// A process that holds memory of an earlier server's region of that name.
#[derive(Debug, PartialEq, Eq)]
struct StaleHolder {
    pid: u32,
    process: String,
    region: String,
}

/// Warns of processes that hold memory of earlier servers' regions of these names, as far as this
/// process may read their entries in `/proc`.
pub(crate) fn warn<'r>(regions: impl Iterator<Item = &'r str>) {
    let holders = find(&regions.collect());
    for StaleHolder { pid, process, region } in holders.iter().take(MAX_NAMED) {
        log::emit(|| {
            tracing::warn!(
                pid,
                process,
                region,
                "this process holds memory that another, perhaps ended, server allocated from a region of the same name; \
                 this server may allocate the same addresses. End the process, or let it allocate anew"
            );
        });
    }
    if let Some(more) = holders.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        log::emit(|| tracing::warn!(more, "further processes hold memory of earlier servers"));
    }
}

fn find(regions: &BTreeSet<&str>) -> Vec<StaleHolder> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut holders = Vec::new();
    for pid in pids.filter(|pid| *pid != std::process::id()) {
        let folder = format!("/proc/{pid}");
        for region in
            memory_files(Path::new(&folder)).iter().filter_map(|file| region_of(file, regions))
        {
            let process = fs::read_to_string(format!("{folder}/comm")).unwrap_or_default();
            let process = process.trim_end().escape_debug().to_string();
            holders.push(StaleHolder { pid, process, region: region.to_string() });
        }
    }
    holders
}

/// The region that a memory file belongs to. Memory ports name their files `cma:` and the region's
/// name, cut to 60 characters in total.
fn region_of<'r>(file: &str, regions: &BTreeSet<&'r str>) -> Option<&'r str> {
    let name = file.strip_prefix("cma:")?;
    regions.iter().copied().find(|region| region.chars().take(60 - 4).eq(name.chars()))
}

/// The names of the memory files that a process has open or mapped.
fn memory_files(process: &Path) -> BTreeSet<String> {
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
    fn a_process_that_holds_memory_of_an_earlier_server_is_found() {
        let regions = BTreeSet::from(["of-a-test", "other"]);
        let file = memfd_create("cma:of-a-test", MemfdFlags::CLOEXEC).unwrap();
        let mut holder = Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap();
        let found = find(&regions);
        holder.kill().unwrap();
        holder.wait().unwrap();
        let [StaleHolder { pid, region, .. }] = &found[..] else { panic!("{found:?}") };
        assert_eq!((*pid, &**region), (holder.id(), "of-a-test"));
        assert_eq!(find(&regions), []);
    }

    #[test]
    fn a_file_belongs_to_a_region_only_by_its_whole_name() {
        let long = "r".repeat(64);
        let regions = BTreeSet::from(["ram", &long]);
        assert_eq!(region_of("cma:ram", &regions), Some("ram"));
        assert_eq!(region_of("cma:ra", &regions), None);
        assert_eq!(region_of("ram", &regions), None);
        assert_eq!(region_of(&format!("cma:{long}")[..60], &regions), Some(&*long));
    }
}
