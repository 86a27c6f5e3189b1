use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// A structure of layout A, filled in by `strcpy` over `before`.
fn a_over(
    before: [u8; BYTES],
    device: &[u8],
    kind: &[u8],
    size: u64,
    alignment: u64,
) -> [u8; BYTES] {
    let mut structure = before;
    structure[..4].copy_from_slice(&MAGIC.to_ne_bytes());
    for (at, text) in [(4, device), (21, kind)] {
        structure[at..at + text.len()].copy_from_slice(text);
        if text.len() < 17 {
            structure[at + text.len()] = 0;
        }
    }
    structure[40..48].copy_from_slice(&size.to_ne_bytes());
    structure[48..56].copy_from_slice(&alignment.to_ne_bytes());
    structure
}

/// A structure of layout A in zeroed memory.
fn a(device: &[u8], kind: &[u8], size: u64, alignment: u64) -> [u8; BYTES] {
    a_over([0; BYTES], device, kind, size, alignment)
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

/// Whether a structure is decoded to these names, size and alignment, in the layout of `start_at`.
fn is(
    structure: [u8; BYTES],
    from: RegionSelector<'_>,
    size: u64,
    alignment: u64,
    start_at: usize,
) -> bool {
    let request = read(&structure).unwrap();
    (request.from(), request.size, request.alignment, request.start_at)
        == (from, size, alignment, start_at)
}

#[test]
fn the_ioctl_has_the_published_number() {
    assert_eq!(ALLOC, 0xc040_7000);
}

#[test]
fn both_layouts_are_recognised_and_decoded() {
    let from = RegionSelector::Device { device: "s3c-mfc5", kind: "f" };
    assert!(is(a(b"s3c-mfc5", b"f", 4096, 8192), from, 4096, 8192, 56));
    assert!(is(b(0, b"s3c-mfc5/f", 4096, 8192), from, 4096, 8192, 24));
    assert!(is(b(1, b"b1,b2", 1, 0), RegionSelector::Regions("b1,b2"), 1, 0, 24));
}

#[test]
fn in_layout_b_the_type_follows_the_last_slash() {
    for (spec, device, kind) in
        [("a/b/c", "a/b", "c"), ("a", "a", ""), ("a/", "a", ""), ("/f", "", "f")]
    {
        let structure = b(0, spec.as_bytes(), 1, 0);
        assert_eq!(
            read(&structure).unwrap().from(),
            RegionSelector::Device { device, kind },
            "{spec}"
        );
    }
}

#[test]
fn a_first_byte_that_is_no_control_character_means_layout_a() {
    assert_eq!(read(&a(b" x", b"", 1, 0)).unwrap().start_at, 56);
    assert_eq!(read(&a("é".as_bytes(), b"", 1, 0)).unwrap().start_at, 56);
    assert_eq!(
        read(&a(b"", b"", 0, 0)).unwrap().from(),
        RegionSelector::Device { device: "", kind: "" }
    );
}

#[test]
fn unknown_requests_are_invalid() {
    let others =
        [100, 255, 256, 257, 0x6163, 0x6d_6163, 0x0100_0000, 0x4142_4344, 0x6d69_6373, u32::MAX];
    for request in (2..100).chain(others).chain([u32::from_ne_bytes([0, 1, 0, 0]), u32::from(b'c')])
    {
        for spec in
            ["camera", "camera/frame", "camera/frame,0123456789abcdefgh", "c", "/", "\u{e9}"]
        {
            assert_eq!(
                read(&b(request, spec.as_bytes(), 4096, 0)),
                Err(IoctlError::Invalid),
                "{request} {spec}"
            );
        }
    }
}

#[test]
fn strings_must_end_in_their_fields() {
    assert!(read(&a(&[b'x'; 16], &[b'y'; 16], 1, 0)).is_ok());
    assert_eq!(read(&a(&[b'x'; 17], b"f", 1, 0)), Err(IoctlError::Invalid));
    assert_eq!(read(&a(b"x", &[b'y'; 17], 1, 0)), Err(IoctlError::Invalid));
    assert!(read(&b(0, &[b'x'; 31], 1, 0)).is_ok());
    assert_eq!(read(&b(0, &[b'x'; 32], 1, 0)), Err(IoctlError::Invalid));
}

#[test]
fn each_byte_that_is_not_utf8_becomes_a_replacement_character() {
    let from = RegionSelector::Device { device: "cam\u{fffd}ra", kind: "\u{fffd}\u{fffd}" };
    assert!(is(a(b"cam\xe9ra", b"\xe9\xff", 1, 0), from, 1, 0, 56));
    assert!(is(b(0, b"cam\xe9ra/\xe9\xff", 1, 0), from, 1, 0, 24));
    assert!(is(b(1, b"b1,\xe9", 1, 0), RegionSelector::Regions("b1,\u{fffd}"), 1, 0, 24));
    // Each byte of an incomplete character is replaced; whole characters stay.
    let from = RegionSelector::Device { device: "\u{fffd}\u{fffd}", kind: "é" };
    assert!(is(a(b"\xe2\x82", "é".as_bytes(), 1, 0), from, 1, 0, 56));
    // The longest names.
    assert!(read(&a(&[0xff; 16], &[0xff; 16], 1, 0)).is_ok());
    assert!(read(&b(0, &[0xff; 31], 1, 0)).is_ok());
}

#[test]
fn the_magic_number_is_checked_first() {
    let mut structure = a(&[b'x'; 17], b"", 0, 0);
    structure[0] ^= 1;
    assert_eq!(read(&structure), Err(IoctlError::Magic));
}

#[test]
fn a_structure_is_decoded_after_a_shorter_name_was_copied_over_a_longer_one() {
    for longer in ["camera", "video-decoder", "0123456789abcdef"] {
        for kind in ["", "frame", "@@"] {
            let before = a(longer.as_bytes(), kind.as_bytes(), 1 << 20, 4096);
            let again = a_over(before, b"cam", b"", 4096, 0);
            assert!(
                is(again, RegionSelector::Device { device: "cam", kind: "" }, 4096, 0, 56),
                "{longer} {kind}"
            );
        }
    }
}

/// A name or a type, as in a map.
fn word(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![b'a'..=b'z', b'0'..=b'9', Just(b'-'), Just(b'.'), Just(0xe9)], length)
}

