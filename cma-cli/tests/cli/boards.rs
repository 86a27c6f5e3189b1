//! Boards from files and kernel command lines: `--platform`, `--banks`, `import` and `export`.

use crate::{Run, run, underlined, value};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

const BOARD: &str = r#"
banks = ["512M@0x40000000", "1G@0x80000000"]
map = ["camera = frames", "* = frames|rest"]

[[regions]]
name = "frames"
size = "64M"
within = "0x80000000-4G"

[[regions]]
name = "rest"
size = "16M"
"#;

/// A file `my-board.toml` with that text, which exists as long as the folder.
fn file(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("my-board.toml");
    fs::write(&path, text).unwrap();
    (folder, path.display().to_string())
}

#[test]
fn a_system_starts_on_a_board_in_a_file_or_on_other_banks() {
    let (_folder, path) = file(BOARD);
    let Run { code, out, err } = run(&["--platform", &path, "--json", "regions"]);
    assert_eq!(code, 0, "{err}");
    let starts: Vec<_> = out.lines().map(|line| value(line, "start")).collect();
    assert_eq!(starts, ["0x40000000", "0x80000000"]);
    assert_eq!(run(&["--platform", &path, "check"]).out, "regions and map are clean\n");
    let banks = ["--banks", "1M@0x10000; 2G@0x800000000", "--cma", "a=8M", "--json", "regions"];
    let Run { out, .. } = run(&banks);
    assert_eq!(value(&out, "start"), "0x800000000");
    assert!(run(&["--platform", &path, "demo"]).out.contains("my-board"));
}

#[test]
fn every_example_is_clean_and_all_its_regions_get_memory() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../platforms/examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let platform = ["--platform", path.to_str().unwrap()];
        let Run { code, out, err } = run(&[&platform[..], &["check"]].concat());
        assert_eq!((code, out.as_str()), (0, "regions and map are clean\n"), "{path:?}: {err}");
        let Run { code, out, err } = run(&[&platform[..], &["--json", "regions"]].concat());
        assert_eq!(code, 0, "{path:?}: {out}{err}");
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let exported = run(&[&platform[..], &["export", "--as", "toml"]].concat()).out;
        assert!(exported.starts_with(&format!("name = \"{name}\"\n")), "{exported}");
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["imx8mp-evk", "raspberry-pi-4", "zcu102"]);
}

#[test]
fn a_finding_in_a_device_tree_names_the_node() {
    let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/../cma-board/tests/device_tree/pools.dtb");
    let Run { out, .. } = run(&["--platform", tree, "--banks", "64M@0x80000000", "check"]);
    assert!(out.contains("/reserved-memory/linux,cma: there is no memory for region"), "{out}");
    let Run { out, .. } =
        run(&["--platform", tree, "--banks", "64M@0x80000000", "--json", "check"]);
    let nodes: Vec<_> = out.lines().filter(|line| line.contains("\"node\"")).collect();
    assert!(nodes.iter().any(|line| value(line, "node") == "/reserved-memory/linux,cma"), "{out}");
    let cut = tempfile::NamedTempFile::new().unwrap();
    fs::write(cut.path(), &fs::read(tree).unwrap()[..100]).unwrap();
    let Run { code, err, .. } = run(&["--platform", cut.path().to_str().unwrap(), "regions"]);
    assert_eq!(code, 2);
    assert!(err.contains(cut.path().to_str().unwrap()), "{err}");
}

#[test]
fn a_mistake_in_a_boards_file_stops_every_command_and_is_underlined() {
    let (_folder, path) = file(&BOARD.replace("within", "witin"));
    for command in ["regions", "shell", "demo", "check"] {
        let Run { code, out, err } = run(&["--platform", &path, command]);
        assert_eq!(code, 2, "{command}");
        let said = out + &err;
        assert!(said.contains("a region has no key \"witin\""), "{said}");
        assert!(said.contains("my-board.toml:8:1]") && said.contains("write within"), "{said}");
        assert_eq!(underlined(&said), "witin");
    }
    for (file, what) in [
        ("banks = [\"1G\"]", "expected '@'"),
        ("map = []", "says nothing of the board's memory"),
        ("banks = []\nname = \u{0}", "must be quoted"),
    ] {
        let (_folder, path) = self::file(file);
        let Run { code, err, .. } = run(&["--platform", &path, "regions"]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(what) && err.contains("my-board.toml"), "{err}");
    }
}

