//! The form of a profile, its errors, and when it is in use.

use super::*;
use crate::Packing;
use cma_api::{Alignment, Allocator, Asker, PageRange, Pages, Placement, Request};
use std::io::Write;

/// Requests of these pages, as a profile with numbers that place large chunks at the start.
fn profile(after: &[(u64, &[u32])]) -> Profile {
    let beginning = |(requests, pages): &(u64, &[u32])| {
        let mut sizes = Sizes::default();
        pages.iter().for_each(|pages| sizes.count(*pages));
        Beginning { requests: *requests, sizes }
    };
    let rule = Rule { steepness: 0.5, share: 1.0, ..Rule::default() };
    Profile { rule, beginnings: after.iter().map(beginning).collect() }
}

fn text() -> String {
    profile(&[(4, &[2]), (8, &[2, 700, 900])]).to_string()
}

fn place(packing: &mut Packing, pages: u64) -> Placement {
    let request = Request::new(Pages::new(pages), Alignment::PAGE, Asker::NOBODY);
    packing.allocate(&request.expect("the request is valid")).expect("there is room")
}

#[test]
fn a_profile_that_is_written_is_read_as_the_same() {
    let text = text();
    let read: Profile = text.parse().expect("the text is a profile");
    assert_eq!(read.to_string(), text);
    assert_eq!(read.rule, profile(&[]).rule);
    let distance =
        read.beginnings[1].sizes.distance(&profile(&[(8, &[2, 700, 900])]).beginnings[0].sizes);
    assert!(distance < 0.001, "{distance}");
    let commented = text.replace('\n', "\r\n\n# a comment\n  ");
    assert_eq!(commented.parse(), Ok(read));
}

