//! The name, version and description of a plug-in.

use super::*;

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
