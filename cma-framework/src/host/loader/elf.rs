//! Checks the content of a file before the dynamic linker opens it. None of its code runs.
//!
//! `dlopen` maps and accesses the segments that a library's headers name, so a truncated file ends
//! the process with SIGBUS. It also runs constructors before the program can check that the library
//! is a plug-in. So the headers are read first, as laid out in the ELF specification (gABI,
//! chapters 4 and 5).

use super::{LoadFailure, PluginInterface};
use cma_api::abi_stable::library::{AbiHeader, ROOT_MODULE_LOADER_NAME};
use cma_api::c_v1;
use object::elf;
use object::endian::NativeEndian as Native;
use object::read::elf::{ElfFile, FileHeader, ProgramHeader, Sym};
use std::mem::{offset_of, size_of};

#[cfg(target_pointer_width = "64")]
type Header = elf::FileHeader64<Native>;
#[cfg(target_pointer_width = "32")]
type Header = elf::FileHeader32<Native>;

/// The number of bytes that [`check_start`] needs.
pub(super) const START: usize = size_of::<Header>();

/// Checks that a file can be a shared library for this process. `start` is its first [`START`]
/// bytes, or the whole of a shorter file.
pub(super) fn check_start(start: &[u8]) -> Result<(), LoadFailure> {
    header_of::<Header>(start).map(drop)
}

/// Checks that `bytes` are a complete shared library for this process that exports a plug-in
/// header. Returns which one.
pub(super) fn check(bytes: &[u8]) -> Result<PluginInterface, LoadFailure> {
    check_as::<Header>(bytes)
}

/// [`check`] for the word size of `Elf`; 32-bit and 64-bit machines share the code.
fn check_as<Elf: FileHeader<Endian = Native>>(
    bytes: &[u8],
) -> Result<PluginInterface, LoadFailure> {
    let header = header_of::<Elf>(bytes)?;
    check_table(bytes, header.e_phoff(Native), header.e_phnum(Native), header.e_phentsize(Native))?;
    // Section headers are not loaded, but linkers put them at the end of the file: if they are
    // missing, the file is truncated.
    check_table(bytes, header.e_shoff(Native), header.e_shnum(Native), header.e_shentsize(Native))?;
    let segments = header
        .program_headers(Native, bytes)
        .map_err(|_| LoadFailure::Damaged("its program headers"))?;
    for segment in segments {
        let (in_file, in_memory) =
            (segment.p_filesz(Native).into(), segment.p_memsz(Native).into());
        let address: u64 = segment.p_vaddr(Native).into();
        check_range(bytes, segment.p_offset(Native).into(), in_file)?;
        if segment.p_type(Native) == elf::PT_LOAD
            && (in_file > in_memory || address.checked_add(in_memory).is_none())
        {
            return Err(LoadFailure::Damaged("a segment doesn't fit into its range of memory"));
        }
    }
    let file =
        ElfFile::<Elf>::parse(bytes).map_err(|_| LoadFailure::Damaged("its section headers"))?;
    if is_executable(&file)? {
        return Err(LoadFailure::NotALibrary { what: "an executable" });
    }
    check_plugin_header(bytes, segments, &file)
}

