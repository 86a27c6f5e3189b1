//! Every file that is no plug-in for this process is refused with its path, the reason and a
//! remedy, and the process survives.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

#[test]
fn a_file_that_is_not_there_is_refused() {
    let folder = folder();
    assert_refused!(
        folder.path().join("nothing.so"),
        LoadFailure::Missing,
        "nothing.so",
        "no such file",
        "spelling"
    );
    let text = file(folder.path(), "text", b"a file");
    assert_refused!(text.join("inside"), LoadFailure::Missing, "no such file");
    let link = folder.path().join("link.so");
    symlink("gone.so", &link).unwrap();
    assert_refused!(link, LoadFailure::Missing, "no such file");
}

#[test]
fn a_folder_is_refused() {
    assert_refused!(folder().path(), LoadFailure::Folder, "is a folder", "name a library in it");
}

#[test]
fn a_fifo_is_refused_without_waiting_for_a_writer() {
    let folder = folder();
    let path = folder.path().join("fifo.so");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_refused!(
        path,
        LoadFailure::NotRegular { what: "FIFO" },
        "FIFO",
        "libcma_<name>_plugin.so"
    );
}

#[test]
fn a_socket_and_a_device_are_refused() {
    let folder = folder();
    let path = folder.path().join("socket.so");
    let _listener = UnixListener::bind(&path).unwrap();
    assert_refused!(path, LoadFailure::NotRegular { what: "socket" }, "socket");
    assert_refused!("/dev/zero", LoadFailure::NotRegular { what: "device" }, "device");
}

#[test]
fn a_link_that_leads_to_itself_is_refused_as_such() {
    let folder = folder();
    let path = folder.path().join("libcma_loop_plugin.so");
    symlink("libcma_loop_plugin.so", &path).unwrap();
    let error = refusal(&path);
    assert!(matches!(error.reason(), LoadFailure::LinkLoop), "{error:?}");
    assert!(!error.to_string().contains("permission"), "{error}");
    // A folder that is reached through such a link, too.
    let inside = refusal(&path.join("libcma_x_plugin.so"));
    assert!(matches!(inside.reason(), LoadFailure::LinkLoop), "{inside:?}");
}

#[test]
fn a_huge_sparse_file_is_refused_before_it_is_read() {
    let folder = folder();
    let path = file(folder.path(), "sparse.so", &fs::read(fixture("revision-one")).unwrap());
    let set_len =
        |length| fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
    set_len(4 << 30);
    assert_refused!(
        &path,
        LoadFailure::TooLarge { .. },
        "larger than 256 MiB",
        "debug information"
    );
    set_len(0);
    set_len(4 << 30);
    assert_refused!(&path, LoadFailure::NotElf { .. }, "no ELF library");
}

#[test]
fn a_file_of_the_kernel_that_has_no_size_or_no_end_is_refused_by_its_start() {
    let folder = folder();
    let link = |name: &str, to: &str| {
        let path = folder.path().join(name);
        symlink(to, &path).unwrap();
        path
    };
    assert_refused!(
        link("maps.so", "/proc/self/maps"),
        LoadFailure::NotElf { .. },
        "no ELF library"
    );
    if fs::File::open("/proc/kcore").is_ok() {
        let core = link("core.so", "/proc/kcore");
        assert_refused!(core, LoadFailure::NotALibrary { what: "a core dump" }, "a core dump");
    } else {
        println!("skipped: this user or machine has no /proc/kcore");
    }
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    let folder = folder();
    let path = file(folder.path(), "secret.so", b"text");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        println!("skipped: this user may read every file");
        return;
    }
    assert_refused!(path, LoadFailure::Unreadable(_), "can't be read", "permission");
}

