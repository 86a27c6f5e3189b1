use super::*;
use crate::{
    Answer, ChunkAnswer, ChunkRequest, Extent, InfoAnswer, ListedChunk, MAX_ATTRIBUTE_BYTES,
    MAX_EXTENTS, MAX_LISTED, MAX_TEXT, NamesTooLong, RegionSelector, Request, TextAnswer,
};
use proptest::prelude::*;
use std::time::Duration;

/// Any [`RegionSelector`]: whether it names regions, and its texts.
fn sources() -> impl Strategy<Value = (bool, String, String)> {
    (any::<bool>(), ".{0,60}", ".{0,50}")
}

fn source((regions, first, second): &(bool, String, String)) -> RegionSelector<'_> {
    if *regions {
        RegionSelector::Regions(first)
    } else {
        RegionSelector::Device { device: first, kind: second }
    }
}

/// Any [`ChunkRequest`].
fn chunk_requests() -> impl Strategy<Value = ChunkRequest> {
    (any::<[u64; 2]>(), any::<[Option<u64>; 5]>()).prop_map(
        |([size, alignment], [above, below, boundary, at, wait])| ChunkRequest {
            size,
            alignment,
            above,
            below,
            boundary,
            at,
            wait: wait.map(Duration::from_micros),
        },
    )
}

fn chunks() -> impl Strategy<Value = ChunkAnswer> {
    let extents = prop::collection::vec(any::<[u64; 3]>(), 0..=MAX_EXTENTS);
    (any::<[u64; 5]>(), extents).prop_map(|([start, size, granule, pieces, first], extents)| {
        let extents =
            extents.into_iter().map(|[count, offset, len]| Extent { count, offset, len }).collect();
        ChunkAnswer { start, size, granule, pieces, first, extents }
    })
}

fn listed() -> impl Strategy<Value = Vec<ListedChunk>> {
    let one = (any::<[u64; 3]>(), any::<u32>(), any::<bool>());
    let one = one.prop_map(|([number, start, size], pid, left_behind)| ListedChunk {
        number,
        start,
        size,
        pid,
        left_behind,
    });
    prop::collection::vec(one, 0..=MAX_LISTED)
}

fn assert_decodes(id: u64, answer: &Answer<'_>) {
    assert_eq!(Message::answer(id, answer).as_answer().as_ref(), Ok(&(id, answer.clone())));
}

proptest! {
    #[test]
    fn requests_are_decoded_as_they_were_encoded(
        id: u64,
        from in sources(),
        chunk in chunk_requests(),
        memory: bool,
        number: u64,
        file: u128,
        path in ".{0,100}",
    ) {
        let from = source(&from);
        let alloc = Request::Alloc { from, chunk, memory };
        let ChunkRequest { size, alignment, .. } = chunk;
        let of_file =
            [Request::AllocFile { file, from, size, alignment }, Request::ChunkOfFile { file, first: number }];
        let others = [
            Request::Free,
            Request::Chunk { first: number },
            Request::List { after: number },
            Request::Attribute { path: &path },
        ];
        for request in others.into_iter().chain([alloc, Request::Info(from)]).chain(of_file) {
            let message = Message::request(id, &request).unwrap();
            prop_assert_eq!(message.as_request(), Ok((id, request)));
            let is_answer = !matches!(message.as_answer(), Err(Malformed::Kind { .. }));
            prop_assert!(!is_answer);
        }
    }

    #[test]
    fn answers_are_decoded_as_they_were_encoded(
        id: u64,
        chunk in chunks(),
        numbers: [u64; 6],
        listed in listed(),
        more: bool,
        bytes in 0..=MAX_ATTRIBUTE_BYTES,
        errno in 1..4096_i32,
        reason in ".{0,80}",
    ) {
        let [first_page, span_pages, total_bytes, free_bytes, regions, granule_bytes] = numbers;
        assert_decodes(id, &Answer::Chunk(chunk));
        assert_decodes(id, &Answer::Info(InfoAnswer {
            first_page, span_pages, total_bytes, free_bytes, regions, granule_bytes,
        }));
        assert_decodes(id, &Answer::Listed(listed.into_iter().collect(), more));
        assert_decodes(id, &Answer::Text(TextAnswer { bytes, is_folder: more }));
        assert_decodes(id, &Answer::Freed);
        assert_decodes(id, &Answer::Refused { errno, reason: &reason });
    }

    /// Any bytes are decoded or refused, and encoding what was decoded gives the same bytes.
    #[test]
    fn any_message_that_is_decoded_is_encoded_to_the_same_bytes(
        kind in prop_oneof![0..10_u16, 0x8000..0x8008_u16, any::<u16>()],
        body in prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => Just(1), 1 => any::<u8>()], 0..MESSAGE_BYTES - HEAD),
    ) {
        let mut message = Message::empty(kind, 1);
        message.body()[..body.len()].copy_from_slice(&body);
        if let Ok((id, request)) = message.as_request() {
            prop_assert_eq!(&Message::request(id, &request).unwrap(), &message);
        }
        if let Ok((id, answer)) = message.as_answer() {
            prop_assert_eq!(&Message::answer(id, &answer), &message);
        }
    }
}

