//! `Limits` of the device server.

use super::{grammar, names_its_place, spaced, text, variant};
use crate::{Form, Outcome, Target};
use cma_device_server::Limits;
use proptest::prelude::*;

pub(super) const TARGET: Target = Target {
    name: "limits",
    about: "limits of the device server (--limits)",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/limits.dict"),
    check,
};

fn generate() -> BoxedStrategy<Vec<u8>> {
    const NEARLY: &str = "[ ]?(user-)?(chunks|bytes|connections|chunk)[ =]=?\
        (0x)?([0-9]{1,4}|[0-9]{18,20})[KMGE]?(iB|B|\u{e9})?[ ]?";
    let names: Vec<&str> = values(&Limits::default()).map(|(name, _)| name).to_vec();
    let named = prop::sample::subsequence(names, 0..=6).prop_shuffle();
    let numbers = prop::collection::vec(grammar("(0x)?[1-9][0-9]{0,4}[KMG]?[ ]?"), 6);
    let right = (named, numbers).prop_map(|(names, numbers)| {
        let limits = names.iter().zip(numbers).map(|(name, number)| format!("{name}={number}"));
        limits.collect::<Vec<_>>()
    });
    let nearly = prop::collection::vec(grammar(NEARLY), 0..7);
    prop_oneof![right, nearly].prop_map(|limits| limits.join(",").into_bytes()).boxed()
}

fn check(input: &[u8]) -> Outcome {
    let text = text(input);
    let limits = match Limits::parse(&text) {
        Ok(limits) => limits,
        Err(error) => {
            assert_eq!(error.text, text);
            names_its_place(&text, &error.span, &error.to_string());
            return Outcome::refused(variant(&error.kind));
        }
    };
    let values = values(&limits);
    for (name, value) in values {
        assert!(value > 0, "{name} is 0");
    }
    let printed: Vec<String> =
        values.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(Limits::parse(&printed.join(",")), Ok(limits.clone()));
    if text.contains(',') {
        assert_eq!(Limits::parse(&spaced(&text, &[','])), Ok(limits.clone()));
        let turned: Vec<&str> = text.split(',').rev().collect();
        assert_eq!(Limits::parse(&turned.join(",")), Ok(limits.clone()), "the order matters");
    }
    let named = text.split(',').filter_map(|limit| limit.split_once('='));
    let named: Vec<&str> = named.map(|(name, _)| name.trim()).collect();
    for ((name, value), (_, default)) in values.iter().zip(self::values(&Limits::default())) {
        assert!(named.contains(name) || *value == default, "{name} changed unasked");
    }
    Outcome::accepted(format!("{} limits", named.len()))
}

fn values(limits: &Limits) -> [(&'static str, u64); 6] {
    [
        ("chunks", limits.process.chunks),
        ("bytes", limits.process.bytes),
        ("user-chunks", limits.user.chunks),
        ("user-bytes", limits.user.bytes),
        ("user-connections", limits.user_connections),
        ("connections", limits.connections),
    ]
}