#[test]
fn a_file_that_is_not_elf_is_refused() {
    let folder = folder();
    assert_refused!(
        file(folder.path(), "a.so", b""),
        LoadFailure::Empty,
        "empty",
        "build or copy it again"
    );
    let text = file(folder.path(), "b.so", b"#!/bin/sh\necho I am a library");
    assert_refused!(text, LoadFailure::NotElf { .. }, "no ELF library", r##""#!/bin/sh\necho"##);
    assert_refused!(
        file(folder.path(), "c.so", b"\x7fEL"),
        LoadFailure::Truncated { has: 3, .. },
        "cut off"
    );
}

#[test]
fn a_library_for_another_machine_is_refused() {
    let folder = folder();
    let good = fs::read(fixture("revision-one")).unwrap();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        assert_ne!(bytes[at], value);
        bytes[at] = value;
        file(folder.path(), "other.so", &bytes)
    };
    const CLASS: usize = 4;
    const ENDIAN: usize = 5;
    const MACHINE: usize = 18;
    let here = if cfg!(target_arch = "x86_64") {
        "runs on x86-64, 64-bit little-endian"
    } else {
        "runs on"
    };
    assert_refused!(
        with(CLASS, 1),
        LoadFailure::Machine { .. },
        "32-bit",
        here,
        "build it for this machine"
    );
    assert_refused!(with(ENDIAN, 2), LoadFailure::Machine { .. }, "big-endian", here);
    assert_refused!(
        with(MACHINE, 2),
        LoadFailure::Machine { .. },
        "machine 2 of the ELF list",
        here
    );
}

#[test]
fn an_elf_file_that_is_no_library_is_refused() {
    let folder = folder();
    let own = std::env::current_exe().unwrap();
    assert_refused!(
        own,
        LoadFailure::NotALibrary { what: "an executable" },
        "an executable, not a shared library"
    );
    let good = fs::read(fixture("revision-one")).unwrap();
    const TYPE: usize = 16;
    for (number, what) in
        [(1, "an object file"), (2, "an executable"), (4, "a core dump"), (9, "unknown type")]
    {
        let mut bytes = good.clone();
        bytes[TYPE] = number;
        assert_refused!(
            file(folder.path(), "typed.so", &bytes),
            LoadFailure::NotALibrary { .. },
            what
        );
    }
}

#[test]
fn a_library_is_refused_wherever_it_is_cut_off() {
    let folder = folder();
    let path = file(folder.path(), "cut.so", &fs::read(fixture("revision-one")).unwrap());
    let open = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let whole = open.metadata().unwrap().len();
    let steps = (0..whole).step_by(0x1_5555).chain(1..70).chain(whole - 70..whole);
    let mut cuts: Vec<_> = steps.filter(|cut| *cut > 0).collect();
    cuts.sort_unstable();
    for cut in cuts.into_iter().rev() {
        open.set_len(cut).unwrap();
        let error = refusal(&path);
        match error.reason() {
            LoadFailure::Truncated { has, needs } => assert!(*has == cut && *needs > cut),
            LoadFailure::NotElf { .. } => assert!(cut < 4),
            other => panic!("cut off at {cut} of {whole} bytes: {other:?}"),
        }
    }
}

#[test]
fn a_library_without_a_plugin_header_is_refused() {
    assert_refused!(
        fixture("no-header"),
        LoadFailure::NoHeader,
        "no plug-in header",
        "cma_api::export_allocator!"
    );
}

#[test]
fn a_plugin_of_another_abi_stable_is_refused_before_its_code_runs() {
    let folder = folder();
    // Its constructor would end this process.
    let good = fs::read(fixture("constructor")).unwrap();
    let magic = b"abi stable library for Rust     ";
    let at = good
        .windows(magic.len() + 8)
        .position(|w| w.starts_with(magic) && w[36..] == 11_u32.to_ne_bytes());
    let minor = at.unwrap() + magic.len() + 4;
    let mut bytes = good.clone();
    bytes[minor..minor + 4].copy_from_slice(&7_u32.to_ne_bytes());
    let path = file(folder.path(), "older.so", &bytes);
    assert_refused!(
        path,
        LoadFailure::AbiStable { .. },
        "abi_stable 0.7,",
        "with 0.11",
        "same version of cma-api"
    );
    let path = file(
        folder.path(),
        "magic.so",
        &patched(&good, magic, b"abi stable library for Corrosion"),
    );
    assert_refused!(path, LoadFailure::AbiStable { .. }, "unknown version");
}

