use super::*;
use crate::failure::cma_last_error;
use std::mem::offset_of;

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Three {
    size: u32,
    first: u32,
    second: u64,
    third: u64,
}

// SAFETY: numbers, the size first.
unsafe impl Grows for Three {
    const NAME: &'static str = "three";
    const LEAST: usize = offset_of!(Three, second);
}

const WHOLE: u32 = size_of::<Three>() as u32;

/// Memory of a caller: a structure and what lies behind it.
#[repr(C)]
struct Memory {
    three: Three,
    behind: [u64; 2],
}

fn memory(size: u32) -> Memory {
    Memory { three: Three { size, first: 1, second: 2, third: 3 }, behind: [4, 5] }
}

fn read(memory: &Memory) -> Result<Three, c_int> {
    // SAFETY: there are more bytes than each test says.
    unsafe { read_struct((&raw const *memory).cast::<Three>()) }.map_err(|error| error.errno())
}

fn write(memory: &mut Memory) -> Result<(), c_int> {
    let value = || Ok(Three { size: 0, first: 10, second: 20, third: 30 });
    // SAFETY: as above.
    unsafe { write_struct((&raw mut *memory).cast::<Three>(), value) }
        .map_err(|error| error.errno())
}

#[test]
fn a_field_that_an_older_caller_does_not_have_is_zero() {
    assert_eq!(read(&memory(WHOLE)).unwrap(), Three { size: WHOLE, first: 1, second: 2, third: 3 });
    assert_eq!(read(&memory(16)).unwrap(), Three { size: 16, first: 1, second: 2, third: 0 });
    assert_eq!(read(&memory(8)).unwrap(), Three { size: 8, first: 1, second: 0, third: 0 });
}

#[test]
fn a_field_that_a_newer_caller_has_must_be_zero() {
    let mut newer = memory(WHOLE + 16);
    assert_eq!(read(&newer), Err(libc::E2BIG));
    newer.behind = [0, 1 << 63];
    assert_eq!(read(&newer), Err(libc::E2BIG));
    newer.behind = [0, 0];
    assert_eq!(read(&newer).unwrap().third, 3);
}

#[test]
fn a_size_that_was_never_set_is_refused() {
    assert_eq!(read(&memory(0)), Err(libc::EINVAL));
    assert_eq!(read(&memory(7)), Err(libc::EINVAL));
    assert_eq!(read(&memory(u32::MAX)), Err(libc::E2BIG));
    assert_eq!(write(&mut memory(0)), Err(libc::EINVAL));
    assert_eq!(write(&mut memory(u32::MAX)), Err(libc::E2BIG));
    // SAFETY: null is allowed.
    assert!(unsafe { read_struct::<Three>(ptr::null()) }.is_err());
}

#[test]
fn a_result_fills_no_more_than_the_caller_has() {
    let mut older = memory(16);
    write(&mut older).unwrap();
    assert_eq!(older.three, Three { size: 16, first: 10, second: 20, third: 3 });
    let mut newer = memory(WHOLE + 8);
    write(&mut newer).unwrap();
    assert_eq!(newer.three, Three { size: WHOLE + 8, first: 10, second: 20, third: 30 });
    assert_eq!(newer.behind, [0, 5]);
}

#[test]
fn a_panic_is_an_error_of_the_call() {
    assert_eq!(border("a_call", || panic!("of {}", "glass")), -libc::ENOTRECOVERABLE);
    // SAFETY: a text of the library.
    let text = unsafe { CStr::from_ptr(cma_last_error()) };
    assert_eq!(text.to_str().unwrap(), "defect in libcma: panic: of glass");
}

#[test]
fn a_text_is_written_whole_or_not_at_all() {
    let write = |room: &mut [u8]| {
        let mut length = MaybeUninit::new(0);
        let to = room.as_mut_ptr().cast();
        // SAFETY: the room is the slice.
        let written = unsafe { write_text("abc", to, room.len(), Some(&mut length)) };
        // SAFETY: it has a value from the start.
        (written.map_err(|error| error.errno()), unsafe { length.assume_init() })
    };
    let mut room = [b'x'; 5];
    assert_eq!(write(&mut room[..3]), (Err(libc::ERANGE), 3));
    assert_eq!(&room, b"xxxxx");
    assert_eq!(write(&mut room[..4]), (Ok(()), 3));
    assert_eq!(&room, b"abc\0x");
}