#[test]
fn check_shows_a_finding_in_the_file_that_describes_the_board() {
    for (written, instead, place, what) in [
        (
            "size = \"16M\"",
            "size = \"16M\"\nalignment = \"32K\"\nat = 0x40001000",
            "0x40001000",
            "will start at",
        ),
        ("frames|rest", "frames|nix", "nix", "there is no region \"nix\""),
        ("0x80000000-4G", "0x60000000-0x80000000", "0x60000000-0x80000000", "no memory"),
        ("size = \"16M\"", "size = \"16M\"\nallocator = \"foo\"", "foo", "no allocator \"foo\""),
        (
            "size = \"16M\"",
            "size = \"16M\"\nallocator = \"buddy(x=1)\"",
            "x=1",
            "unknown parameter",
        ),
        ("\n[[", "\nmemory = \"nix=memfd\"\n[[", "nix", "memory is chosen for region \"nix\""),
    ] {
        let (_folder, path) = file(&BOARD.replacen(written, instead, 1));
        let Run { code, out, err } = run(&["--platform", &path, "check"]);
        assert!(code > 0, "{instead}: {out}{err}");
        assert!(out.contains(what), "{instead}: {out}");
        assert_eq!(underlined(&out), place, "{out}");
        assert!(out.contains("my-board.toml:"), "{out}");
    }
    let (_folder, path) = file(&BOARD.replace("frames|rest", "frames"));
    let Run { out, .. } = run(&["--platform", &path, "--json", "check"]);
    assert_eq!((value(&out, "text"), value(&out, "found")), ("platform".into(), "rest".into()));
}

