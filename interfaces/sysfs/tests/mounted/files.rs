//! Open files: their content, and that no user is delayed by another's.

use super::server_process::ServerProcess;
use cma_framework::Errno;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::thread;

#[test]
fn reads_in_many_calls_belong_to_one_text() {
    let Some(mut server) = ServerProcess::start() else { return };
    let long = format!("{}=a\n", vec!["camera/frame"; 3000].join(","));
    fs::write(server.path("map"), &long).unwrap();
    let mut file = File::open(server.path("map")).unwrap();
    let mut read = vec![0; 1000];
    file.read_exact(&mut read).unwrap();
    server.command("map mic=b");
    file.read_to_end(&mut read).unwrap();
    assert_eq!(read, long.as_bytes());
}

#[test]
fn reading_from_the_start_again_shows_changes() {
    let Some(mut server) = ServerProcess::start() else { return };
    let mut file = File::open(server.path("map")).unwrap();
    let mut read = String::new();
    file.read_to_string(&mut read).unwrap();
    server.command("map mic=b");
    file.seek(SeekFrom::Start(0)).unwrap();
    read.clear();
    file.read_to_string(&mut read).unwrap();
    assert_eq!(read, "mic=b\n");
    assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 6);
}

#[test]
fn each_write_is_a_complete_text_and_gets_its_own_error() {
    let Some(mut server) = ServerProcess::start() else { return };
    let mut file =
        File::options().read(true).write(true).truncate(true).open(server.path("map")).unwrap();
    file.write_all(b"cam=b\n").unwrap();
    assert_eq!(server.map(), "cam=b");
    assert_eq!(file.write(b"cam==b\n").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(server.map(), "cam=b");
    file.write_all(b"mic=a\n").unwrap();
    assert_eq!(server.map(), "mic=a");
    file.write_all_at(b"x=a", 3).unwrap();
    assert_eq!(server.map(), "x=a");
    file.set_len(0).unwrap();
    assert_eq!(server.map(), "x=a");
}

#[test]
fn a_text_too_long_for_an_attribute_is_refused_as_a_whole() {
    let Some(mut server) = ServerProcess::start() else { return };
    // Split between any two rules, each part would be a valid map.
    let rules = |bytes: usize| "c=a;".repeat(bytes / 4).into_bytes();
    fs::write(server.path("map"), rules(64 << 10)).unwrap();
    let before = server.map();
    for bytes in [(64 << 10) + 4, 128 << 10, 1 << 20, 20 << 20] {
        let text = rules(bytes);
        // Also at unaligned addresses, where the kernel splits it into uneven parts.
        for offset in [0, 1, 4095] {
            let mut moved = vec![b';'; offset];
            moved.extend(&text);
            let mut file = File::options().write(true).open(server.path("map")).unwrap();
            assert_eq!(
                file.write(&moved[offset..]).unwrap_err().kind(),
                ErrorKind::FileTooLarge,
                "{bytes}"
            );
        }
    }
    assert_eq!(server.map(), before);
}

#[test]
fn read_only_attributes_can_not_be_opened_for_writing_even_by_root() {
    let Some(server) = ServerProcess::start() else { return };
    for path in ["allocators", "errors", "regions/a/free"] {
        let opened = File::options().write(true).open(server.path(path));
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::PermissionDenied, "{path}");
        assert!(fs::metadata(server.path(path)).unwrap().permissions().readonly(), "{path}");
    }
}

#[test]
fn regions_come_and_go_while_the_tree_is_mounted() {
    let Some(mut server) = ServerProcess::start() else { return };
    let size = server.path("regions/new/size");
    assert_eq!(fs::read(&size).unwrap_err().kind(), ErrorKind::NotFound);
    server.command("register new");
    assert_eq!(fs::read_to_string(&size).unwrap(), "1048576\n");
    let mut open = File::open(&size).unwrap();
    server.command("unregister new");
    assert_eq!(fs::read(&size).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(open.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(server.path("regions")).unwrap().count(), 4);
}

#[test]
fn concurrent_readers_and_writers_each_see_a_complete_map() {
    let Some(mut server) = ServerProcess::start() else { return };
    let maps = ["cam=a", "cam=b;mic=a", "a/x,/y=a,b;*=b", "*=a"].map(|map| format!("{map}\n"));
    fs::write(server.path("map"), &maps[0]).unwrap();
    let (path, known) = (&server.path("map"), &maps);
    thread::scope(|scope| {
        for map in known {
            scope.spawn(move || (0..200).for_each(|_| fs::write(path, map).unwrap()));
            scope.spawn(move || {
                for _ in 0..200 {
                    let read = fs::read_to_string(path).unwrap();
                    assert!(known.contains(&read), "{read:?}");
                }
            });
        }
        scope.spawn(|| {
            for allocator in ["buddy\n", "best-fit\n"].iter().cycle().take(200) {
                fs::write(server.path("regions/b/alloc"), allocator).unwrap();
            }
        });
    });
    server.command("check");
}

#[test]
fn a_region_with_a_slow_allocator_delays_no_other_attribute() {
    let Some(mut server) = ServerProcess::start() else { return };
    server.command("stall slow");
    let slow = &server.path("regions/slow/maxchunk");
    thread::scope(|scope| {
        let slow: Vec<_> = (0..8).map(|_| scope.spawn(|| fs::read_to_string(slow))).collect();
        // Whether or not the readers have reached the allocator, these calls don't wait for them.
        for _ in 0..100 {
            fs::write(server.path("map"), "*=b\n").unwrap();
            assert_eq!(fs::read_to_string(server.path("regions/b/maxchunk")).unwrap(), "4096\n");
            assert_eq!(fs::read_dir(server.path("regions")).unwrap().count(), 6);
        }
        server.command("go on");
        for reader in slow {
            match reader.join().unwrap() {
                Ok(text) => assert_eq!(text, "256\n"),
                // The machine was so slow that the region became stuck.
                Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::EIO as i32)),
            }
        }
    });
}

