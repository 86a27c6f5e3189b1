//! The other processes that hold huge pages of a pool, as far as `/proc` shows them.
//!
//! A process holds a page by a mapping or by a descriptor of a file in memory. Not found are
//! unmapped files on a mounted `hugetlbfs`, pages that the kernel has pinned for a process, and
//! descriptors queued in a socket.

use cma_framework::config::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most processes that are named.
const MAX_NAMED: usize = 4;

/// The processes that hold pages of a pool. `Display` names them as a part of a sentence that
/// begins with `; `.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// Those that hold most come first.
    seen: Vec<HolderProcess>,
    /// The number of processes that this one may not inspect, when the holders of some pages were
    /// not found.
    hidden: usize,
}

/// A process, and the pages that it holds.
#[derive(Debug, PartialEq, Eq)]
struct HolderProcess {
    pid: u32,
    /// Its name in `/proc/PID/comm`.
    name: String,
    bytes: u64,
    /// The names of its files in memory.
    files: BTreeSet<String>,
}

/// The files that a process holds, by device and inode: their bytes of memory, and their names.
type Files = BTreeMap<(u64, u64), (u64, Option<String>)>;

impl Holders {
    /// The processes besides this one that hold pages of the pool with `total` pages of `page_size`
    /// bytes.
    pub(super) fn of(page_size: u64, total: u64) -> Holders {
        let mut holders = Holders::default();
        let own = files_of(Path::new("/proc/self"), page_size).unwrap_or_default();
        let own = own.values().map(|(bytes, _)| bytes).sum::<u64>();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.filter(|pid| *pid != std::process::id()) {
            let process = PathBuf::from(format!("/proc/{pid}"));
            match files_of(&process, page_size) {
                Ok(files) => holders.seen.extend(holder(&process, pid, files)),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    holders.hidden += 1;
                }
                // The process has ended meanwhile.
                Err(_) => {}
            }
        }
        let seen = holders.seen.iter().map(|holder| holder.bytes);
        if seen.fold(own, u64::saturating_add) / page_size >= total {
            holders.hidden = 0;
        }
        holders.seen.sort_by_key(|holder| (std::cmp::Reverse(holder.bytes), holder.pid));
        holders
    }
}

fn holder(process: &Path, pid: u32, files: Files) -> Option<HolderProcess> {
    let bytes = files.values().map(|(bytes, _)| bytes).sum::<u64>();
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let name = name.trim_end().escape_debug().to_string();
    let files = files.into_values().filter_map(|(_, name)| name).collect();
    (bytes > 0).then_some(HolderProcess { pid, name, bytes, files })
}

/// The files of huge pages of `page_size` bytes that a process has open or mapped.
fn files_of(process: &Path, page_size: u64) -> std::io::Result<Files> {
    let mut files = Files::new();
    let mut add = |metadata: &Metadata, name: Option<&str>| {
        let of_the_pool = metadata.blksize() == page_size && metadata.blocks() > 0;
        if of_the_pool {
            let bytes = metadata.blocks() * 512;
            files.insert((metadata.dev(), metadata.ino()), (bytes, name.map(String::from)));
        }
    };
    for entry in fs::read_dir(process.join("fd"))?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        // Other files have no huge pages, and a file server might not reply.
        if let Some(name) = memfd_name(&target.to_string_lossy())
            && let Ok(metadata) = fs::metadata(entry.path())
        {
            add(&metadata, Some(name));
        }
    }
    let mut anonymous = 0;
    for area in areas(&fs::read_to_string(process.join("smaps"))?, page_size >> 10) {
        match fs::metadata(process.join("map_files").join(area.addresses)) {
            Ok(metadata) if metadata.blksize() == page_size => {
                add(&metadata, memfd_name(area.path));
            }
            // The file may not be inspected, or the pages belong to no file.
            _ => anonymous += area.populated,
        }
    }
    if anonymous > 0 {
        files.insert((0, 0), (anonymous, None));
    }
    Ok(files)
}

/// The name of a file in memory, by the path that the kernel shows; `None` for any other file.
fn memfd_name(path: &str) -> Option<&str> {
    path.strip_prefix("/memfd:").map(|name| name.strip_suffix(" (deleted)").unwrap_or(name))
}

/// A range of a process's addresses with huge pages behind it.
#[derive(Debug, PartialEq, Eq)]
struct Area<'a> {
    /// As `7f0000000000-7f0000200000`.
    addresses: &'a str,
    path: &'a str,
    /// The bytes of it that have a page.
    populated: u64,
}

