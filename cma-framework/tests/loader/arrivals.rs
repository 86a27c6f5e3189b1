//! A plug-in that is put into a watched folder is reported once, when it is complete, in whichever
//! way it is written.

use super::*;
use cma_framework::loader::{Arrival, Arrivals};
use std::io::Write;

const NAME: &str = "libcma_some_plugin.so";

fn watch(folder: &Path) -> Arrivals {
    Arrivals::watch([folder.to_path_buf()]).unwrap()
}

/// Writes a marker file. When its arrival is reported, all earlier ones were.
fn marker(folder: &Path) -> Arrival {
    Arrival::File(file(folder, "libcma_~marker_plugin.so", b""))
}

#[test]
fn a_file_that_is_being_written_arrives_when_it_is_closed() {
    let folder = folder();
    let mut arrivals = watch(folder.path());
    let path = folder.path().join(NAME);
    let mut file = fs::File::create(&path).unwrap();
    for part in [&b""[..], b"half", b"and half"] {
        file.write_all(part).unwrap();
        let marker = marker(folder.path());
        assert_eq!(arrivals.wait().unwrap(), marker);
    }
    drop(file);
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(path));
}

#[test]
fn a_file_that_is_written_through_two_descriptors_arrives_after_both_are_closed() {
    let folder = folder();
    let mut arrivals = watch(folder.path());
    let path = file(folder.path(), NAME, b"half");
    let mut second = fs::File::options().append(true).open(&path).unwrap();
    second.write_all(b"and half").unwrap();
    let marker = marker(folder.path());
    assert_eq!(arrivals.wait().unwrap(), marker);
    drop(second);
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(path));
}

#[test]
fn a_file_arrives_by_hard_link_symbolic_link_renaming_and_new_content() {
    let (folder, elsewhere) = (folder(), super::folder());
    let mut arrivals = watch(folder.path());
    let path = folder.path().join(NAME);
    let source = file(elsewhere.path(), "any name", b"content");
    fs::hard_link(&source, &path).unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(path.clone()));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&source, &path).unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(path.clone()));
    fs::rename(&source, &path).unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(path.clone()));
    fs::write(&path, "other content").unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(path));
}

#[test]
fn existing_files_files_with_other_names_and_removed_files_do_not_arrive() {
    let folder = folder();
    file(folder.path(), NAME, b"before");
    let mut arrivals = watch(folder.path());
    file(folder.path(), "libcma_some_plugin.so.tmp", b"");
    file(folder.path(), "other.so", b"");
    fs::remove_file(file(folder.path(), "libcma_gone_plugin.so", b"")).unwrap();
    let marker = marker(folder.path());
    assert_eq!(arrivals.wait().unwrap(), marker);
}

#[test]
fn a_folder_that_is_removed_and_restored_is_reported_with_its_files() {
    let outer = folder();
    let folder = outer.path().join("plugins");
    let mut arrivals = watch(&folder);
    fs::create_dir(&folder).unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::FolderBack(folder.clone()));
    let path = file(&folder, NAME, b"");
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(path.clone()));
    fs::rename(&folder, outer.path().join("elsewhere")).unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::FolderGone(folder.clone()));
    file(&outer.path().join("elsewhere"), NAME, b"");
    fs::rename(outer.path().join("elsewhere"), &folder).unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::FolderBack(folder.clone()));
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(path));
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::FolderGone(folder));
}

#[test]
fn a_folder_that_is_moved_with_its_parent_or_exchanged_is_reported() {
    let outer = folder();
    let [above, folder, elsewhere] =
        ["above", "above/plugins", "elsewhere"].map(|name| outer.path().join(name));
    fs::create_dir_all(&folder).unwrap();
    let mut arrivals = watch(&folder);
    fs::rename(&above, &elsewhere).unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::FolderGone(folder.clone()));
    file(&elsewhere.join("plugins"), "libcma_other_plugin.so", b"");
    fs::create_dir_all(&folder).unwrap();
    let path = file(&folder, NAME, b"");
    assert_eq!(arrivals.wait().unwrap(), Arrival::FolderBack(folder.clone()));
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(path));
    fs::rename(&above, outer.path().join("older")).unwrap();
    fs::rename(&elsewhere, &above).unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::FolderGone(folder.clone()));
    assert_eq!(arrivals.wait().unwrap(), Arrival::FolderBack(folder.clone()));
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(folder.join("libcma_other_plugin.so")));
}

#[test]
fn a_folder_with_two_paths_is_watched_as_long_as_one_of_them_exists() {
    let outer = folder();
    let [folder, link] = ["plugins", "link"].map(|name| outer.path().join(name));
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    let mut arrivals = Arrivals::watch([folder.clone(), link.clone()]).unwrap();
    fs::remove_file(&link).unwrap();
    assert_eq!(arrivals.wait().unwrap(), Arrival::FolderGone(link));
    let path = file(&folder, NAME, b"");
    assert_eq!(arrivals.wait().unwrap(), Arrival::File(path));
}