fn alignment() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), (0..40_u32).prop_map(|bit| 1 << bit)]
}

/// Uninitialised stack memory: any bytes, many of them zero.
fn before() -> impl Strategy<Value = [u8; BYTES]> {
    let slot =
        prop_oneof![Just([0; 8]), any::<[u8; 8]>(), (0..1_u64 << 47).prop_map(u64::to_ne_bytes)];
    vec(slot, BYTES / 8).prop_map(|slots| std::array::from_fn(|i| slots[i / 8][i % 8]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn an_unknown_request_is_invalid_whatever_the_spec(
        request in prop_oneof![2..300_u32, 2..1_u32 << 24, 2..=u32::MAX],
        size in 1..1_u64 << 40,
        alignment in alignment(),
        start in any::<u64>(),
        spec in any::<[u8; 32]>(),
        text in word(1..32),
        is_text in any::<bool>(),
    ) {
        let text = if is_text { &text[..] } else { &spec[..] };
        prop_assume!(text[0] != 0);
        // The size's first byte must end a name of four letters or more.
        let size = if request.to_ne_bytes().contains(&0) { size } else { size << 8 };
        let mut structure = b(request, text, size, alignment);
        structure[24..32].copy_from_slice(&start.to_ne_bytes());
        prop_assert_eq!(read(&structure), Err(IoctlError::Invalid));
    }

    #[test]
    fn a_known_request_is_decoded_in_layout_b(
        request in 0..2_u32, size: u64, alignment: u64, start: u64, spec in word(0..32),
    ) {
        let mut structure = b(request, &spec, size, alignment);
        structure[24..32].copy_from_slice(&start.to_ne_bytes());
        let request = read(&structure).unwrap();
        prop_assert_eq!((request.size, request.alignment, request.start_at), (size, alignment, 24));
    }

    #[test]
    fn layout_a_in_zeroed_memory_is_decoded(
        device in word(1..17), kind in word(0..17), size: u64, alignment: u64, start: u64, pad: u16,
    ) {
        let mut structure = a(&device, &kind, size, alignment);
        structure[38..40].copy_from_slice(&pad.to_ne_bytes());
        structure[56..].copy_from_slice(&start.to_ne_bytes());
        let request = read(&structure).unwrap();
        prop_assert_eq!((request.size, request.alignment, request.start_at), (size, alignment, 56));
    }

    #[test]
    fn layout_a_in_any_memory_is_decoded_if_it_has_a_long_name_or_a_type(
        before in before(), device in word(1..17), kind in word(0..17), size: u64, alignment: u64,
    ) {
        prop_assume!(device.len() > 4 || !kind.is_empty());
        let request = read(&a_over(before, &device, &kind, size, alignment)).unwrap();
        prop_assert_eq!((request.size, request.alignment, request.start_at), (size, alignment, 56));
    }

    #[test]
    fn layout_a_in_any_memory_is_refused_only_if_its_bytes_are_layout_b(
        before in before(), device in word(1..5), size: u64, alignment: u64,
    ) {
        let structure = a_over(before, &device, b"", size, alignment);
        let as_b = u64::from_ne_bytes(part(&structure, 16));
        let same = part(&structure, 8) != [0; 8] && (as_b == 0 || as_b.is_power_of_two()) && structure[32] != 0;
        match read(&structure) {
            Ok(request) => prop_assert!(!same && (request.size, request.start_at) == (size, 56)),
            Err(wrong) => prop_assert!(same && wrong == IoctlError::Invalid),
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(mut structure: [u8; BYTES], is_ours: bool) {
        if is_ours {
            structure[..4].copy_from_slice(&MAGIC.to_ne_bytes());
        }
        if let Ok(request) = read(&structure) {
            let (size, alignment) = (request.size, request.alignment);
            let message = crate::Request::AllocFile { file: 1, from: request.from(), size, alignment };
            prop_assert!(crate::Message::request(1, &message).is_ok());
        }
    }
}
