//! `loader::check_contents`, which decides whether the dynamic linker may open a file.

use super::{grammar, is_one_line, variant};
use crate::{Form, Outcome, Target};
use cma_api::abi_stable::library::{AbiHeader, ROOT_MODULE_LOADER_NAME};
use cma_api::c_v1;
use cma_framework::loader::{LoadFailure, check_contents};
use proptest::prelude::*;
use std::mem::{offset_of, size_of};

pub(super) const TARGET: Target = Target {
    name: "elf",
    about: "the check of a plug-in file before it is opened",
    form: Form::Binary,
    generate,
    dictionary: include_str!("../../dictionary/elf.dict"),
    check,
};

const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_DYNAMIC: u32 = 6;
const SHT_DYNSYM: u32 = 11;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;

/// The smallest library that is accepted, and the faults to make in it.
#[derive(Clone, Debug)]
struct Draft {
    kind: u16,
    is_executable: bool,
    symbol: String,
    minor_version: u32,
    segments: usize,
    behind: usize,
    cut: usize,
}

fn generate() -> BoxedStrategy<Vec<u8>> {
    let kind = prop_oneof![8 => Just(ET_DYN), 1 => 0..6_u16];
    let symbol = prop_oneof![
        8 => Just(ROOT_MODULE_LOADER_NAME.to_string()),
        8 => Just(c_v1::SYMBOL.to_string()),
        1 => grammar("[a-z]{0,9}")
    ];
    let minor = prop_oneof![8 => Just(AbiHeader::VALUE.abi_minor), 1 => 0..20_u32];
    let cut = prop_oneof![4 => Just(0), 1 => 0..900_usize];
    (kind, 0..8_u8, symbol, minor, 1..4_usize, 0..3_usize, cut)
        .prop_map(|(kind, executable, symbol, minor_version, segments, behind, cut)| {
            let is_executable = executable == 0;
            build(&Draft { kind, is_executable, symbol, minor_version, segments, behind, cut })
        })
        .boxed()
}

/// A 64-bit library for the machine of this process. (A machine of 32 bits refuses it as foreign.)
fn build(draft: &Draft) -> Vec<u8> {
    let segments = draft.segments + 1;
    let strings_at = ELF_HEADER + segments * PROGRAM_HEADER;
    let strings = [b"\0", draft.symbol.as_bytes(), b"\0"].concat();
    let symbols_at = (strings_at + strings.len()).next_multiple_of(8);
    let dynamic_at = symbols_at + 2 * SYMBOL;
    let mut dynamic = vec![
        (DT_STRTAB, strings_at as u64),
        (DT_SYMTAB, symbols_at as u64),
        (DT_STRSZ, strings.len() as u64),
    ];
    if draft.is_executable {
        dynamic.push((DT_FLAGS_1, DF_1_PIE));
    }
    dynamic.push((0, 0));
    let header_at = dynamic_at + dynamic.len() * 16;
    let in_c = draft.symbol == c_v1::SYMBOL;
    let header_bytes = if in_c { size_of::<c_v1::Table>() } else { size_of::<AbiHeader>() };
    let sections_at = (header_at + header_bytes).next_multiple_of(8);
    let sections = [
        (0, 0, 0, 0, 0),
        (SHT_DYNSYM, symbols_at, 2 * SYMBOL, 2, SYMBOL),
        (SHT_STRTAB, strings_at, strings.len(), 0, 0),
        (SHT_DYNAMIC, dynamic_at, dynamic.len() * 16, 2, 16),
    ];
    let whole = sections_at + sections.len() * SECTION_HEADER;

    let mut file = File(vec![0; whole]);
    file.0[..20].copy_from_slice(&native_start());
    file.put(16, &draft.kind.to_ne_bytes());
    file.u32(20, 1);
    file.u64(32, ELF_HEADER as u64);
    file.u64(40, sections_at as u64);
    for (at, value) in [(52, 64), (54, 56), (56, segments), (58, 64), (60, sections.len()), (62, 2)]
    {
        file.put(at, &(value as u16).to_ne_bytes());
    }
    for n in 0..segments {
        let at = ELF_HEADER + n * PROGRAM_HEADER;
        let (kind, start, bytes) = match n {
            0 => (PT_LOAD, 0, whole),
            1 => (PT_DYNAMIC, dynamic_at, dynamic.len() * 16),
            _ => (PT_LOAD, n * 64, 64),
        };
        file.u32(at, kind);
        for (field, value) in [(8, start), (16, start), (24, start), (32, bytes), (40, bytes)] {
            file.u64(at + field, value as u64);
        }
    }
    file.put(strings_at, &strings);
    let symbol_at = symbols_at + SYMBOL;
    file.u32(symbol_at, 1);
    file.put(symbol_at + 4, &[0x11, 0, 1, 0]); // a global object, in section 1
    file.u64(symbol_at + 8, header_at as u64);
    file.u64(symbol_at + 16, header_bytes as u64);
    for (n, (tag, value)) in dynamic.iter().enumerate() {
        file.u64(dynamic_at + n * 16, *tag);
        file.u64(dynamic_at + n * 16 + 8, *value);
    }
    let header = AbiHeader::VALUE;
    if in_c {
        // The draft has a version of abi_stable. This one is wrong by as much.
        let off = draft.minor_version.abs_diff(header.abi_minor);
        file.u32(header_at, c_v1::VERSION + off);
        file.u32(header_at + 4, header_bytes as u32);
    } else {
        file.put(header_at, &header.magic_string);
        file.u32(header_at + offset_of!(AbiHeader, abi_major), header.abi_major);
        file.u32(header_at + offset_of!(AbiHeader, abi_minor), draft.minor_version);
    }
    for (n, (kind, start, bytes, link, entry)) in sections.into_iter().enumerate() {
        let at = sections_at + n * SECTION_HEADER;
        file.u32(at + 4, kind);
        file.u64(at + 16, start as u64);
        file.u64(at + 24, start as u64);
        file.u64(at + 32, bytes as u64);
        file.u32(at + 40, link);
        file.u64(at + 56, entry as u64);
    }
    let mut bytes = file.0;
    bytes.resize(whole + draft.behind, b'!');
    bytes.truncate(bytes.len() - draft.cut.min(bytes.len()));
    bytes
}

