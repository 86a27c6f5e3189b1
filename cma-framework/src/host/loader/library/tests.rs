//! The short form of long reports.

use super::*;

/// The form of abi_stable's report: every type on the way to a difference with its whole layout,
/// then what differs.
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
fn a_layout_report_is_cut_down_to_what_differs_where() {
    let expected = [
        "in PageRange, incompatible type size: expected 16, found 8",
        "in PageRange, incompatible type alignment: expected 8, found 4",
        "in u32, mismatched type: expected u64, found u32",
    ];
    assert_eq!(differences(REPORT), expected);
}

#[test]
fn a_layout_report_with_many_differences_says_how_many_there_are() {
    let all = differences(&REPORT.repeat(3));
    assert_eq!(all.len(), 5);
    assert_eq!(all[4], "and 5 more");
}

#[test]
fn other_peoples_text_becomes_one_line_of_bounded_length() {
    assert_eq!(one_line("\n it\twants\r\n\x1b[1mmore\n"), "it wants [1mmore");
    let long = one_line(&"\u{e9}".repeat(1000));
    assert_eq!(long, "\u{e9}".repeat(300) + " ...");
}
