//! The guarantees of the mounted tree, tested on real mounts. Where the system allows none, each
//! test prints that it is skipped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod files;
mod mountpoints;
mod programs;
mod server_process;

use cma_framework::config::Map;
use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin};
use cma_sysfs::Sysfs;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const BASE: u64 = 0x4000_0000;
const MIB: u64 = 1 << 20;

/// A framework whose attributes are mounted. Unmounted before its folder is removed.
struct Mounted {
    sysfs: Sysfs,
    cma: Cma,
    _folder: TempDir,
}

impl Mounted {
    fn path(&self, inside: &str) -> PathBuf {
        self.sysfs.path().join(inside)
    }
}

/// Two regions of 16 MiB, `a` and `b`, and the allocators best fit and buddy.
fn framework() -> Cma {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    for (n, name) in ["a", "b"].into_iter().enumerate() {
        let start = DmaAddr::new(BASE + n as u64 * 16 * MIB);
        cma.region_register(Some(name), start, 16 * MIB, AllocatorChoice::named("best-fit"))
            .unwrap();
    }
    cma.set_map(Map::parse("cam=a;*=a,b").unwrap());
    for region in cma.regions() {
        drop(cma.alloc_from_region(&region, 4096, 0).unwrap());
    }
    cma
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Whether this process may mount; prints why not.
fn can_mount() -> bool {
    let probe = folder();
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let refused = match device.map(|_| Sysfs::mount(Cma::new().attributes(), probe.path())) {
        Err(error) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(_)) => return true,
    };
    skipped(&format!("mounting is not possible here: {refused}"));
    false
}

/// Prints that a test is skipped, directly, because the test harness captures what passing tests
/// print.
fn skipped(why: &str) {
    let mut unkept = std::io::stderr();
    writeln!(unkept, "skipped: {why}").unwrap();
}

fn mounted() -> Option<Mounted> {
    can_mount().then(|| {
        let (cma, folder) = (framework(), folder());
        let sysfs = Sysfs::mount(cma.attributes(), folder.path()).unwrap();
        Mounted { sysfs, cma, _folder: folder }
    })
}

/// Whether a tree is mounted on `path`.
fn is_mounted(path: &Path) -> bool {
    cma_sysfs::mounts().unwrap().contains(&path.canonicalize().unwrap())
}
