//! Copying a file into a sealed copy.

use super::*;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::os::unix::fs::MetadataExt;

const MIB: u64 = 1 << 20;

/// A copy of a fixture plug-in. Cargo puts the plug-in beside the tests that depend on it.
fn library() -> tempfile::NamedTempFile {
    let name = format!("{DLL_PREFIX}cma_fixture_revision_one{DLL_SUFFIX}");
    let copy = tempfile::NamedTempFile::new().unwrap();
    fs::copy(std::env::current_exe().unwrap().with_file_name(name), copy.path()).unwrap();
    copy
}

/// The bytes of memory or disk that `file` occupies.
fn occupied(file: &File) -> u64 {
    file.metadata().unwrap().blocks() * 512
}

#[test]
fn a_sealed_copy_cannot_be_changed() {
    let image = Image::read(library().path()).unwrap();
    let file = image.file();
    assert!(
        file.write_all_at(b"x", 0).is_err()
            && file.set_len(0).is_err()
            && file.set_len(SIZE_LIMIT).is_err()
    );
    let copy = file.try_clone().unwrap();
    assert!(image.is_same(&Image::received(copy.into()).unwrap()).unwrap());
    let open = memfd_create("open", MemfdFlags::CLOEXEC).unwrap();
    assert!(Image::received(open).is_err(), "a copy without seals is accepted");
}

#[test]
fn holes_of_a_file_occupy_no_memory_in_its_copy() {
    let library = library();
    let bytes = library.as_file().metadata().unwrap().len();
    library.as_file().set_len(SIZE_LIMIT).unwrap();
    if occupied(library.as_file()) > bytes + MIB {
        println!("skipped: the file system of temporary files has no holes");
        return;
    }
    let image = Image::read(library.path()).unwrap();
    assert_eq!(image.file().metadata().unwrap().len(), SIZE_LIMIT);
    assert!(occupied(image.file()) < bytes + MIB, "{} bytes", occupied(image.file()));
    // With data after the hole.
    library.as_file().write_all_at(b"end", SIZE_LIMIT - 3).unwrap();
    let other = Image::read(library.path()).unwrap();
    assert!(occupied(other.file()) < bytes + MIB, "{} bytes", occupied(other.file()));
    assert!(!image.is_same(&other).unwrap());
    assert_eq!(read_at_most(other.file(), &mut [0; 8], SIZE_LIMIT - 3).unwrap(), 3);
}

#[test]
fn an_endless_file_is_refused_at_the_size_limit() {
    let zero = File::open("/dev/zero").unwrap();
    let copy = tempfile::tempfile().unwrap();
    let copied = copy_content(&zero, &copy, MIB);
    assert!(matches!(copied, Err(LoadFailure::TooLarge { limit: MIB })), "{copied:?}");
    assert!(copy.metadata().unwrap().len() <= MIB + BLOCK as u64);
}

#[test]
fn a_file_of_the_size_limit_is_copied_and_a_larger_one_is_refused() {
    for (more, fits) in [(0, true), (1, false)] {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![1; usize::try_from(MIB + more).unwrap()], 0).unwrap();
        let copied = copy_content(&file, &tempfile::tempfile().unwrap(), MIB);
        assert_eq!(matches!(copied, Ok(MIB)), fits, "{copied:?}");
    }
}