#[test]
fn a_plugin_of_another_interface_version_is_refused_with_both_versions() {
    let path = fixture("other-interface");
    assert_refused!(
        path,
        LoadFailure::Interface { .. },
        "version 2.0.0",
        "supports 1.",
        "same version of cma-api"
    );
}

#[test]
fn a_plugin_of_another_layout_is_refused_with_the_essence_of_the_difference() {
    let path = fixture("changed-layout");
    assert_refused!(
        path,
        LoadFailure::Layout { .. },
        "in PageRange, incompatible type size: expected 16, found 8",
        "in u32, mismatched type: expected u64, found u32",
        "same version of cma-api",
    );
}

#[test]
fn a_plugin_without_a_layout_is_refused_instead_of_trusted() {
    assert_refused!(
        fixture("unchecked"),
        LoadFailure::Unchecked,
        "can't be checked",
        "export_allocator!"
    );
}

#[test]
fn a_plugin_of_another_application_is_refused() {
    let path = fixture("other-application");
    assert_refused!(path, LoadFailure::Application { .. }, "another_application", "cma_allocator");
}

#[test]
fn a_plugin_that_does_not_start_is_refused_each_time() {
    for _ in 0..2 {
        assert_refused!(
            fixture("refuses"),
            LoadFailure::Declined(_),
            "refuses to start: it wants a machine with more memory"
        );
        assert_refused!(
            fixture("panics"),
            LoadFailure::Panicked,
            "panicked",
            "report it to its author"
        );
    }
}

#[test]
fn a_plugin_with_an_unfit_name_is_refused() {
    let path = fixture("bad-name");
    assert_refused!(
        path,
        LoadFailure::BadInfo { what: "name", .. },
        "its name \"two words\"",
        "white space",
        "INFO"
    );
}

#[test]
fn a_library_whose_dependency_is_missing_is_refused_in_the_words_of_the_dynamic_linker() {
    let folder = folder();
    let good = fs::read(fixture("revision-one")).unwrap();
    let path = file(folder.path(), "needy.so", &patched(&good, b"libgcc_s.so.1", b"libgone.so.99"));
    assert_refused!(
        path,
        LoadFailure::Unlinkable(_),
        "libgone.so.99: cannot open shared object file",
        "install"
    );
}

/// The dynamic linker knows a library by the path of its copy's descriptor. The copy was closed
/// when the library was loaded and then refused, so the next copy got the same path, and its file
/// the refused library's code.
#[test]
fn a_library_that_is_refused_after_it_was_loaded_is_not_taken_for_the_next_file() {
    let folder = folder();
    let good = fs::read(fixture("revision-one")).unwrap();
    let unsearchable = without_its_hash_table(&good);
    // Other tests open files meanwhile, so one pair of files may get two numbers.
    for number in 0..20 {
        let other = |content: &[u8]| [content, &[number]].concat();
        let path = file(folder.path(), "unsearchable.so", &other(&unsearchable));
        for _ in 0..2 {
            assert_refused!(path, LoadFailure::NoHeader, "exports no plug-in header");
        }
        let path = file(folder.path(), "good.so", &other(&good));
        assert_eq!(Plugin::load(path).unwrap().version(), "1.0.0");
    }
}

/// `library`, changed so that the dynamic linker finds no symbol in it, though its table of symbols
/// has them all.
fn without_its_hash_table(library: &[u8]) -> Vec<u8> {
    use object::{Object as _, ObjectSection as _};
    let parsed = object::File::parse(library).unwrap();
    let table = parsed.section_by_name(".gnu.hash").unwrap();
    let (start, size) = table.file_range().unwrap();
    let mut changed = library.to_vec();
    // Four numbers, then a Bloom filter of the symbols, then the symbols by their hashes.
    changed[start as usize..][16..size as usize].fill(0);
    changed
}
