//! The name, version and description of a plug-in, and work in parallel.

use super::*;
use std::time::Duration;

#[test]
fn a_name_is_one_word_that_cma_text_can_contain() {
    for good in ["best-fit", "x", "tlsf.2", "a_b", "--", "#1"] {
        assert_eq!(allocator_name_fault(good), None, "{good}");
    }
    for bad in "= @ / : ; ( ) , [ ]".split(' ') {
        let fault = allocator_name_fault(&format!("a{bad}b")).unwrap_or_default();
        assert!(fault.contains(bad), "{bad}: {fault}");
    }
    for bad in ["a b", " a", "a\n", "\u{a0}", "\u{e9}", "\0", "\x1b[1m"] {
        assert!(
            allocator_name_fault(bad).is_some_and(|fault| fault.contains("white space")),
            "{bad:?}"
        );
    }
    assert_eq!(allocator_name_fault(""), Some("is empty"));
    assert_eq!(allocator_name_fault("-"), Some("stands for an allocator without a name"));
    assert_eq!(allocator_name_fault(&"x".repeat(64)), None);
    assert_eq!(allocator_name_fault(&"x".repeat(65)), Some("is longer than 64 bytes"));
}

#[test]
fn a_version_or_description_is_one_line() {
    assert_eq!(text_fault("two \u{e9}lan vital"), None);
    assert_eq!(text_fault(""), Some("is empty"));
    for bad in ["one\ntwo", "\x07", "a\tb"] {
        assert!(
            text_fault(bad).is_some_and(|fault| fault.contains("more than one line")),
            "{bad:?}"
        );
    }
    assert!(text_fault(&"x".repeat(257)).is_some());
}

#[test]
fn results_of_parallel_work_are_in_the_order_of_the_items() {
    // So long that every thread gets some of the items.
    let slowly = |item: u64| {
        thread::sleep(Duration::from_millis(2));
        item * 10
    };
    for count in [0, 1, 2, 40] {
        let expected: Vec<_> = (0..count).map(|item| item * 10).collect();
        assert_eq!(in_parallel((0..count).collect(), slowly), expected);
    }
}

#[test]
#[should_panic(expected = "item 3")]
fn a_panic_of_parallel_work_is_passed_on() {
    in_parallel((0..8).collect(), |item| assert!(item != 3, "item {item}"));
}
