//! `Bank::parse_list`: the text of `--banks`.

use super::{grammar, names_its_place, spaced, text, variant};
use crate::{Form, Outcome, Target};
use cma_framework::PAGE_SIZE;
use cma_framework::config::Bank;
use proptest::prelude::*;

pub(super) const TARGET: Target = Target {
    name: "banks",
    about: "memory banks (--banks)",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/banks.dict"),
    check,
};

fn generate() -> BoxedStrategy<Vec<u8>> {
    const BANK: &str =
        "([1-9][0-9]{0,3}[KMG]|0x[1-9a-f]{1,6}000)@(0|0x[0-9a-f]{1,8}000|[1-9][KMGTP])";
    const NEARLY: &str =
        "[0-9.]{0,3}(KiB|MB|[KMGTPE]{0,2})@{0,2}(0x[0-9a-f]{0,18}|[0-9]{0,22})\\PC?";
    let bank = prop_oneof![6 => grammar(BANK), 1 => grammar(NEARLY)];
    (prop::collection::vec(bank, 0..5), grammar("[; ]{0,2}"))
        .prop_map(|(banks, end)| (banks.join(";") + &end).into_bytes())
        .boxed()
}

fn check(input: &[u8]) -> Outcome {
    let text = text(input);
    let banks = match Bank::parse_list(&text) {
        Ok(banks) => banks,
        Err(error) => {
            assert_eq!(error.text, text);
            names_its_place(&text, &error.span, &error.to_string());
            return Outcome::refused(variant(&error.kind));
        }
    };
    assert!(!banks.is_empty(), "{text:?} has no bank");
    for Bank(range) in &banks {
        assert!(range.bytes() > 0, "an empty bank in {text:?}");
        assert_eq!(range.start().get() % PAGE_SIZE, 0);
    }
    let written = banks.iter().map(Bank::to_string).collect::<Vec<_>>().join(";");
    assert_eq!(Bank::parse_list(&written), Ok(banks.clone()), "{text:?} is written as {written:?}");
    assert_eq!(Bank::parse_list(&spaced(&written, &[';'])), Ok(banks.clone()));
    Outcome::accepted(format!("{} banks", banks.len().min(5)))
}