#[test]
fn a_reader_ends_when_the_server_is_killed() {
    let Some(mut server) = ServerProcess::start() else { return };
    server.command("stall slow");
    let slow = server.path("regions/slow/maxchunk");
    let reader = thread::spawn(move || fs::read_to_string(slow));
    server.kill();
    let error = reader.join().unwrap().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::ConnectionAborted),
        "{error}"
    );
}

#[test]
fn a_panicking_subscriber_ends_no_thread_of_the_mount() {
    let Some(mut server) = ServerProcess::start() else { return };
    server.command("panic");
    // More often than there are threads, whatever the writes return.
    for n in 0..40 {
        let _ = fs::write(server.path("map"), format!("cam{n}=a\n"));
        assert_eq!(fs::read_to_string(server.path("map")).unwrap(), format!("cam{n}=a\n"));
        let _ = fs::write(server.path("map"), "cam=\n");
        assert_eq!(fs::read_to_string(server.path("regions/b/size")).unwrap(), "16777216\n");
    }
}

#[test]
fn readers_of_a_stuck_region_delay_no_other_and_end_without_its_answer() {
    let Some(mut server) = ServerProcess::start() else { return };
    server.command("stall slow");
    let mut cat = Command::new("cat");
    cat.arg(server.path("regions/slow/maxchunk")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut readers: Vec<_> = (0..40).map(|_| cat.spawn().unwrap()).collect();
    for _ in 0..100 {
        fs::write(server.path("map"), "*=b\n").unwrap();
        assert_eq!(fs::read_to_string(server.path("map")).unwrap(), "*=b\n");
        assert_eq!(fs::read_to_string(server.path("regions/b/maxchunk")).unwrap(), "4096\n");
        assert_eq!(fs::read_to_string(server.path("regions/slow/size")).unwrap(), "1048576\n");
    }
    let (killed, patient) = readers.split_at_mut(20);
    killed.iter_mut().for_each(|reader| reader.kill().unwrap());
    // The kernel keeps a killed process until its request has an answer.
    killed.iter_mut().for_each(|reader| assert!(!reader.wait().unwrap().success()));
    patient.iter_mut().for_each(|reader| assert_eq!(reader.wait().unwrap().code(), Some(1)));
    server.command("go on");
    let slow = server.path("regions/slow/maxchunk");
    // The allocator's thread may take a moment to return.
    let answer = std::iter::repeat_with(|| fs::read_to_string(&slow)).find_map(Result::ok);
    assert_eq!(answer.as_deref(), Some("256\n"));
}

#[test]
fn files_that_are_never_read_to_the_end_take_bounded_memory() {
    let Some(mut server) = ServerProcess::start() else { return };
    let map = format!("{}=a\n", vec!["camera/frame"; 5000].join(","));
    fs::write(server.path("map"), &map).unwrap();
    let before = server.resident();
    let mut byte = [0];
    let opened: Vec<File> = (0..900)
        .map(|_| {
            let mut file = File::open(server.path("map")).unwrap();
            file.read_exact(&mut byte).unwrap();
            file
        })
        .collect();
    let folders: Vec<_> = (0..900)
        .map(|_| {
            let mut folder = fs::read_dir(server.path("regions")).unwrap();
            folder.next().unwrap().unwrap();
            folder
        })
        .collect();
    server.command("map mic=b");
    let taken = server.resident() - before;
    assert!(taken < 32 << 20, "{taken} bytes");
    // The newest text is complete; an evicted one gives an error.
    let rest = |mut file: &File| {
        let mut rest = String::new();
        file.read_to_string(&mut rest).map(|_| rest)
    };
    assert_eq!(rest(&opened[899]).unwrap(), map[1..]);
    assert_eq!(rest(&opened[0]).unwrap_err().kind(), ErrorKind::OutOfMemory);
    let mut oldest = &opened[0];
    oldest.seek(SeekFrom::Start(0)).unwrap();
    assert_eq!(rest(oldest).unwrap(), "mic=b\n");
    drop(folders);
}