/// The start of an ELF header, up to the machine's number: that of this program.
fn native_start() -> [u8; 20] {
    static START: std::sync::LazyLock<[u8; 20]> = std::sync::LazyLock::new(|| {
        let mut start = [0; 20];
        let program = std::env::current_exe().and_then(std::fs::File::open);
        let read = program.and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
        read.unwrap_or_else(|error| panic!("this program can't be read: {error}"));
        start
    });
    *START
}

struct File(Vec<u8>);

impl File {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_ne_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_ne_bytes());
    }
}

fn check(input: &[u8]) -> Outcome {
    match check_contents(input) {
        Ok(()) => {
            if cfg!(target_pointer_width = "64") {
                may_be_mapped(input);
            }
            Outcome::accepted(format!("{} segments", number(input, 56, 2)))
        }
        Err(failure) => {
            is_one_line(&failure.to_string());
            is_one_line(failure.remedy());
            assert!(failure.kind().bytes().all(|b| b == b'-' || b.is_ascii_lowercase()));
            let detail = match &failure {
                LoadFailure::Truncated { needs, has } => {
                    assert_eq!(*has, input.len() as u64);
                    assert!(needs > has, "{failure}");
                    ""
                }
                LoadFailure::Damaged(part) => part,
                LoadFailure::NotALibrary { what } => what,
                _ => "",
            };
            Outcome::refused(format!("{} {detail}", variant(&failure)))
        }
    }
}

/// A number of so many bytes in the order of this machine.
fn number(file: &[u8], at: usize, bytes: usize) -> u64 {
    let Some(field) = file.get(at..at + bytes) else {
        panic!("a file that ends before byte {} is accepted", at + bytes);
    };
    let mut wide = [0; 8];
    if cfg!(target_endian = "little") {
        wide[..bytes].copy_from_slice(field);
    } else {
        wide[8 - bytes..].copy_from_slice(field);
    }
    u64::from_ne_bytes(wide)
}

/// Asserts the properties that the dynamic linker relies on: a library for this machine, whose
/// tables and segments are in the file, and which has the name of a plug-in header somewhere, and
/// the magic of one in Rust.
fn may_be_mapped(file: &[u8]) {
    let native = native_start();
    assert_eq!(file[..6], native[..6], "not for this machine");
    assert_eq!(file[18..20], native[18..20], "not for this machine");
    assert_eq!(number(file, 16, 2), u64::from(ET_DYN), "no library");
    let length = file.len() as u128;
    let (headers, size, count) =
        (number(file, 32, 8), number(file, 54, 2), number(file, 56, 2) as usize);
    let sections_end =
        u128::from(number(file, 40, 8)) + u128::from(number(file, 58, 2) * number(file, 60, 2));
    assert!(sections_end <= length, "the section headers end at {sections_end}");
    for n in 0..count {
        let at = usize::try_from(headers).unwrap_or(usize::MAX).saturating_add(n * size as usize);
        let field = |offset| number(file, at + offset, 8);
        let (offset, address, in_file, in_memory) = (field(8), field(16), field(32), field(40));
        let end = u128::from(offset) + u128::from(in_file);
        assert!(end <= length, "segment {n} ends at {end} of {length}");
        if number(file, at, 4) == u64::from(PT_LOAD) {
            assert!(in_file <= in_memory, "segment {n} is larger than its place");
            assert!(address.checked_add(in_memory).is_some(), "segment {n} passes the top");
        }
    }
    let has = |wanted: &[u8]| file.windows(wanted.len()).any(|part| part == wanted);
    let in_rust = has(ROOT_MODULE_LOADER_NAME.as_bytes()) && has(&AbiHeader::VALUE.magic_string);
    assert!(in_rust || has(c_v1::SYMBOL.as_bytes()), "no plug-in header is there");
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;

    impl Draft {
        fn right() -> Draft {
            let symbol = ROOT_MODULE_LOADER_NAME.to_string();
            let minor_version = AbiHeader::VALUE.abi_minor;
            let (kind, is_executable, segments, behind, cut) = (ET_DYN, false, 1, 0, 0);
            Draft { kind, is_executable, symbol, minor_version, segments, behind, cut }
        }
    }

    #[test]
    fn the_built_library_is_accepted_and_each_fault_is_refused() {
        let in_c = || Draft { symbol: c_v1::SYMBOL.into(), ..Draft::right() };
        assert!(check(&build(&Draft::right())).accepted);
        assert!(check(&build(&in_c())).accepted);
        for wrong in [
            Draft { minor_version: AbiHeader::VALUE.abi_minor + 1, ..in_c() },
            Draft { cut: 1, ..in_c() },
            Draft { kind: 2, ..Draft::right() },
            Draft { is_executable: true, ..Draft::right() },
            Draft { symbol: "other".into(), ..Draft::right() },
            Draft { minor_version: AbiHeader::VALUE.abi_minor + 1, ..Draft::right() },
            Draft { cut: 1, ..Draft::right() },
        ] {
            assert!(!check(&build(&wrong)).accepted, "{wrong:?}");
        }
    }
}