/// The areas of a `smaps` text that have pages of `page_kb` KiB.
fn areas(smaps: &str, page_kb: u64) -> impl Iterator<Item = Area<'_>> {
    let number = |text: &str| text.trim().strip_suffix(" kB")?.parse::<u64>().ok();
    let mut areas: Vec<(Area<'_>, u64)> = Vec::new();
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (line.split_once(':'), areas.last_mut()) {
            (Some(("KernelPageSize", size)), Some((_, page))) => *page = number(size).unwrap_or(0),
            (Some(("Shared_Hugetlb" | "Private_Hugetlb", size)), Some((area, _))) => {
                area.populated += number(size).unwrap_or(0) << 10;
            }
            // Any other value begins with a word and a colon.
            _ if words.next().is_none_or(|word| word.ends_with(':')) => {}
            _ => {
                let addresses = line.split(' ').next().unwrap_or_default();
                // Between them are permissions, offset, device and inode.
                let path = words.nth(4).and_then(|first| line.rfind(first).map(|at| &line[at..]));
                areas.push((Area { addresses, path: path.unwrap_or(""), populated: 0 }, 0));
            }
        }
    }
    areas.into_iter().filter(move |(_, page)| *page == page_kb).map(|(area, _)| area)
}

impl fmt::Display for HolderProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}) holds {}", self.pid, self.name, Bytes(self.bytes))?;
        for (index, file) in self.files.iter().enumerate().take(MAX_NAMED) {
            write!(f, "{}{}", if index == 0 { " of " } else { ", " }, file.escape_debug())?;
        }
        Ok(())
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = &self.seen[..self.seen.len().min(MAX_NAMED)];
        named.iter().try_for_each(|holder| write!(f, "; {holder}"))?;
        let others = &self.seen[named.len()..];
        if !others.is_empty() {
            let bytes = others.iter().map(|holder| holder.bytes).sum();
            write!(f, "; {} other processes hold {}", others.len(), Bytes(bytes))?;
        }
        if !self.seen.is_empty() {
            f.write_str("; these pages are free when the process releases them or ends")?;
        }
        match self.hidden {
            0 => Ok(()),
            1 => f.write_str("; others may be held by a process that this one may not inspect"),
            hidden => write!(
                f,
                "; others may be held by the {hidden} processes that this one may not inspect"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_of_one_page_size_are_found_among_others() {
        let smaps = "\
            55d0c0a00000-55d0c0a21000 r--p 00000000 fd:01 1573 /usr/bin/a file: with spaces\n\
            Size:                132 kB\nKernelPageSize:        4 kB\nShared_Hugetlb:        0 kB\n\
            7f0000000000-7f0000200000 rw-s 00000000 00:10 42                         /memfd:cma:b1 (deleted)\n\
            Size:               2048 kB\nKernelPageSize:     2048 kB\nShared_Hugetlb:     2048 kB\nPrivate_Hugetlb:       0 kB\n\
            VmFlags: rd wr sh\n\
            7f0040000000-7f0080000000 rw-s 00000000 00:11 43                         /memfd:giant (deleted)\n\
            KernelPageSize:  1048576 kB\n\
            7f0000400000-7f0000800000 rw-p 00000000 00:00 0\n\
            KernelPageSize:     2048 kB\nShared_Hugetlb:        0 kB\nPrivate_Hugetlb:    4096 kB\n";
        let found: Vec<_> = areas(smaps, 2048).collect();
        let file = Area {
            addresses: "7f0000000000-7f0000200000",
            path: "/memfd:cma:b1 (deleted)",
            populated: 2 << 20,
        };
        let anonymous =
            Area { addresses: "7f0000400000-7f0000800000", path: "", populated: 4 << 20 };
        assert_eq!(found, [file, anonymous]);
        assert_eq!(memfd_name("/memfd:cma:b1 (deleted)"), Some("cma:b1"));
        assert_eq!(memfd_name("/tmp/memfd:no"), None);
    }

    #[test]
    fn the_largest_holders_are_named_and_the_others_counted() {
        let holder = |pid: u32| HolderProcess {
            pid,
            name: "camera".into(),
            bytes: u64::from(pid) << 20,
            files: [format!("cma:b{pid}")].into(),
        };
        let holders = |seen: Vec<HolderProcess>, hidden| Holders { seen, hidden }.to_string();
        let free = "; these pages are free when the process releases them or ends";
        assert_eq!(
            holders(vec![holder(8)], 0),
            format!("; process 8 (camera) holds 8M of cma:b8{free}")
        );
        let all = holders((2..8).map(holder).rev().collect(), 0);
        assert!(
            all.ends_with(&format!(
                "; process 4 (camera) holds 4M of cma:b4; 2 other processes hold 5M{free}"
            )),
            "{all}"
        );
        let hidden = "; others may be held by the 3 processes that this one may not inspect";
        assert_eq!(holders(Vec::new(), 3), hidden);
        assert!(holders(Vec::new(), 1).contains("held by a process that"));
        assert_eq!(holders(Vec::new(), 0), "");
    }
}
