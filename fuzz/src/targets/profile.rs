//! Profiles of the allocator packing.

use super::{grammar, text};
use crate::{Form, Outcome, Target};
use cma_packing::{Profile, ProfileError};
use proptest::prelude::*;

pub(super) const TARGET: Target = Target {
    name: "profile",
    about: "profiles of packing (profile=FILE)",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/profile.dict"),
    check,
};

fn generate() -> BoxedStrategy<Vec<u8>> {
    let number = || grammar("[0-9]{1,2}(\\.[0-9]{1,3})?|[0-9]{0,3}\\.?[0-9]{0,3}e?");
    let keys = ["steepness", "share", "steepest", "own-grade"];
    let numbers = prop::collection::vec(number(), 4).prop_map(move |numbers| {
        let lines = keys.iter().zip(numbers).map(|(key, number)| format!("{key} = {number}\n"));
        lines.collect::<String>()
    });
    let right = (1..900_u32, 1..3000_u32, 1..99_u32).prop_map(|(share, pages, requests)| {
        format!("after {requests} = {pages}:{share} {}:{}\n", 2 * pages, 1000 - share)
    });
    let nearly =
        grammar("(after|afer) ?[0-9]{0,3} ?=( [0-9]{1,4}:[0-9]{2,4}){0,4}\n|# [ -~]{0,9}\n");
    let beginnings = prop::collection::vec(prop_oneof![4 => right, 1 => nearly], 0..4);
    let header = prop_oneof![9 => Just("# cma-packing-profile 1\n"), 1 => Just("")];
    let profile = (header, numbers, beginnings);
    profile
        .prop_map(|(one, two, three)| format!("{one}{two}{}", three.concat()).into_bytes())
        .boxed()
}

fn check(input: &[u8]) -> Outcome {
    let text = text(input);
    let profile: Profile = match text.parse() {
        Ok(profile) => profile,
        Err(ProfileError { line, reason }) => {
            let lines = text.lines().count().max(1);
            assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{line:?}: {reason}");
            assert!(reason.len() < 400 && !reason.contains('\n'), "{reason}");
            let class: String = reason.split(['"', '0', '1']).take(3).step_by(2).collect();
            return Outcome::refused(class);
        }
    };
    let requests: Vec<u64> = profile.beginnings.iter().map(|one| one.requests).collect();
    assert!(!requests.is_empty() && requests.is_sorted_by(|one, other| one < other));
    let printed = profile.to_string();
    let again: Profile = printed.parse().unwrap_or_else(|error| panic!("{error}: {printed}"));
    assert_eq!(again.rule, profile.rule);
    for (one, other) in again.beginnings.iter().zip(&profile.beginnings) {
        let distance = one.sizes.distance(&other.sizes);
        assert!(distance < 0.04, "{distance} beside {printed}");
    }
    Outcome::accepted(format!("{} beginnings", requests.len()))
}
