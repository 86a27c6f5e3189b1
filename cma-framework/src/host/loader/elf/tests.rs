//! The checks of a file before its code runs.

use super::*;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

/// A fixture plug-in. Cargo puts it beside the tests that depend on it.
fn library() -> Vec<u8> {
    let name = format!("{DLL_PREFIX}cma_fixture_revision_one{DLL_SUFFIX}");
    let library = std::fs::read(std::env::current_exe().unwrap().with_file_name(name)).unwrap();
    check(&library).unwrap();
    library
}

/// The offset of the program header of the first loaded segment.
fn first_load(library: &[u8]) -> usize {
    let header = Header::parse(library).unwrap();
    let segments = header.program_headers(Native, library).unwrap();
    let index = segments.iter().position(|segment| segment.p_type(Native) == elf::PT_LOAD).unwrap();
    usize::try_from(header.e_phoff(Native)).unwrap()
        + index * usize::from(header.e_phentsize(Native))
}

fn damage(library: &[u8]) -> &'static str {
    match check(library) {
        Err(LoadFailure::Damaged(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_library_of_any_shorter_length_is_refused_as_truncated() {
    let library = library();
    for length in (0x40..library.len()).step_by(0x1000).chain([library.len() - 1]) {
        match check(&library[..length]) {
            Err(LoadFailure::Truncated { needs, has }) => {
                assert!(has == length as u64 && needs > has);
            }
            other => panic!("cut off at {length}: {other:?}"),
        }
    }
}

#[test]
fn bytes_after_the_contents_are_accepted() {
    let mut library = library();
    library.extend_from_slice(b"a signature, perhaps");
    check(&library).unwrap();
}

#[cfg(target_pointer_width = "64")]
#[test]
fn a_segment_outside_the_file_or_its_memory_is_refused() {
    let good = library();
    let at = first_load(&good);
    let with = |field: std::ops::Range<usize>, value: u64| {
        let mut library = good.clone();
        library[at + field.start..at + field.end].copy_from_slice(&value.to_ne_bytes());
        library
    };
    const OFFSET: std::ops::Range<usize> = 8..16;
    const ADDRESS: std::ops::Range<usize> = 16..24;
    const IN_FILE: std::ops::Range<usize> = 32..40;
    const IN_MEMORY: std::ops::Range<usize> = 40..48;
    for beyond in [good.len() as u64 + 1, u64::MAX] {
        for field in [OFFSET, IN_FILE] {
            assert!(matches!(check(&with(field, beyond)), Err(LoadFailure::Truncated { .. })));
        }
    }
    assert!(damage(&with(IN_MEMORY, 0)).contains("range of memory"));
    assert!(damage(&with(ADDRESS, u64::MAX)).contains("range of memory"));
}

#[cfg(target_pointer_width = "64")]
#[test]
fn a_plugin_header_outside_the_contents_is_refused() {
    let good = library();
    let file = ElfFile::<Header>::parse(good.as_slice()).unwrap();
    let symbols = file.elf_dynamic_symbol_table();
    let name = ROOT_MODULE_LOADER_NAME.as_bytes();
    let symbol = symbols.iter().find(|s| s.name(Native, symbols.strings()) == Ok(name)).unwrap();
    let (place, size) = (symbol as *const _ as usize - good.as_ptr() as usize, size_of_val(symbol));
    let (address, length) = (symbol.st_value(Native), symbol.st_size(Native));
    let with = |old: u64, new: u64| {
        let mut library = good.clone();
        let entry = &mut library[place..place + size];
        let old = old.to_ne_bytes();
        let at = entry.windows(old.len()).position(|w| w == old).unwrap();
        entry[at..at + old.len()].copy_from_slice(&new.to_ne_bytes());
        library
    };
    for wrong in
        [with(address, 1 << 40), with(address, u64::MAX), with(length, 8), with(length, u64::MAX)]
    {
        assert!(damage(&wrong).contains("plug-in header"));
    }
}

#[test]
fn arbitrary_bytes_are_refused_without_a_panic() {
    let good = library();
    let headers = &good[..0x400];
    for at in 0..headers.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = good[..0x400].to_vec();
            bytes[at] = value;
            assert!(check(&bytes).is_err());
        }
    }
}
