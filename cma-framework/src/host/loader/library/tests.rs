//! The summary of layout reports, and foreign text as one line.

use super::*;

/// The form of abi_stable's report: every type that contains a difference with its whole layout,
/// then the difference.
const REPORT: &str = "Compared <this>:
    --- Type Layout ---
    type:PrefixRef<'a, AllocatorModule>
0 error(s).

2 error(s)inside:
    <other>

    field_name:0
    type:AllocatorModule

    field_name:region
    type:PageRange
    size:8 align:4

Layout of expected type:
    --- Type Layout ---
    type:Deceptive

Error:incompatible type size
Expected:
    16
Found:
    8

Error:incompatible type alignment
Expected:
    8
Found:
    4
1 error(s)inside:
    <other>

    field_name:first
    type:u32

Layout of expected type:
    type:u64

Error:mismatched type
Expected:
    u64
Found:
    u32
";

#[test]
fn a_layout_report_is_reduced_to_its_differences() {
    let expected = [
        "in PageRange, incompatible type size: expected 16, found 8",
        "in PageRange, incompatible type alignment: expected 8, found 4",
        "in u32, mismatched type: expected u64, found u32",
    ];
    assert_eq!(differences(REPORT), expected);
}

#[test]
fn the_summary_of_many_differences_counts_those_left_out() {
    let all = differences(&REPORT.repeat(3));
    assert_eq!(all.len(), 5);
    assert_eq!(all[4], "and 5 more");
}

#[test]
fn foreign_text_becomes_one_line_of_bounded_length() {
    assert_eq!(one_line("\n it\twants\r\n\x1b[1mmore\n"), "it wants [1mmore");
    let long = one_line(&"\u{e9}".repeat(1000));
    assert_eq!(long, "\u{e9}".repeat(300) + " ...");
}
