//! Files that are mapped as shared bytes.

use cma_shared::{FilePart, MapError, SharedBytes, SharedWords};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

const PAGE: u64 = 4096;

/// A file of that many pages that can't shrink.
fn file(label: &str, pages: u64) -> File {
    let file = unsealed(label, pages);
    fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    file
}

fn unsealed(label: &str, pages: u64) -> File {
    let file = memfd_create(label, MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, pages * PAGE).unwrap();
    file.into()
}

/// Pages of a file.
fn part<F>(file: F, first: u64, pages: u64) -> Result<FilePart<F>, MapError> {
    Ok(FilePart { file, offset: first * PAGE, len: pages * PAGE })
}

/// The number of mappings of files whose name has `label`.
fn mapped(label: &str) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(label)).count()
}

/// The number of descriptors of such files.
fn open(label: &str) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    links
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|path| path.to_string_lossy().contains(label))
        .count()
}

fn message<T>(work: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).err().expect("it panics");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn files_lie_one_behind_the_other_and_both_sides_see_every_byte() {
    let (first, second) = (file("order-a", 2), file("order-b", 5));
    let parts = [part(&first, 0, 2), part(&second, 3, 1), part(&second, 1, 2)];
    let bytes = SharedBytes::map(5 * PAGE, parts).unwrap();
    assert_eq!(bytes.len() as u64, 5 * PAGE);
    assert!(bytes.iter().all(|byte| byte.load(Ordering::Relaxed) == 0));

    // The file at each page of the chunk, and the page's number in it.
    let places = [(&first, 0), (&first, 1), (&second, 3), (&second, 1), (&second, 2)];
    for ((file, page), at) in places.into_iter().zip((0..).step_by(PAGE as usize)) {
        let text: Vec<u8> = (0..PAGE as usize).map(|index| (index * 7 + at / 3) as u8).collect();
        bytes.write(at, &text);
        let mut found = vec![0; PAGE as usize];
        file.read_exact_at(&mut found, page * PAGE).unwrap();
        assert_eq!(found, text);

        file.write_all_at(&text[..100], page * PAGE + 1000).unwrap();
        bytes.read(at + 1000, &mut found[..100]);
        assert_eq!(found[..100], text[..100]);
        assert_eq!(bytes[at + 1099].load(Ordering::Relaxed), text[99]);
    }
    // A copy across the border of two files.
    bytes.write(2 * PAGE as usize - 3, b"border");
    let mut found = [0; 6];
    second.read_exact_at(&mut found[3..], 3 * PAGE).unwrap();
    first.read_exact_at(&mut found[..3], 2 * PAGE - 3).unwrap();
    assert_eq!(&found, b"border");
}

#[test]
fn a_file_that_can_shrink_or_is_too_short_is_refused_and_nothing_stays_mapped() {
    let (good, loose) = (file("refused-good", 2), unsealed("refused-loose", 2));
    let refused = |parts: Vec<Result<FilePart<&File>, MapError>>, pages: u64| {
        let error = SharedBytes::map(pages * PAGE, parts).unwrap_err().to_string();
        assert_eq!(mapped("refused-"), 0, "{error}");
        error
    };
    assert_eq!(
        refused(vec![part(&good, 0, 2), part(&loose, 0, 2)], 4),
        "part 1 of the chunk is a file that is not sealed against shrinking"
    );
    let (pipe, _write) = std::io::pipe().unwrap();
    let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
    assert_eq!(
        refused(vec![part(&pipe, 0, 1)], 1),
        "part 0 of the chunk is a file that is not sealed against shrinking"
    );
    assert_eq!(
        refused(vec![part(&good, 1, 2)], 2),
        "part 0 of the chunk ends at byte 12288 of a file of 8192 bytes"
    );
    assert_eq!(
        refused(vec![part(&good, u64::MAX / PAGE, 1)], 1),
        "part 0 of the chunk ends at byte 18446744073709551615 of a file of 8192 bytes"
    );
    assert_eq!(
        refused(vec![part(&good, 0, 1)], 2),
        "the parts of a chunk of 8192 bytes have 4096 bytes"
    );
    assert_eq!(
        refused(vec![part(&good, 0, 1), part(&good, 0, 2)], 2),
        "the parts of a chunk of 8192 bytes have 12288 bytes"
    );
    assert_eq!(refused(vec![], 0), "the parts of a chunk of 0 bytes have 0 bytes");
    assert_eq!(
        refused(vec![part(&good, 0, 0), part(&good, 0, 1)], 1),
        "mmap: Invalid argument (os error 22)"
    );
    let missing = MapError::System { call: "open", source: std::io::ErrorKind::NotFound.into() };
    assert_eq!(refused(vec![part(&good, 0, 1), Err(missing)], 2), "open: entity not found");
}