#[test]
fn a_wrong_profile_is_refused_with_the_line_and_the_reason() {
    let lines = text();
    let with = |from: &str, to: &str| {
        assert!(lines.contains(from), "{from}");
        lines.replacen(from, to, 1)
    };
    for (text, line, reason) in [
        (String::new(), Some(1), "expected \"# cma-packing-profile 1\", found \"\""),
        (with("profile 1", "profile 2"), Some(1), "found \"# cma-packing-profile 2\""),
        (
            with("steepness = 0.5", "steepness"),
            Some(3),
            "expected KEY = VALUE, found \"steepness\"",
        ),
        (
            with("steepness = 0.5", "steepness = 33"),
            Some(3),
            "takes a number from 0 to 32, found 33",
        ),
        (with("share = 1", "share = 0.5"), Some(4), "takes a number from 1 to 65536, found 0.5"),
        (with("= 0.5", "= -1"), Some(3), "\"steepness\" takes a number, found \"-1\""),
        (with("= 0.5", "= NaN"), Some(3), "takes a number, found \"NaN\""),
        (with("steepness", "depth"), Some(3), "unknown key \"depth\"; a profile has steepness,"),
        (with("share = 1", "steepness = 1"), Some(4), "\"steepness\" is given twice"),
        (with("steepness = 0.5\n", ""), None, "\"steepness\" is missing"),
        (with("after 8", "after 4"), Some(11), "takes more than 4 requests, found \"4\""),
        (with("after 4", "after 0"), Some(10), "takes more than 0 requests, found \"0\""),
        (with("1:1000", "1:900"), Some(10), "the shares add up to 900, not to 1000"),
        (with("1:1000", ""), Some(10), "the shares add up to 0, not to 1000"),
        (with("1:1000", "1:1001"), Some(10), "expected PAGES:SHARE with a share of up to 1000"),
        (with("1:1000", "0:1000"), Some(10), "found \"0:1000\""),
        (with("1:1000", "2147483648:1000"), Some(10), "found \"2147483648:1000\""),
        (lines[..lines.find("after").unwrap()].to_string(), None, "\"after REQUESTS\" is missing"),
    ] {
        let error = text.parse::<Profile>().expect_err(reason);
        assert_eq!(error.line, line, "{reason}: {error}");
        assert!(error.reason.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn an_allocator_names_the_file_that_it_can_not_use_and_what_to_do() {
    let folder = tempfile::tempdir().expect("there is a folder for tests");
    let path = folder.path().join("a.profile");
    let new = |params: String| Packing::new(PageRange::from_pages(1, 1000), &params);
    let reason = || {
        let params = Profile::parameter(&path).expect("the path can be a parameter");
        new(params).expect_err("the file is no profile").to_string()
    };
    assert!(reason().contains("a.profile can't be read: No such file"), "{}", reason());
    std::fs::write(&path, text().replace("share = 1", "share = 0")).expect("it is written");
    let wrong = reason();
    assert!(wrong.contains("a.profile: line 4: \"share\" takes"), "{wrong}");
    assert!(wrong.contains("`cma size --learn` writes a profile"), "{wrong}");
    std::fs::write(&path, b"\xff").expect("it is written");
    assert!(reason().contains("can't be read"), "{}", reason());
    let mut file = std::fs::File::create(&path).expect("it is written");
    file.write_all(&vec![b' '; 1 + (1 << 16)]).expect("it is written");
    assert!(reason().contains("more than 65536 bytes"), "{}", reason());
    let folder = new(format!("profile={}", folder.path().display())).expect_err("a folder");
    assert!(folder.to_string().contains("it is not a file"), "{folder}");
    assert!(new("profile=".to_string()).is_err());
}

#[test]
fn a_path_that_no_parameter_can_have_is_refused() {
    let parameter = |path: &str| Profile::parameter(Path::new(path));
    assert_eq!(parameter("/a/b-c.d=e f").as_deref(), Ok("profile=/a/b-c.d=e f"));
    for path in ["a,b", "a(b", "a)b", "a\nb", " a", "a "] {
        assert!(parameter(path).is_err(), "{path:?}");
    }
}

#[test]
fn a_number_beside_the_profile_counts() {
    let folder = tempfile::tempdir().expect("there is a folder for tests");
    let path = folder.path().join("a.profile");
    std::fs::write(&path, text()).expect("it is written");
    let parameter = Profile::parameter(&path).expect("the path can be a parameter");
    // By the file the chunk of 300 pages is placed at the start, with this share at the end.
    for (more, start) in [("", 8), (",share=200", 700)] {
        let region = PageRange::from_pages(0, 1000);
        let mut packing = Packing::new(region, &format!("{parameter}{more}")).expect("it is valid");
        (0..4).for_each(|_| _ = place(&mut packing, 2));
        assert_eq!(place(&mut packing, 300).range.first_page(), start, "{more}");
    }
}

#[test]
fn a_profile_is_used_only_while_requests_are_like_those_of_its_recordings() {
    let profile = profile(&[(4, &[2]), (8, &[2, 2, 2, 2, 300])]);
    let region = PageRange::from_pages(0, 10_000);
    let mut packing = Packing::with_profile(region, profile).expect("it is valid");
    let at_start = |packing: &mut Packing| {
        let chunk = place(packing, 2000);
        let start = chunk.range.first_page();
        packing.free(chunk).expect("it is live");
        start < 4000
    };
    assert!(!at_start(&mut packing), "no request has been seen");
    let packing_with = |sizes: &[u64]| {
        let region = PageRange::from_pages(0, 10_000);
        let profile = self::profile(&[(4, &[2]), (8, &[2, 300])]);
        let mut packing = Packing::with_profile(region, profile).expect("it is valid");
        sizes.iter().for_each(|pages| _ = place(&mut packing, *pages));
        at_start(&mut packing)
    };
    assert!(!packing_with(&[2, 2, 2]));
    assert!(packing_with(&[2, 2, 2, 2]), "the beginning is that of the recording");
    assert!(!packing_with(&[2, 2, 2, 30]), "it is another one");
    assert!(packing_with(&[2, 2, 2, 2, 2, 2, 300, 2]), "so is the whole");
    assert!(!packing_with(&[2, 2, 2, 2, 2, 2, 2, 2]), "it is another one from then on");
    // After that, it is compared after each half of a recording.
    assert!(packing_with(&[2, 2, 2, 2, 2, 2, 2, 2, 300, 300, 300, 300]));
    let other: Vec<u64> = [2, 2, 2, 2, 2, 2, 300, 2].into_iter().chain([30; 40]).collect();
    assert!(!packing_with(&other), "the requests are others now");
    let like = [2, 2, 2, 2, 2, 2, 300, 2];
    let again: Vec<u64> = [2000].into_iter().chain([like; 10].concat()).collect();
    assert!(packing_with(&again), "older requests count less and less");
}

#[test]
fn unlike_requests_are_placed_as_without_a_profile() {
    let region = PageRange::from_pages(0, 10_000);
    let mut with = Packing::with_profile(region, profile(&[(16, &[900])])).expect("it is valid");
    let mut without = Packing::new(region, "").expect("it is valid");
    let mut live = Vec::new();
    for n in 0..2000_u64 {
        if n % 3 == 2 {
            let (one, other): (Placement, Placement) =
                live.swap_remove((n * 7 % live.len() as u64) as usize);
            with.free(one).expect("it is live");
            without.free(other).expect("it is live");
        } else if live.len() < 60 {
            let pages = 1 + n * n % 97;
            let both = (place(&mut with, pages), place(&mut without, pages));
            assert_eq!(both.0.range, both.1.range, "{n}");
            live.push(both);
        }
    }
}
