//! Common programs on the mounted tree.

use super::{Mounted, mounted};
use std::process::Command;

/// Runs `script` in the mounted folder. Returns its output, with standard error, and its exit
/// status.
fn sh(mounted: &Mounted, script: &str) -> (String, i32) {
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {script}")])
        .current_dir(mounted.sysfs.path())
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

macro_rules! assert_prints {
    ($mounted:expr, $($script:expr => $expected:expr),+ $(,)?) => {
        $(assert_eq!(sh($mounted, $script), ($expected.to_string(), 0), "{}", $script);)+
    };
}

#[test]
fn programs_read_attributes() {
    let Some(mounted) = mounted() else { return };
    assert_prints!(&mounted,
        "cat map" => "cam=a;*=a,b\n",
        "cat regions/*/name" => "a\nb\na\nb\n",
        "cat regions/a/alloc regions/0x41000000/start" => "best-fit\n0x41000000\n",
        "head -c 3 map" => "cam",
        "tail -c 4 map" => "a,b\n",
        "tail -n 1 allocators" => "best-fit buddy\n",
        "wc -c < map" => "12\n",
        "grep -r --include=size 16777216 regions/0x40000000" => "regions/0x40000000/size:16777216\n",
        "dd if=map bs=1 2>/dev/null" => "cam=a;*=a,b\n",
        "cp map /dev/stdout" => "cam=a;*=a,b\n",
        "while read -r line; do echo \"[$line]\"; done < map" => "[cam=a;*=a,b]\n",
        "sort map" => "cam=a;*=a,b\n",
    );
    // Every text of the tree. As in sysfs, the reported sizes say nothing.
    let (all, code) = sh(&mounted, "find . -type f -exec cat {} + | wc -l");
    assert_eq!(code, 0);
    assert!(all.trim().parse::<usize>().unwrap() > 20, "{all}");
}

#[test]
fn programs_walk_folders_and_links() {
    let Some(mounted) = mounted() else { return };
    assert_prints!(&mounted,
        "ls" => "allocators\nerrors\nmap\nregions\nwhy\nwhy.json\n",
        "ls regions" => "0x40000000\n0x41000000\na\nb\n",
        "readlink regions/a" => "0x40000000\n",
        "ls -l regions/b | cut -d' ' -f1" => "lrwxrwxrwx\n",
        "stat -c '%A %s %n' map allocators regions regions/a/size" =>
            "-rw-r--r-- 4096 map\n-r--r--r-- 4096 allocators\ndrwxr-xr-x 0 regions\n-r--r--r-- 4096 regions/a/size\n",
        "find . -maxdepth 2 -type l | sort" => "./regions/a\n./regions/b\n",
        "find . -perm -u=w -type f | sort" => "./map\n./regions/0x40000000/alloc\n./regions/0x40000000/shadow\n./regions/0x41000000/alloc\n./regions/0x41000000/shadow\n",
        "find -L regions -name alloc | wc -l" => "4\n",
        "test $(stat -c %i map) = $(ls -i | awk '$2 == \"map\" {print $1}')" => "",
    );
    assert_eq!(sh(&mounted, "cat nothing").1, 1);
    assert_eq!(sh(&mounted, "ls regions/0x40000001").1, 2);
    assert_eq!(sh(&mounted, "cat regions"), ("cat: regions: Is a directory\n".to_string(), 1));
}

#[test]
fn programs_write_attributes() {
    let Some(mounted) = mounted() else { return };
    assert_prints!(&mounted,
        "echo 'cam=b' > map; cat map" => "cam=b\n",
        "echo 'cam=a' >> map; cat map" => "cam=a\n",
        "printf 'mic=a' | tee map; cat map" => "mic=amic=a\n",
        "echo 'x=a;y=b' | dd of=map conv=notrunc 2>/dev/null; cat map" => "x=a;y=b\n",
        "echo '*=b' > /tmp/cma-sysfs-$$; cp /tmp/cma-sysfs-$$ map; rm /tmp/cma-sysfs-$$; cat map" => "*=b\n",
        "touch map; cat map" => "*=b\n",
        ": > map; truncate -s 0 map; cat map" => "*=b\n",
        "echo buddy > regions/a/alloc; cat regions/a/alloc" => "buddy\n",
        "echo > regions/a/alloc; cat regions/a/alloc" => "best-fit\n",
        "echo > map; cat map" => "",
    );
    assert!(mounted.cma.map().is_empty());
}

#[test]
fn a_refused_write_fails_and_its_reason_can_be_read() {
    let Some(mounted) = mounted() else { return };
    // Some shells report "I/O error" whatever the errno.
    assert_ne!(sh(&mounted, "echo 'cam=' > map").1, 0);
    for (script, expected) in [
        ("echo 'cam==' | tee map", "tee: map: Invalid argument"),
        ("printf 'cam=a\\000' | dd of=map conv=notrunc", "'map': Invalid argument"),
        ("echo 'a b' | tee regions/a/alloc", "Invalid argument"),
        ("echo x > regions/a/size", "Permission denied"),
        ("echo x > errors", "Permission denied"),
        ("echo x > other", "Permission denied"),
        ("echo x > regions/a", "directory"),
        ("mkdir other", "Operation not permitted"),
        ("rm -f map", "Operation not permitted"),
        ("rmdir regions", "Operation not permitted"),
        ("mv map map2", "Operation not permitted"),
        ("ln -s map map2", "Operation not permitted"),
        ("chmod 666 map", "Operation not permitted"),
    ] {
        let (output, code) = sh(&mounted, script);
        assert!(code != 0 && output.contains(expected), "{script}: {code}: {output}");
    }
    assert_prints!(&mounted,
        "cat map" => "cam=a;*=a,b\n",
        "head -n 1 errors" => "1 map: EINVAL: expected '=' and a list of regions, as in camera=b1,b2 at column 5, where the text ends\n",
        "tail -n 1 errors | cut -d' ' -f2,3" => "regions/0x40000000/alloc: EINVAL:\n",
    );
    let chunk = mounted.cma.alloc("cam", None, 4096, 0).unwrap();
    let (output, _) = sh(&mounted, "echo missing | tee regions/a/alloc");
    assert!(output.contains("Device or resource busy"), "{output}");
    drop(chunk);
}