/// The kernel maps a whole page for a part of one. With huge pages that reaches beyond the
/// addresses that the chunk has reserved, over whatever this process has mapped there.
#[test]
fn a_part_that_is_not_whole_pages_of_its_file_is_refused_and_nothing_stays_mapped() {
    const HUGE: u64 = 2 << 20;
    let refused = |file: &File, offset, len| {
        let part = Ok::<_, MapError>(FilePart { file, offset, len });
        let error = SharedBytes::map(len, [part]).unwrap_err().to_string();
        assert_eq!(mapped("whole-"), 0, "{error}");
        error
    };
    let small = file("whole-small", 2);
    assert_eq!(
        refused(&small, 0, PAGE + 4),
        "part 0 of the chunk, 4100 bytes at byte 0, is not whole pages of 4096 bytes"
    );
    assert_eq!(
        refused(&small, 4, PAGE),
        "part 0 of the chunk, 4096 bytes at byte 4, is not whole pages of 4096 bytes"
    );
    let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let huge: File = match memfd_create("whole-huge", flags) {
        Ok(file) => file.into(),
        Err(why) => {
            std::io::stderr()
                .write_all(format!("SKIPPED: no files of huge pages of 2 MiB: {why}\n").as_bytes())
                .unwrap();
            return;
        }
    };
    ftruncate(&huge, 2 * HUGE).unwrap();
    fcntl_add_seals(&huge, SealFlags::SHRINK).unwrap();
    assert_eq!(
        refused(&huge, 0, PAGE),
        "part 0 of the chunk, 4096 bytes at byte 0, is not whole pages of 2097152 bytes"
    );
    assert_eq!(
        refused(&huge, HUGE / 2, HUGE),
        "part 0 of the chunk, 2097152 bytes at byte 1048576, is not whole pages of 2097152 bytes"
    );
}

#[test]
fn a_chunk_of_any_number_of_files_takes_two_descriptors_while_it_is_mapped() {
    const FILES: u64 = 3000;
    let made = (0..FILES).map(|number| {
        assert!(open("descriptors") <= 1, "at file {number}");
        let file = file("descriptors", 1);
        file.write_all_at(&number.to_ne_bytes(), 8).unwrap();
        part(file, 0, 1)
    });
    let bytes = SharedBytes::map(FILES * PAGE, made).unwrap();
    assert_eq!(open("descriptors"), 0);
    for number in 0..FILES {
        let mut found = [0; 8];
        bytes.read((number * PAGE) as usize + 8, &mut found);
        assert_eq!(u64::from_ne_bytes(found), number);
    }
}

#[test]
fn parts_are_disjoint_and_the_last_one_ends_the_mapping() {
    let file = file("lifetime", 2);
    let bytes = SharedBytes::map(2 * PAGE, [part(&file, 0, 2)]).unwrap();
    let (head, frames) = bytes.split_at(8);
    let words: SharedWords = head.into_words();
    assert_eq!((words.len(), frames.len() as u64), (2, 2 * PAGE - 8));
    words[1].store(0x0403_0201, Ordering::Release);
    frames.write(0, &[5, 6]);
    let mut found = [0; 6];
    file.read_exact_at(&mut found, 4).unwrap();
    assert_eq!(found[..4], 0x0403_0201_u32.to_ne_bytes());
    assert_eq!(found[4..], [5, 6]);

    drop(words);
    assert_eq!(mapped("lifetime"), 1);
    let (none, frames) = frames.split_at(0);
    assert!(none.is_empty());
    drop(frames);
    assert_eq!(mapped("lifetime"), 1);
    drop(none);
    assert_eq!(mapped("lifetime"), 0);
}

#[test]
fn an_access_outside_the_part_panics_and_changes_nothing() {
    let file = file("outside", 1);
    let bytes = SharedBytes::map(PAGE, [part(&file, 0, 1)]).unwrap();
    let (head, mut tail) = bytes.split_at(100);
    assert_eq!(message(|| head.write(90, &[1; 11])), "11 bytes at 90 are not within 100 bytes");
    assert_eq!(
        message(|| head.read(usize::MAX, &mut [0; 2])),
        format!("2 bytes at {} are not within 100 bytes", usize::MAX)
    );
    // SAFETY: this test alone has the file.
    assert!(unsafe { tail.as_slice() }.iter().all(|byte| *byte == 0));
    // SAFETY: as above.
    unsafe { tail.as_mut_slice() }.fill(7);
    assert!(head.iter().all(|byte| byte.load(Ordering::Relaxed) == 0));
    assert_eq!(message(|| head.split_at(101)), "byte 101 is not within 100 bytes");
    let (odd, _) = tail.split_at(2);
    assert_eq!(
        message(|| odd.into_words()),
        "bytes 100 to 102 of a chunk are not whole words of 4 bytes"
    );
}

#[test]
fn threads_that_copy_at_the_same_time_never_see_a_byte_that_nobody_wrote() {
    let file = file("race", 1);
    let bytes = SharedBytes::map(PAGE, [part(&file, 0, 1)]).unwrap();
    bytes.write(0, &[1; PAGE as usize]);
    std::thread::scope(|threads| {
        for value in [1, 2] {
            let bytes = &bytes;
            threads.spawn(move || (0..2000).for_each(|_| bytes.write(0, &[value; PAGE as usize])));
        }
        let mut found = vec![0; PAGE as usize];
        for _ in 0..2000 {
            bytes.read(0, &mut found);
            assert!(found.iter().all(|byte| matches!(byte, 1 | 2)));
        }
    });
}
