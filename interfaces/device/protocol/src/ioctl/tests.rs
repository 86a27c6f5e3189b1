use super::*;

/// A structure of layout A, as a C program fills it in.
fn a(device: &[u8], kind: &[u8], size: u64, alignment: u64) -> [u8; BYTES] {
    let mut structure = [0; BYTES];
    structure[..4].copy_from_slice(&MAGIC.to_ne_bytes());
    structure[4..4 + device.len()].copy_from_slice(device);
    structure[21..21 + kind.len()].copy_from_slice(kind);
    structure[40..48].copy_from_slice(&size.to_ne_bytes());
    structure[48..56].copy_from_slice(&alignment.to_ne_bytes());
    structure
}

/// A structure of layout B.
fn b(request: u32, spec: &[u8], size: u64, alignment: u64) -> [u8; BYTES] {
    let mut structure = [0; BYTES];
    structure[..4].copy_from_slice(&MAGIC.to_ne_bytes());
    structure[4..8].copy_from_slice(&request.to_ne_bytes());
    structure[8..16].copy_from_slice(&size.to_ne_bytes());
    structure[16..24].copy_from_slice(&alignment.to_ne_bytes());
    structure[32..32 + spec.len()].copy_from_slice(spec);
    structure
}

#[test]
fn the_ioctl_has_the_published_number() {
    assert_eq!(ALLOC, 0xc040_7000);
}

#[test]
fn both_layouts_are_told_apart_and_read() {
    let from = Source::Device { device: "s3c-mfc5", kind: "f" };
    let in_a = Asked { from, size: 4096, alignment: 8192, start_at: 56 };
    assert_eq!(read(&a(b"s3c-mfc5", b"f", 4096, 8192)), Ok(in_a));
    assert_eq!(read(&b(0, b"s3c-mfc5/f", 4096, 8192)), Ok(Asked { start_at: 24, ..in_a }));
    let regions = Asked { from: Source::Regions("b1,b2"), size: 1, alignment: 0, start_at: 24 };
    assert_eq!(read(&b(1, b"b1,b2", 1, 0)), Ok(regions));
}

#[test]
fn in_layout_b_the_type_is_behind_the_last_slash() {
    for (spec, device, kind) in [("a/b/c", "a/b", "c"), ("a", "a", ""), ("a/", "a", ""), ("/f", "", "f")] {
        let structure = b(0, spec.as_bytes(), 1, 0);
        assert_eq!(read(&structure).unwrap().from, Source::Device { device, kind }, "{spec}");
    }
}

#[test]
fn what_a_first_byte_can_be_decides() {
    assert_eq!(read(&a(b" x", b"", 1, 0)).unwrap().start_at, 56);
    assert_eq!(read(&a("é".as_bytes(), b"", 1, 0)).unwrap().start_at, 56);
    assert_eq!(read(&a(b"", b"", 0, 0)).unwrap().from, Source::Device { device: "", kind: "" });
}

#[test]
fn unknown_requests_ask_for_nothing() {
    for request in [2, 3, 31, 256, 257, 0x0100_0000, u32::from_ne_bytes([0, 1, 0, 0])] {
        assert_eq!(read(&b(request, b"camera", 4096, 0)), Err(Wrong::Invalid), "{request}");
    }
    for request in [32, 33, u32::from(b'c'), 256 + 33, 0x2021, 0x4142_4344, u32::MAX] {
        for spec in ["", "c", "camera", "camera/f", "camera/frame", "a-very-long-device/of-some-type"] {
            for (size, alignment) in [(4096, 0), (1 << 20, 1 << 20), (4096 << 20, 4096)] {
                let structure = b(request, spec.as_bytes(), size, alignment);
                let read = read(&structure);
                // Short ones read as layout A, with a size of 0 or a string that doesn't end.
                let is_invalid = read.map_or_else(|wrong| wrong == Wrong::Invalid, |asked| asked.size == 0);
                assert!(is_invalid, "{request:#x} {spec} {size:#x}: {read:?}");
            }
        }
    }
}

#[test]
fn short_names_are_names_also_where_something_is_left_behind_them() {
    for name in ["c", "fb", "vid", "disp"] {
        let asked = Asked {
            from: Source::Device { device: name, kind: "f" },
            size: 4096,
            alignment: 0,
            start_at: 56,
        };
        let fresh = a(name.as_bytes(), b"f", 4096, 0);
        assert_eq!(read(&fresh), Ok(asked));
        // Of a longer name that stood there before.
        let mut again = a(b"camera-of-before", b"f", 4096, 0);
        again[4..4 + name.len()].copy_from_slice(name.as_bytes());
        again[4 + name.len()] = 0;
        assert_eq!(read(&again), Ok(asked));
        // Of whatever was in memory, in all that nobody writes to.
        let mut stale = fresh;
        stale[4 + name.len() + 1..21].fill(0xaa);
        stale[38..40].fill(0xaa);
        assert_eq!(read(&stale), Ok(asked));
    }
}

#[test]
fn strings_have_to_end_in_their_fields() {
    assert!(read(&a(&[b'x'; 16], &[b'y'; 16], 1, 0)).is_ok());
    assert_eq!(read(&a(&[b'x'; 17], b"f", 1, 0)), Err(Wrong::Invalid));
    assert_eq!(read(&a(b"x", &[b'y'; 17], 1, 0)), Err(Wrong::Invalid));
    assert!(read(&b(0, &[b'x'; 31], 1, 0)).is_ok());
    assert_eq!(read(&b(0, &[b'x'; 32], 1, 0)), Err(Wrong::Invalid));
    assert_eq!(read(&a(b"\xff", b"", 1, 0)), Err(Wrong::Invalid));
}

#[test]
fn another_magic_number_is_seen_first() {
    let mut structure = a(&[b'x'; 17], b"", 0, 0);
    structure[0] ^= 1;
    assert_eq!(read(&structure), Err(Wrong::Magic));
}