#[test]
fn an_unknown_board_is_an_error_that_names_the_known_ones() {
    let Run { code, out, err } = run(&["--platform", "beagle", "regions"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("no board and no file \"beagle\"") && err.contains("galaxy-s2"), "{err}");
    let Run { code, err, .. } = run(&["--platform", "/", "regions"]);
    assert_eq!(code, 2);
    assert!(err.contains("directory"), "{err}");
    let Run { code, err, .. } = run(&["--platform", "/dev/zero", "regions"]);
    assert_eq!(code, 2);
    assert!(err.contains("larger than 4M"), "{err}");
}

#[test]
fn malformed_banks_are_underlined() {
    let Run { code, err, .. } = run(&["--banks", "2G@0;2G", "regions"]);
    assert_eq!(code, 2);
    assert!(err.contains("[--banks:1:8]") && err.contains("expected '@'"), "{err}");
}

#[test]
fn what_is_imported_is_exported_again() {
    let kernel = "BOOT_IMAGE=/vmlinuz quiet cma=64M@0-4G hugetlb_cma=0:1G,1:1G";
    let Run { code, out, err } = run(&["import", kernel, "--banks", "8G@0"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (_folder, path) = file(&out);
    let Run { out, err, .. } = run(&["--platform", &path, "export", "--as", "cmdline"]);
    assert_eq!(out.trim_end(), "cma=64M@0x0-0x100000000 hugetlb_cma=0:1G,1:1G");
    assert!(err.contains("8G@0x0"), "{err}");
    let Run { out, .. } = run(&["import", &path, "--as", "options"]);
    assert_eq!(
        out.trim_end(),
        "--banks '8G@0x0' --cma 'hugetlb0=1G/1G;hugetlb1=1G/1G;cma=64M@0x0-0x100000000' \
         --map 'hugetlb=hugetlb0,hugetlb1;*=cma'"
    );
    // A file of any other name is a kernel's command line.
    let kernel_file = tempfile::NamedTempFile::new().unwrap();
    fs::write(kernel_file.path(), "ro cma=16M\n").unwrap();
    let Run { out, err, .. } = run(&["import", kernel_file.path().to_str().unwrap()]);
    assert!(out.contains("size = \"16M\"") && err.contains("give --banks"), "{out}{err}");
}

#[test]
fn export_prints_the_system_of_the_options_and_names_what_is_lost() {
    let system =
        ["--banks", "1G@0", "--cma", "a=1M;b=2M@0-1G", "--map", "x=a|b;*=a", "--memory", "memfd"];
    let export = |form| run(&[&system[..], &["export", "--as", form]].concat());
    let (_folder, path) = file(&export("toml").out);
    let again = run(&["--platform", &path, "export", "--as", "toml"]);
    assert_eq!((again.code, &again.out), (0, &export("toml").out));
    let Run { out, err, .. } = export("cmdline-v4");
    assert_eq!(out.trim_end(), "cma=a=1M;b=2M cma.map=x=a,b;*=a");
    for named in ["region \"b\"", "x=a|b", "1G@0x0", "memfd"] {
        assert!(err.contains(named), "{named}: {err}");
    }
    let Run { code, out, err } = run(&["--map", "a=b*", "export", "--as", "toml"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("[--map:1:3]"), "{err}");
}

#[test]
fn a_form_without_a_name_names_it_as_lost_and_nothing_prints_nothing() {
    let (_folder, path) = file("name = \"n\"\nbanks = [\"1G@0\"]\n");
    for form in ["options", "cmdline", "cmdline-v4"] {
        let Run { code, out, err } = run(&["import", &path, "--as", form]);
        assert_eq!(code, 0, "{form}: {err}");
        assert!(err.contains("the name \"n\" is left out"), "{form}: {err}");
        assert_eq!(out.is_empty(), form != "options", "{form}: {out:?}");
    }
    // A name that nobody gave is no loss.
    let Run { err, .. } = run(&["import", "cma=1M", "--banks", "1G@0", "--as", "options"]);
    assert_eq!(err, "");
}

#[test]
fn a_file_that_is_not_utf_8_is_shown_where_it_is_not() {
    let (_folder, path) = file("");
    fs::write(&path, b"banks = []\nname = \"caf\xe9\"\n").unwrap();
    for command in ["check", "regions"] {
        let Run { code, out, err } = run(&["--platform", &path, command]);
        let said = out + &err;
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("my-board.toml:2:12]") && said.contains("byte 22"), "{said}");
        assert!(said.contains("save the file as UTF-8"), "{said}");
    }
}

#[test]
fn the_source_of_a_device_tree_is_no_blob() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../cma-board/tests/device_tree/pools.dts");
    let Run { code, err, .. } = run(&["import", source]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("source of a device tree") && err.contains("dtc -O dtb"), "{err}");
}

#[test]
fn a_board_without_banks_is_one_error_with_its_remedy() {
    let board = BOARD.replace("[\"512M@0x40000000\", \"1G@0x80000000\"]", "[]");
    let (_folder, path) = file(&board);
    let Run { code, out, err } = run(&["--platform", &path, "check"]);
    assert_eq!((code, err.as_str()), (2, ""), "{out}");
    assert!(out.contains("no memory banks") && out.contains("give --banks '"), "{out}");
    assert!(out.ends_with("1 error, 0 warnings\n"), "{out}");
    let Run { err, .. } = run(&["--platform", &path, "regions"]);
    assert!(err.contains("my-board states no memory banks") && err.contains("--banks"), "{err}");
    let Run { out, .. } = run(&["--platform", &path, "check", "--banks", "512M@1G;1G@2G"]);
    assert_eq!(out, "regions and map are clean\n");
}

#[test]
fn a_finding_in_memory_shows_the_text_that_was_written() {
    for (memory, place) in [("zz=memfd", "1:1"), ("b1=memfd, m = auto", "1:11")] {
        let Run { code, out, .. } = run(&["--memory", memory, "check"]);
        assert_eq!(code, 2, "{out}");
        assert!(out.contains(&format!("[--memory:{place}]")), "{out}");
        assert!(out.lines().any(|line| line.trim_end() == format!(" 1 │ {memory}")), "{out}");
    }
}

#[test]
fn overlapping_banks_are_reported_with_both() {
    let banks = "1G@0x80000000;1G@0x40000000;1M@0x50000000;4K@0xbfffffff000;1G@0xc0000000";
    let description = ["--cma", "b1=1M", "--map", "*=b1", "--banks", banks];
    let overlap = "--banks: 1M@0x50000000 overlaps 1G@0x40000000; the memory of both counts once";
    for command in [&["regions"][..], &["check"], &["export", "--as", "options"]] {
        let Run { out, err, .. } = run(&[command, &description].concat());
        let all = format!("{out}{err}");
        assert!(all.contains(overlap), "{command:?}: {all}");
        assert_eq!(all.matches("overlaps").count(), 1, "{command:?}: {all}");
    }
}
