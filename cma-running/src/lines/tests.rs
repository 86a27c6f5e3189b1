use super::*;
use proptest::prelude::*;

fn text(text: &str) -> Text {
    Text { path: "regions/b1/owners".to_string(), text: text.to_string() }
}

#[test]
fn a_line_without_the_fields_of_its_list_is_an_error_that_names_the_line() {
    let good = "0x40000000 4096 - camera/frame 1.5 1000 7 ffmpeg";
    assert_eq!(text(good).lines::<ChunkState>().unwrap().len(), 1);
    for bad in [
        "",
        "0x40000000",
        "40000000 4096 - camera/frame 1.5 1000 7 ffmpeg",
        "0x40000001 4096 - camera/frame 1.5 1000 7 ffmpeg",
        "0x40000000 4095 - camera/frame 1.5 1000 7 ffmpeg",
        "0x40000000 4096 nonsense camera/frame 1.5 1000 7 ffmpeg",
        "0x40000000 4096 - camera 1.5 1000 7 ffmpeg",
        "0x40000000 4096 - camera/frame soon 1000 7 ffmpeg",
        "0x40000000 4096 - camera/frame -1 1000 7 ffmpeg",
        "0x40000000 4096 - camera/frame 1.5 root 7 ffmpeg",
        "0x40000000 4096 - camera/frame 1.5 1000 7",
        "0x40000000 4096 - camera/frame 1.5 1000 7 ffmpeg more",
    ] {
        let error = text(&format!("{good}\n{bad}\n")).lines::<ChunkState>().unwrap_err();
        assert!(matches!(&error, Error::Malformed { line: 2, text, .. } if text == bad), "{bad}");
        assert!(error.to_string().starts_with("regions/b1/owners: line 2 is not understood"));
    }
}

#[test]
fn a_size_above_the_address_space_and_a_time_above_all_times_are_errors() {
    let lines = ["0x40000000 18446744073709547520 - - - - - -", "0x0 4096 - - 1e300 - - -"];
    for line in lines {
        assert!(ChunkState::parse(line).is_none(), "{line}");
    }
}

#[test]
fn a_reason_keeps_its_blanks() {
    let line = "0.3 4096 4096 below=4G camera/frame full: 61M of 64M free";
    let failure = FailureState::parse(line).unwrap();
    assert_eq!(failure.reason, "full: 61M of 64M free");
    assert_eq!(failure.request, ChunkRequest::parse("4K/4K below=4G").unwrap());
}

#[test]
fn text_that_only_looks_like_an_escape_stays() {
    for plain in ["\\u{", "\\u{}", "\\u{zz}x", "\\u{110000}", "}\\u{20"] {
        assert_eq!(unescaped(plain), plain);
    }
    assert_eq!(unescaped("a\\u{20}b\\u{5c}u{20}"), "a b\\u{20}");
}

proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(line in "\\PC{0,80}", fields in "([0-9a-fx.=/,-]{0,6} ){4,9}") {
        for line in [line, fields] {
            let _ = ChunkState::parse(&line);
            let _ = WaiterState::parse(&line);
            let _ = FailureState::parse(&line);
        }
    }
}
