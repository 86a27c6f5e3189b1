//! `Message`, sent between clients and the device server.

use super::{grammar, variant};
use crate::{Form, Outcome, Target};
use cma_device_protocol::{
    Answer, ChunkRequest, MESSAGE_BYTES, Malformed, Message, RegionSelector, Request,
};
use proptest::prelude::*;

pub(super) const TARGET: Target = Target {
    name: "message",
    about: "messages of the device protocol, requests and answers",
    form: Form::Binary,
    generate,
    dictionary: include_str!("../../dictionary/message.dict"),
    check,
};

fn generate() -> BoxedStrategy<Vec<u8>> {
    let texts = (grammar("\\PC{0,40}"), grammar("[a-z]{0,4}"));
    let request = (0..8_u8, any::<(u64, u64, u64, u128)>(), texts, any::<bool>()).prop_map(
        |(which, (id, size, alignment, file), (first, second), yes)| {
            let from = if yes {
                RegionSelector::Device { device: &first, kind: &second }
            } else {
                RegionSelector::Regions(&first)
            };
            let request = match which {
                0 => {
                    let chunk = ChunkRequest::new(size).aligned(alignment).below(size);
                    Request::Alloc { from, chunk, memory: yes }
                }
                1 => Request::Free,
                2 => Request::Chunk { first: size },
                3 => Request::Info(from),
                4 => Request::List { after: size },
                5 => Request::AllocFile { file, from, size, alignment },
                6 => Request::ChunkOfFile { file, first: size },
                _ => Request::Attribute { path: &first },
            };
            match Message::request(id, &request) {
                Ok(message) => message.as_bytes().to_vec(),
                Err(error) => panic!("the names of a generated request fit: {error}"),
            }
        },
    );
    // A body of small numbers, which are counts, lengths and flags somewhere.
    let kind = prop_oneof![0..10_u16, 0x8000..0x8007_u16];
    let words = prop::collection::vec(prop_oneof![3 => 0..20_u32, 1 => any::<u32>()], 0..124);
    let answer = (kind, words).prop_map(|(kind, words)| {
        let mut bytes = Message::answer(1, &Answer::Freed).as_bytes().to_vec();
        bytes[6..8].copy_from_slice(&kind.to_ne_bytes());
        for (place, word) in bytes[16..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    });
    prop_oneof![request, answer].boxed()
}

fn check(input: &[u8]) -> Outcome {
    let message = match Message::from_bytes(input) {
        Ok(message) => {
            assert_eq!(message.as_bytes(), input);
            message
        }
        Err(error) => {
            assert_eq!(error, Malformed::Length { bytes: input.len() });
            // The same bytes are tested in a message of the right length.
            let mut bytes = input.to_vec();
            bytes.resize(MESSAGE_BYTES, 0);
            match Message::from_bytes(&bytes) {
                Ok(message) => message,
                Err(error) => panic!("{MESSAGE_BYTES} bytes are refused: {error}"),
            }
        }
    };
    match (message.as_request(), message.as_answer()) {
        (Ok(request), Ok(answer)) => panic!("{request:?} is also {answer:?}"),
        (Ok((id, request)), Err(_)) => {
            assert_eq!(id, message.id());
            assert_eq!(Message::request(id, &request).as_ref(), Ok(&message), "{request:?}");
            Outcome::accepted(format!("request {}", variant(&request)))
        }
        (Err(_), Ok((id, answer))) => {
            assert_eq!(id, message.id());
            assert_eq!(Message::answer(id, &answer), message, "{answer:?}");
            Outcome::accepted(format!("answer {}", variant(&answer)))
        }
        (Err(request), Err(answer)) => {
            super::is_one_line(&request.to_string());
            super::is_one_line(&answer.to_string());
            Outcome::refused(format!("{} {}", variant(&request), variant(&answer)))
        }
    }
}
