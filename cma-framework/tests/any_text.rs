//! Untrusted text is parsed, or refused with the position of the error. No text causes a panic.

use cma_framework::Cma;
use cma_framework::config::{Map, SyntaxError, parse_allocator, parse_regions};
use proptest::prelude::*;

#[test]
fn an_allocator_name_that_registration_refuses_is_refused_with_its_position() {
    for name in ["-", "b\u{fc}ddy", "[x", &"x".repeat(65)] {
        let cma = Cma::new();
        let error = cma.command_line(Some(&format!("b1=32M:{name}")), None).unwrap_err();
        assert!(matches!(error.kind, SyntaxError::BadAllocatorName { .. }), "{error}");
        assert_eq!(error.found(), name);
        assert!(cma.early_regions().is_empty(), "nothing has changed");
    }
}

/// Nearly valid text, so that all parts of the grammar are reached.
fn nearly_valid() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-c]{1,2}",
        "[=@/:;(),|*?-]",
        "[ \\n]",
        "(0x)?[0-9a-f]{1,17}[KMGTPE]?(iB|B)?",
        Just("18446744073709551615".to_string()),
        Just("b\u{fc}ddy".to_string()),
        Just("x".repeat(65)),
        "a=[1-9][KM](@[1-9]G)?(/[48]K)?(:[a-z\\[-]{1,3})?;",
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_text_is_parsed_or_refused_with_a_position(anything in any::<String>(), likely in nearly_valid()) {
        for text in [anything, likely] {
            let cma = Cma::new();
            let regions = cma.command_line(Some(&text), None).err();
            let map = cma.command_line(None, Some(&text)).err();
            prop_assert_eq!(&regions, &parse_regions(&text).err());
            prop_assert_eq!(&map, &Map::parse(&text).err());
            let allocator = parse_allocator(&text).err();
            for error in [regions, map, allocator].into_iter().flatten() {
                prop_assert!(text.get(error.span.clone()).is_some(), "{:?} in {:?}", error.span, text);
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