/// The ELF header, if it is of a shared library for this process.
fn header_of<Elf: FileHeader<Endian = Native>>(bytes: &[u8]) -> Result<&Elf, LoadFailure> {
    let magic = &elf::ELFMAG[..bytes.len().min(elf::ELFMAG.len())];
    if bytes.is_empty() {
        return Err(LoadFailure::Empty);
    } else if !bytes.starts_with(magic) {
        let starts_with = bytes[..bytes.len().min(16)].escape_ascii().to_string();
        return Err(LoadFailure::NotElf { starts_with });
    }
    check_range(bytes, 0, size_of::<Elf>() as u64)?;
    let theirs = Machine::of(bytes);
    if theirs != Machine::NATIVE {
        return Err(LoadFailure::Machine {
            theirs: theirs.to_string(),
            ours: Machine::NATIVE.to_string(),
        });
    }
    let header = Elf::parse(bytes).map_err(|_| LoadFailure::Damaged("its ELF header"))?;
    match header.e_type(Native) {
        elf::ET_DYN => Ok(header),
        elf::ET_EXEC => Err(LoadFailure::NotALibrary { what: "an executable" }),
        elf::ET_REL => Err(LoadFailure::NotALibrary { what: "an object file" }),
        elf::ET_CORE => Err(LoadFailure::NotALibrary { what: "a core dump" }),
        _ => Err(LoadFailure::NotALibrary { what: "an ELF file of unknown type" }),
    }
}

/// The properties of a machine that a library and its process must share.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Machine {
    class: elf::FileClass,
    endian: elf::DataEncoding,
    number: elf::Machine,
}

impl Machine {
    const NATIVE: Machine = Machine {
        class: if cfg!(target_pointer_width = "64") { elf::ELFCLASS64 } else { elf::ELFCLASS32 },
        endian: if cfg!(target_endian = "little") { elf::ELFDATA2LSB } else { elf::ELFDATA2MSB },
        number: if cfg!(target_arch = "x86_64") {
            elf::EM_X86_64
        } else if cfg!(target_arch = "aarch64") {
            elf::EM_AARCH64
        } else if cfg!(any(target_arch = "riscv64", target_arch = "riscv32")) {
            elf::EM_RISCV
        } else if cfg!(target_arch = "arm") {
            elf::EM_ARM
        } else if cfg!(target_arch = "x86") {
            elf::EM_386
        } else {
            panic!("name the ELF machine number of this architecture here")
        },
    };

    /// Reads it from an ELF header. Its first bytes have the same layout for every machine, apart
    /// from the byte order.
    fn of(header: &[u8]) -> Machine {
        let endian = elf::DataEncoding(header[5]);
        let number = [header[18], header[19]];
        let number = if endian == elf::ELFDATA2MSB {
            u16::from_be_bytes(number)
        } else {
            u16::from_le_bytes(number)
        };
        Machine { class: elf::FileClass(header[4]), endian, number: elf::Machine(number) }
    }

    fn data_format(self) -> &'static str {
        match (self.class, self.endian) {
            (elf::ELFCLASS64, elf::ELFDATA2LSB) => "64-bit little-endian",
            (elf::ELFCLASS64, elf::ELFDATA2MSB) => "64-bit big-endian",
            (elf::ELFCLASS32, elf::ELFDATA2LSB) => "32-bit little-endian",
            (elf::ELFCLASS32, elf::ELFDATA2MSB) => "32-bit big-endian",
            _ => "of unknown width",
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.number {
            elf::EM_X86_64 => "x86-64",
            elf::EM_AARCH64 => "AArch64",
            elf::EM_RISCV => "RISC-V",
            elf::EM_ARM => "ARM",
            elf::EM_386 => "x86",
            other => {
                return write!(f, "machine {} of the ELF list, {}", other.0, self.data_format());
            }
        };
        write!(f, "{name}, {}", self.data_format())
    }
}

/// Checks that the file has `size` bytes at `offset`.
fn check_range(bytes: &[u8], offset: u64, size: u64) -> Result<(), LoadFailure> {
    let (needs, has) = (offset.saturating_add(size), bytes.len() as u64);
    if needs > has { Err(LoadFailure::Truncated { needs, has }) } else { Ok(()) }
}

fn check_table(
    bytes: &[u8],
    offset: impl Into<u64>,
    entries: u16,
    size: u16,
) -> Result<(), LoadFailure> {
    check_range(bytes, offset.into(), u64::from(entries) * u64::from(size))
}

