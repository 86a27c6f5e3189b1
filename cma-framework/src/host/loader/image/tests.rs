//! What is copied of a file, and how.

use super::*;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::os::unix::fs::MetadataExt;

const MIB: u64 = 1 << 20;

/// A copy in a file of its own of a plug-in library, which cargo puts beside the tests that depend
/// on it.
fn library() -> tempfile::NamedTempFile {
    let name = format!("{DLL_PREFIX}cma_fixture_revision_one{DLL_SUFFIX}");
    let copy = tempfile::NamedTempFile::new().unwrap();
    fs::copy(std::env::current_exe().unwrap().with_file_name(name), copy.path()).unwrap();
    copy
}

/// How many bytes of memory or disk `file` takes.
fn taken(file: &File) -> u64 {
    file.metadata().unwrap().blocks() * 512
}

#[test]
fn a_copy_can_be_changed_by_nobody() {
    let image = Image::read(library().path()).unwrap();
    let file = image.file();
    assert!(
        file.write_all_at(b"x", 0).is_err()
            && file.set_len(0).is_err()
            && file.set_len(LARGEST).is_err()
    );
    let copy = file.try_clone().unwrap();
    assert!(image.is_same(&Image::received(copy.into()).unwrap()).unwrap());
    let open = memfd_create("open", MemfdFlags::CLOEXEC).unwrap();
    assert!(Image::received(open).is_err(), "a copy that can be changed is taken");
}

#[test]
fn a_hole_takes_no_memory_where_it_takes_no_disk() {
    let library = library();
    let bytes = library.as_file().metadata().unwrap().len();
    library.as_file().set_len(LARGEST).unwrap();
    if taken(library.as_file()) > bytes + MIB {
        println!("skipped: the file system of temporary files has no holes");
        return;
    }
    let image = Image::read(library.path()).unwrap();
    assert_eq!(image.file().metadata().unwrap().len(), LARGEST);
    assert!(taken(image.file()) < bytes + MIB, "{} bytes", taken(image.file()));
    // Also a hole before the end.
    library.as_file().write_all_at(b"end", LARGEST - 3).unwrap();
    let other = Image::read(library.path()).unwrap();
    assert!(taken(other.file()) < bytes + MIB, "{} bytes", taken(other.file()));
    assert!(!image.is_same(&other).unwrap());
    assert_eq!(read_at_most(other.file(), &mut [0; 8], LARGEST - 3).unwrap(), 3);
}

#[test]
fn a_file_without_an_end_is_copied_up_to_the_limit_and_refused() {
    let zero = File::open("/dev/zero").unwrap();
    let copy = tempfile::tempfile().unwrap();
    let copied = copy_content(&zero, &copy, MIB);
    assert!(matches!(copied, Err(LoadFailure::TooLarge { limit: MIB })), "{copied:?}");
    assert!(copy.metadata().unwrap().len() <= MIB + PART as u64);
}

#[test]
fn a_file_of_the_limit_is_copied_and_one_byte_more_is_not() {
    for (more, fits) in [(0, true), (1, false)] {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![1; usize::try_from(MIB + more).unwrap()], 0).unwrap();
        let copied = copy_content(&file, &tempfile::tempfile().unwrap(), MIB);
        assert_eq!(matches!(copied, Ok(MIB)), fits, "{copied:?}");
    }
}
