//! Mounting and unmounting: the folders that are accepted, and the mounts that are removed.

use super::{can_mount, folder, framework, is_mounted, mounted, skipped};
use cma_sysfs::{MountError, Sysfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;

fn refused(path: &Path) -> MountError {
    let error = Sysfs::mount(framework().attributes(), path).unwrap_err();
    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    error
}

/// Leaves a mount as a killed server does; `false` if that is not possible here.
fn leave_stale_mount(path: &Path, source: &str) -> bool {
    let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let mounted =
        mount(source, path, "fuse", MountFlags::empty(), &*CString::new(options).unwrap());
    if let Err(error) = &mounted {
        skipped(&format!("no mount without a server can be made here: {error}"));
    }
    mounted.is_ok()
}

#[test]
fn dropping_or_unmounting_removes_the_mount() {
    let Some(mounted) = mounted() else { return };
    let path = mounted.sysfs.path().to_path_buf();
    assert!(is_mounted(&path) && mounted.sysfs.is_mounted());
    mounted.sysfs.unmount().unwrap();
    assert!(!is_mounted(&path));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    drop(Sysfs::mount(mounted.cma.attributes(), &path).unwrap());
    assert!(!is_mounted(&path));
}

#[test]
fn a_folder_that_can_not_be_mounted_on_is_refused_with_a_remedy() {
    if !can_mount() {
        return;
    }
    let folder = folder();
    let missing = folder.path().join("missing");
    assert!(matches!(refused(&missing), MountError::Missing(_)));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(refused(&file), MountError::NotAFolder(_)));
    assert!(matches!(refused(&file.join("inside")), MountError::NotAFolder(_)));
    assert!(matches!(refused(folder.path()), MountError::NotEmpty(_)));
    assert!(matches!(refused(Path::new("")), MountError::Missing(_)));
}

#[test]
fn a_second_server_on_a_folder_is_refused_and_the_first_continues() {
    let Some(mounted) = mounted() else { return };
    assert!(matches!(refused(mounted.sysfs.path()), MountError::Served(_)));
    assert_eq!(fs::read_to_string(mounted.path("map")).unwrap(), "cam=a;*=a,b\n");
}

#[test]
fn of_many_servers_that_start_on_one_folder_one_succeeds() {
    if !can_mount() {
        return;
    }
    let folder = folder();
    let started = thread::scope(|scope| {
        let start = || Sysfs::mount(framework().attributes(), folder.path());
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(started.iter().filter(|started| started.is_ok()).count(), 1);
    assert!(started.iter().all(|started| matches!(started, Ok(_) | Err(MountError::Served(_)))));
    assert_eq!(fs::read_to_string(folder.path().join("map")).unwrap(), "cam=a;*=a,b\n");
}

#[test]
fn a_lock_of_another_user_on_the_folder_does_not_prevent_mounting() {
    if !can_mount() {
        return;
    }
    let folder = folder();
    let locked = File::open(folder.path()).unwrap();
    locked.lock().unwrap();
    let mounted = Sysfs::mount(framework().attributes(), folder.path()).unwrap();
    assert!(is_mounted(mounted.path()));
}

#[test]
fn the_mount_of_a_killed_server_is_removed() {
    if !can_mount() {
        return;
    }
    let folder = folder();
    let path = folder.path().join("a folder with blanks");
    fs::create_dir(&path).unwrap();
    if !leave_stale_mount(&path, "cma") {
        return;
    }
    assert_eq!(fs::metadata(&path).unwrap_err().kind(), ErrorKind::NotConnected);
    let mounted = Sysfs::mount(framework().attributes(), &path).unwrap();
    assert_eq!(fs::read_to_string(path.join("map")).unwrap(), "cam=a;*=a,b\n");
    drop(mounted);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}

#[test]
fn mounts_of_other_file_systems_are_left_alone() {
    if !can_mount() {
        return;
    }
    let folder = folder();
    if !leave_stale_mount(folder.path(), "other") {
        return;
    }
    let error = refused(folder.path());
    assert!(
        matches!(&error, MountError::Mounted { source_name, .. } if source_name == "other"),
        "{error}"
    );
    unmount(folder.path(), UnmountFlags::DETACH).unwrap();

    mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
    let error = refused(folder.path());
    assert!(matches!(&error, MountError::Mounted { kind, .. } if kind == "tmpfs"), "{error}");
    unmount(folder.path(), UnmountFlags::DETACH).unwrap();
}

#[test]
fn unmounting_frees_the_folder_at_once_and_open_files_last_until_they_are_closed() {
    let Some(mounted) = mounted() else { return };
    let path = mounted.sysfs.path().to_path_buf();
    let mut file = File::open(mounted.path("map")).unwrap();
    mounted.sysfs.unmount().unwrap();
    assert!(!is_mounted(&path));
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "cam=a;*=a,b\n");
    drop(Sysfs::mount(mounted.cma.attributes(), &path).unwrap());
}

#[test]
fn an_unmount_by_another_process_is_noticed() {
    let Some(mounted) = mounted() else { return };
    unmount(mounted.sysfs.path(), UnmountFlags::empty()).unwrap();
    while mounted.sysfs.is_mounted() {
        thread::yield_now();
    }
    mounted.sysfs.unmount().unwrap();
}

#[test]
fn a_lazy_unmount_by_another_process_is_noticed_although_a_file_is_open() {
    let Some(mounted) = mounted() else { return };
    let mut file = File::open(mounted.path("map")).unwrap();
    assert!(mounted.sysfs.is_mounted());
    let path = mounted.sysfs.path().to_path_buf();
    unmount(&path, UnmountFlags::DETACH).unwrap();
    assert!(!mounted.sysfs.is_mounted());
    // A file system that is mounted there now belongs to another owner.
    mount("tmpfs", &path, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
    mounted.sysfs.unmount().unwrap();
    assert!(is_on_top(&path, "tmpfs"));
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "cam=a;*=a,b\n");
    unmount(&path, UnmountFlags::DETACH).unwrap();
}

#[test]
fn a_file_system_mounted_over_the_tree_is_left_alone() {
    let Some(mounted) = mounted() else { return };
    let path = mounted.sysfs.path().to_path_buf();
    mount("tmpfs", &path, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
    assert!(mounted.sysfs.is_mounted());
    let error = mounted.sysfs.unmount().unwrap_err();
    assert!(error.to_string().contains("something else is mounted over"), "{error}");
    assert!(is_on_top(&path, "tmpfs"));
    unmount(&path, UnmountFlags::DETACH).unwrap();
    unmount(&path, UnmountFlags::DETACH).unwrap();
}

/// Whether the last mount on `path` is of this file system type.
fn is_on_top(path: &Path, kind: &str) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let on_path = |line: &&str| line.split(' ').nth(4) == path.to_str();
    table.lines().rfind(on_path).is_some_and(|line| line.contains(&format!(" - {kind} ")))
}