/// Whether the file is a position-independent executable, which has the ELF type of a library.
fn is_executable<Elf: FileHeader<Endian = Native>>(
    file: &ElfFile<'_, Elf>,
) -> Result<bool, LoadFailure> {
    let table =
        file.elf_dynamic_table().map_err(|_| LoadFailure::Damaged("its dynamic section"))?;
    Ok(table.iter().any(|entry| entry.tag == elf::DT_FLAGS_1 && entry.val & elf::DF_1_PIE.0 != 0))
}

/// Checks that the file exports the header of a plug-in in Rust or in C that this program can read.
/// Both start with constants, so they can be read from the file.
fn check_plugin_header<Elf: FileHeader<Endian = Native>>(
    bytes: &[u8],
    segments: &[Elf::ProgramHeader],
    file: &ElfFile<'_, Elf>,
) -> Result<PluginInterface, LoadFailure> {
    let symbols = file.elf_dynamic_symbol_table();
    let find = |name: &str| {
        symbols.iter().find(|symbol| {
            symbol.name(Native, symbols.strings()) == Ok(name.as_bytes())
                && !symbol.is_undefined(Native)
        })
    };
    // The content of a symbol, as far as it is in the file.
    let content = |symbol: &Elf::Sym| {
        let (address, size) = (symbol.st_value(Native).into(), symbol.st_size(Native).into());
        segments
            .iter()
            .filter(|segment| segment.p_type(Native) == elf::PT_LOAD)
            .find_map(|segment| segment.data_range(Native, bytes, address, size).ok()?)
    };
    if let Some(symbol) = find(ROOT_MODULE_LOADER_NAME) {
        check_rust_header(content(symbol)).map(|()| PluginInterface::Rust)
    } else if let Some(symbol) = find(c_v1::SYMBOL) {
        check_c_table(content(symbol)).map(|()| PluginInterface::C)
    } else {
        Err(LoadFailure::NoHeader)
    }
}

/// Checks the header of a plug-in in Rust: whether this version of abi_stable can read it.
fn check_rust_header(content: Option<&[u8]>) -> Result<(), LoadFailure> {
    let header = content
        .filter(|header| header.len() >= size_of::<AbiHeader>())
        .ok_or(LoadFailure::Damaged("its plug-in header is outside its contents"))?;
    let ours = AbiHeader::VALUE;
    if !header.starts_with(&ours.magic_string) {
        return Err(abi_stable_mismatch("of unknown version".to_string()));
    }
    let major = word(header, offset_of!(AbiHeader, abi_major));
    let minor = word(header, offset_of!(AbiHeader, abi_minor));
    match (major, minor) {
        theirs if theirs == (ours.abi_major, ours.abi_minor) => Ok(()),
        (major, minor) => Err(abi_stable_mismatch(format!("{major}.{minor}"))),
    }
}

/// Checks the table of a plug-in in C: version and size, and that all of it is there.
fn check_c_table(content: Option<&[u8]>) -> Result<(), LoadFailure> {
    let table = content
        .filter(|table| table.len() >= offset_of!(c_v1::Table, name))
        .ok_or(LoadFailure::Damaged("its table cma_allocator_v1 is no constant in its contents"))?;
    let version = word(table, offset_of!(c_v1::Table, version));
    c_v1::Table::check_header(version, word(table, offset_of!(c_v1::Table, size)))?;
    if table.len() < size_of::<c_v1::Table>() {
        return Err(c_v1::TableFault::Size { theirs: table.len() as u64 }.into());
    }
    Ok(())
}

/// The number of 32 bits in the order of this machine at `at` of `bytes`, which are long enough.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The refusal of a library whose header is of version `theirs` of abi_stable.
pub(super) fn abi_stable_mismatch(theirs: String) -> LoadFailure {
    let ours = AbiHeader::VALUE;
    LoadFailure::AbiStable { theirs, ours: format!("{}.{}", ours.abi_major, ours.abi_minor) }
}

#[cfg(test)]
mod tests;