#[test]
fn the_longest_names_fit_and_longer_ones_are_refused() {
    let names = "n".repeat(MAX_TEXT + 1);
    let limits = ChunkRequest::new(u64::MAX).aligned(1).above(2).below(3).boundary(4).at(5);
    let chunk = limits.wait(Duration::MAX);
    let sent = limits.wait(Duration::from_micros(u64::MAX));
    let fits = RegionSelector::Regions(&names[1..]);
    let message = Message::request(1, &Request::Alloc { from: fits, chunk, memory: true }).unwrap();
    assert_eq!(
        message.as_request(),
        Ok((1, Request::Alloc { from: fits, chunk: sent, memory: true }))
    );
    let longer = RegionSelector::Device { device: &names[..MAX_TEXT], kind: "k" };
    for request in [
        Request::Alloc { from: longer, chunk, memory: true },
        Request::AllocFile { file: 7, from: longer, size: 1, alignment: 0 },
        Request::Info(longer),
        Request::Attribute { path: &names },
    ] {
        let refused = Message::request(1, &request);
        assert_eq!(refused, Err(NamesTooLong { bytes: MAX_TEXT + 1 }));
    }
}

#[test]
fn a_limit_without_its_flag_and_an_unknown_flag_are_refused() {
    let from = RegionSelector::Regions("b1");
    let chunk = ChunkRequest::new(1).below(4096);
    let message = Message::request(1, &Request::Alloc { from, chunk, memory: true }).unwrap();
    let with_flags = |flags: u32| {
        let mut message = message.clone();
        message.body()[..4].copy_from_slice(&flags.to_ne_bytes());
        message
    };
    assert_eq!(with_flags(0b00101), message);
    assert_eq!(with_flags(0b00001).as_request(), Err(Malformed::Unset));
    assert_eq!(with_flags(0b1000101).as_request(), Err(Malformed::Flag));
}

#[test]
fn a_reason_is_truncated_at_the_end_of_a_character() {
    let reason = "é".repeat(400);
    let message = Message::refusal(1, 12, &reason);
    let Ok((1, Answer::Refused { errno: 12, reason: cut })) = message.as_answer() else {
        panic!("{message:?} is not a refusal");
    };
    assert!(reason.starts_with(cut));
    assert!(cut.len() > MESSAGE_BYTES - HEAD - 12, "{}", cut.len());
}

#[test]
fn a_message_of_another_magic_version_or_length_is_refused() {
    let message = Message::request(1, &Request::Free).unwrap();
    let changed = |at: usize| {
        let mut message = message.clone();
        message.0[at] ^= 1;
        message
    };
    assert!(matches!(changed(0).as_request(), Err(Malformed::Magic { .. })));
    let theirs = u16::from_ne_bytes([changed(4).0[4], changed(4).0[5]]);
    assert_eq!(changed(4).as_request(), Err(Malformed::Version { theirs }));
    assert_eq!(changed(MESSAGE_BYTES - 1).as_request(), Err(Malformed::LeftOver));
    for bytes in [0, 1, MESSAGE_BYTES - 1, MESSAGE_BYTES + 1] {
        assert_eq!(Message::from_bytes(&vec![0; bytes]), Err(Malformed::Length { bytes }));
    }
}
