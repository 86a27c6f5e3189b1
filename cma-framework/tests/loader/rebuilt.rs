//! A plug-in that was rebuilt under the same path is loaded as the new code, though the dynamic
//! linker distinguishes libraries by their path and inode.

use super::*;

fn content(revision: &str) -> Vec<u8> {
    fs::read(fixture(revision)).unwrap()
}

#[test]
fn a_plugin_that_was_rebuilt_is_loaded_anew_beside_the_old_one() {
    let folder = folder();
    let path = file(folder.path(), "libcma_revised_plugin.so", &content("revision-one"));
    let old = Plugin::load(&path).unwrap();
    assert_eq!(old.version(), "1.0.0");
    file(folder.path(), "libcma_revised_plugin.so", &content("revision-two"));
    let new = Plugin::load(&path).unwrap();
    assert_eq!((new.name(), new.version()), ("revised", "2.0.0"));
    assert_eq!(new.path(), Some(path.as_path()));
    assert_eq!(old.version(), "1.0.0");
    let region = cma_api::PageRange::from_pages(0, 4);
    assert_eq!(old.initialise(region, "").unwrap().holes().as_slice(), [region]);
    assert_eq!(new.initialise(region, "").unwrap().holes().as_slice(), [region]);
    file(folder.path(), "libcma_revised_plugin.so", &content("revision-one"));
    assert_eq!(Plugin::load(&path).unwrap().version(), "1.0.0");
}

#[test]
fn a_loaded_plugin_does_not_change_when_its_file_is_overwritten_or_truncated() {
    let folder = folder();
    let path =
        file(folder.path(), "over.so", &patched(&content("revision-one"), b"1.0.0", b"1.0.1"));
    let old = Plugin::load(&path).unwrap();
    // As `cp` does: the same inode gets other content.
    fs::write(&path, patched(&content("revision-two"), b"2.0.0", b"2.0.1")).unwrap();
    assert_eq!(Plugin::load(&path).unwrap().version(), "2.0.1");
    fs::write(&path, b"").unwrap();
    let region = cma_api::PageRange::from_pages(0, 4);
    let allocator = old.initialise(region, "").unwrap();
    assert_eq!(allocator.fault().into_option(), None);
    assert_eq!(old.version(), "1.0.1");
}

#[test]
fn a_plugin_that_did_not_start_is_loaded_after_it_was_repaired() {
    let folder = folder();
    let path = file(folder.path(), "libcma_mended_plugin.so", &content("refuses"));
    assert_refused!(path, LoadFailure::Declined(_), "refuses to start");
    file(folder.path(), "libcma_mended_plugin.so", &content("revision-one"));
    assert_eq!(Plugin::load(&path).unwrap().name(), "revised");
}

#[test]
fn the_same_content_is_loaded_once() {
    let mapped = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("once.so") && line.contains("r-xp")).count()
    };
    let folder = folder();
    let bytes = patched(&content("revision-one"), b"1.0.0", b"1.0.2");
    for name in ["once.so", "once.so", "again-once.so"] {
        let path = file(folder.path(), name, &bytes);
        assert_eq!(Plugin::load(&path).unwrap().path(), Some(path.as_path()));
    }
    assert_eq!(mapped(), 1);
}

#[test]
fn the_same_content_is_loaded_once_by_many_threads_at_a_time() {
    let folder = folder();
    let path =
        file(folder.path(), "crowd.so", &patched(&content("revision-one"), b"1.0.0", b"1.0.4"));
    let plugins: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Plugin::load(&path).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(plugins.iter().all(|plugin| *plugin == plugins[0]));
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert_eq!(
        maps.lines().filter(|line| line.contains("crowd.so") && line.contains("r-xp")).count(),
        1
    );
}

#[test]
fn no_copy_of_a_library_that_can_not_be_linked_is_kept() {
    let folder = folder();
    let content = patched(&content("revision-one"), b"libgcc_s.so.1", b"libgone.so.98");
    let path = file(folder.path(), "unlinked.so", &content);
    for _ in 0..3 {
        assert_refused!(&path, LoadFailure::Unlinkable(_), "libgone.so.98");
    }
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let copies = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    assert_eq!(copies.filter(|copy| copy.to_string_lossy().contains("unlinked.so")).count(), 0);
}
