//! A journal in a file survives the process that writes it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use cma_journal::{
    Change, FileError, Journal, Mapped, PART_BYTES, Record, Version, create_file, words_for,
};
use common::configuration;
use std::env;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio, id};
use std::thread::sleep;
use std::time::Duration;

const SLOTS: u32 = 64;
const FILE: &str = "CMA_JOURNAL_OF_TEST";

/// The text of round `number`: long enough for up to five parts.
fn text(number: u64) -> Record {
    let length = (number as usize * 131) % (4 * PART_BYTES);
    configuration(format!("{number} {}", "x".repeat(length)))
}

/// Two records of the same round replace those of the round before, again and again.
#[test]
#[ignore = "the process that is killed; `a_killed_writer_leaves_whole_changes` starts it"]
fn writer() {
    let Ok(path) = env::var(FILE) else {
        println!("skipped: no test has started this process to be killed");
        return;
    };
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let (mut journal, mut live) = Journal::open(Mapped::new(&file).unwrap()).unwrap();
    println!("\nwriting");
    let mut number = live.first().map_or(0, |(_, record)| round(record));
    let mut ids: Vec<_> = live.drain(..).map(|(id, _)| id).collect();
    loop {
        number += 1;
        let mut change = Change::new();
        change.put(text(number)).put(text(number));
        ids.iter().for_each(|id| {
            change.remove(*id);
        });
        ids = journal.commit(&change).unwrap();
    }
}

fn round(record: &Record) -> u64 {
    let Record::Configuration(configuration) = record else { panic!("{record:?}") };
    configuration.text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_killed_writer_leaves_whole_changes() {
    let file = create_file(SLOTS).unwrap();
    drop(Journal::create(Mapped::new(&file).unwrap(), Version::CURRENT).unwrap());
    let mut rounds = 0;
    for kill in 0..20 {
        let mut writer = Command::new(env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture"])
            .env(FILE, format!("/proc/{}/fd/{}", id(), file.as_raw_fd()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "writing"), "the writer began");
        sleep(Duration::from_micros(1000 + 377 * kill));
        writer.kill().unwrap();
        assert_eq!(writer.wait().unwrap().signal(), Some(9), "it wrote until it was killed");

        let (journal, live) = Journal::open(Mapped::new(&file).unwrap()).unwrap();
        let found: Vec<u64> = live.iter().map(|(_, record)| round(record)).collect();
        assert!(found.is_empty() || found.len() == 2 && found[0] == found[1], "{found:?}");
        let last = found.first().copied().unwrap_or(0);
        assert!(last >= rounds, "round {rounds} was recorded, and then {last}");
        assert!(live.iter().all(|(_, record)| *record == text(last)));
        assert_eq!(journal.records(), found.len());
        rounds = last;
    }
    assert!(rounds > 0, "no writer completed a round");
}

#[test]
fn a_file_has_its_size_and_its_memory_from_the_beginning() {
    let file = create_file(SLOTS).unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    let bytes = stat.st_size as usize;
    assert!(bytes >= words_for(SLOTS).unwrap() * 4 && bytes.is_multiple_of(4096), "{bytes}");
    assert!(stat.st_blocks as usize * 512 >= stat.st_size as usize, "{} blocks", stat.st_blocks);
    assert!(rustix::fs::ftruncate(&file, 0).is_err(), "it can be truncated");
    for slots in [0, u32::MAX] {
        assert!(matches!(create_file(slots), Err(FileError::Slots { .. })));
    }
}

#[test]
fn a_file_that_can_shrink_is_refused() {
    let file = file_without_seals();
    assert!(matches!(Mapped::new(&file), Err(FileError::Size { bytes: 0 })));
    rustix::fs::ftruncate(&file, 4096).unwrap();
    assert!(matches!(Mapped::new(&file), Err(FileError::Map(_))));
}

fn file_without_seals() -> std::os::fd::OwnedFd {
    rustix::fs::memfd_create("no journal", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
}
