//! Regions, maps and memory on the command line, as each command accepts them.

use crate::{Run, run, shell, underlined};

#[test]
fn an_invalid_allocator_name_is_an_error_with_its_place() {
    for name in ["-", "b\u{fc}ddy", "[x", &"x".repeat(65)] {
        for command in ["check", "regions", "demo", "shell"] {
            let Run { code, out, err } = run(&["--cma", &format!("b1=32M:{name}"), command]);
            let messages = format!("{out}{err}");
            assert_eq!(code, 2, "{command}: {messages}");
            assert!(
                messages.contains("can't be the name of an allocator"),
                "{command}: {messages}"
            );
            assert_eq!(underlined(&messages), name);
        }
    }
}

#[test]
fn devices_are_named_in_maps_and_requests_as_linux_names_them() {
    for device in ["soc:gpu", "0000:03:00.0", "udmabuf@0", "amba_pl@0:udmabuf@0x00"] {
        let map = format!("{device}=r;*=r");
        let Run { code, out, .. } = run(&["--cma", "r=1M", "--map", &map, "check"]);
        assert_eq!(code, 0, "{device}: {out}");
        let input = format!("a {device} 4K\nl\n");
        let Run { code, out, err } =
            shell(&["--cma", "r=1M", "--map", &format!("{device}=r")], input.as_bytes());
        assert_eq!(code, 0, "{device}: {err}");
        assert!(out.ends_with(&format!("{device} in r\n")), "{out}");
    }
}

#[test]
fn white_space_around_separators_is_ignored() {
    for (regions, map) in [
        ("b1=32M;\nb2=16M", "*=b1,b2"),
        ("b1=32M ; b2=16M", "*=b1,b2"),
        ("b1=32M;b2=16M\n", " * = b1 ,\n b2 ; "),
    ] {
        let Run { code, out, .. } = run(&["--cma", regions, "--map", map, "check"]);
        assert_eq!(code, 0, "{out}");
    }
    let Run { code, out, .. } = run(&["--cma", "b1=32M", "--map", "a b=b1", "check"]);
    assert_eq!(code, 2);
    assert_eq!(underlined(&out), "a b");
}

#[test]
fn an_option_that_a_command_does_not_use_is_an_error_that_names_both() {
    let not_used: [(&[&str], &[&str]); 5] = [
        (&["plugins"], &["--platform", "--cma", "--map", "--memory"]),
        (
            &["shell", "--connect", "/nonexistent"],
            &["--platform", "--cma", "--map", "--memory", "--plugin-dir", "--json"],
        ),
        (&["get", "map"], &["--platform", "--cma", "--map", "--memory", "--plugin-dir", "--json"]),
        (&["serve", "--mount", "/nonexistent"], &["--json"]),
        (&["demo"], &["--json"]),
    ];
    for (command, options) in not_used {
        for option in options {
            let value: &[&str] = match *option {
                "--json" => &[],
                "--platform" => &["aquila"],
                "--memory" => &["memfd"],
                _ => &["x"],
            };
            let given = [&[*option], value].concat();
            // Before the command and after it.
            for args in [[&given, command].concat(), [command, &given].concat()] {
                let Run { code, out, err } = run(&args);
                assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
                let name = command[..command.len().min(2)].join(" ");
                let name = if command[0] == "shell" { name.as_str() } else { command[0] };
                assert!(
                    err.contains(&format!("`cma {name}` does not use {option}")),
                    "{args:?}: {err}"
                );
            }
        }
        let help = run(&[command[0], "--help"]).out;
        let shown = |option: &str| help.contains(&format!(" {option} "));
        if command[0] != "shell" {
            assert!(!options.iter().any(|option| shown(option)), "{help}");
        }
    }
    assert!(run(&["regions", "--help"]).out.contains("--memory <MEMORY>"));
}

#[test]
fn check_covers_the_choice_of_memory() {
    let checked =
        |memory, regions| run(&["--memory", memory, "--cma", regions, "--map", "*=r", "check"]);
    let Run { code, out, .. } = checked("nosuch=memfd,auto", "r=4M");
    assert_eq!(code, 2, "{out}");
    assert!(
        out.contains("\"nosuch\", which is not configured") && out.contains("[--memory:1:1]"),
        "{out}"
    );
    // No huge page is that small. On a machine without huge pages that is the reason.
    let Run { code, out, .. } = checked("hugetlb", "r=4K");
    assert_eq!(code, 2, "{out}");
    assert!(out.contains("region r gets no memory"), "{out}");
    assert_eq!(underlined(&out), "4K");
    assert_eq!(checked("memfd", "r=4M").code, 0);
}

#[test]
fn every_command_that_boots_warns_of_a_size_below_a_page() {
    for command in ["regions", "demo", "shell"] {
        let Run { err, .. } = run(&["--cma", "r=32", "--map", "*=r", command]);
        assert!(err.contains("region \"r\" will have 4K"), "{command}: {err}");
        let Run { err, .. } = run(&["--cma", "r=5000", "--map", "*=r", command]);
        assert!(!err.contains("will have"), "{command}: {err}");
    }
}

#[test]
fn an_empty_list_of_regions_is_a_warning() {
    let Run { code, out, .. } = run(&["--cma", "", "--map", "", "check"]);
    assert_eq!(code, 1);
    assert!(out.contains("no region is configured") && out.contains("name some"), "{out}");
}

#[test]
fn messages_name_the_actual_error() {
    for (regions, expected, unexpected) in [
        ("a=0xffffffffffffffff", "rounded up to whole pages", "the number is too large"),
        ("a=1M/2G", "give it a smaller alignment", "make it smaller"),
        ("linux,cma=64M", "a region name can't contain", "expected '='"),
        ("cma=64M@2G-1G", "an end above its start", "\0"),
        ("a=1M@0x20000000", "80M@0x30000000, 256M@0x40000000", "\0"),
        ("a=1MB", "write K or KiB, M or MiB", "\0"),
    ] {
        let Run { code, out, .. } = run(&["--cma", regions, "--map", "*=a", "check"]);
        assert_eq!(code, 2, "{out}");
        assert!(out.contains(expected) && !out.contains(unexpected), "{regions}: {out}");
    }
}
