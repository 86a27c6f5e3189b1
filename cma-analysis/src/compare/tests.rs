use super::*;
use cma_framework::Plugin;
use cma_trace::Recording;

fn spread(lower: f64, median: f64, upper: f64) -> Spread {
    Spread { lower, median, upper }
}

#[test]
fn quartiles_are_interpolated_and_do_not_depend_on_the_order() {
    assert_eq!(Spread::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]), spread(2.0, 3.0, 4.0));
    assert_eq!(Spread::of(vec![4.0, 2.0]), spread(2.5, 3.0, 3.5));
    assert_eq!(Spread::of(vec![7.0]), spread(7.0, 7.0, 7.0));
    // An infinite value, of a trace that is not served, leaves a finite median finite.
    let median = Spread::of(vec![1.0, f64::INFINITY, 2.0]).median;
    assert!((1.9..2.1).contains(&median), "{median}");
    assert_eq!(Spread::of(Vec::new()), spread(0.0, 0.0, 0.0));
}

#[test]
fn pressure_counts_refusals_and_looks_at_the_largest_free_range_after_each_operation() {
    let mut recording = Recording::new("five pages");
    let mut chunk = |pages: u64| recording.allocate(0, pages * 4096, 1, "camera").unwrap();
    // Free after each: 3, 2, refused 2, 2 (a hole of 2 and one of 1), refused 2.
    let first = chunk(2);
    chunk(1);
    chunk(3);
    recording.free(0, first).unwrap();
    recording.allocate(0, 4 * 4096, 1, "camera").unwrap();
    let trace = recording.finish();
    let first_fit = Allocator::new(Plugin::built_in::<cma_bitmap::Bitmap>());
    let found = pressure(&trace, &first_fit, PageRange::from_pages(1 << 20, 5)).unwrap();
    let expected =
        Pressure { refused: 2, least_free_range: Pages::new(2), median_free_range: Pages::new(2) };
    assert_eq!(found, expected);
}

#[test]
fn every_round_measures_every_allocator() {
    let mut recording = Recording::new("one page");
    recording.allocate(0, 4096, 1, "camera").unwrap();
    let trace = recording.finish();
    let first_fit = Allocator::new(Plugin::built_in::<cma_bitmap::Bitmap>());
    let mut measured = 0;
    let region = PageRange::from_pages(1 << 20, 1);
    let both = [&first_fit, &first_fit];
    let found = speeds(&trace, &both, region, 3, || measured += 1);
    assert_eq!((found.iter().filter(|found| found.is_ok()).count(), measured), (2, 6));
    let unknown = Allocator { params: "x".to_string(), ..first_fit.clone() };
    let found = speeds(&trace, &[&unknown, &first_fit], region, 3, || ());
    assert!(found[0].is_err() && found[1].is_ok(), "{found:?}");
}

#[test]
fn a_verdict_names_who_wins_more_often_and_counts_only_clear_differences_of_speed() {
    let names = ["a".to_string(), "b".to_string()];
    let score = |pages: u64, speed| Score {
        region: Some(Pages::new(pages)),
        peak: Pages::new(100),
        speed: Some(speed),
    };
    let (slow, fast, wide) =
        (spread(9.0, 10.0, 11.0), spread(4.0, 5.0, 6.0), spread(5.0, 7.0, 12.0));
    let verdict = |traces: &[Vec<Score>]| Verdict::of(&names, traces, 9).to_string();
    let two = [vec![score(110, slow), score(120, fast)], vec![score(100, slow), score(100, wide)]];
    assert_eq!(
        verdict(&two),
        "a needs the smallest region on 1 of 2 traces (medians: a 1.050 of the peak, b 1.100 of \
         the peak); b is fastest on 1 of 2 traces (medians: a 10 ns, b 6 ns); based on the \
         smallest regions, exact to a page, and on 9 interleaved runs of each trace, where faster \
         means that the quartiles do not overlap"
    );
    let equal = verdict(&[vec![score(100, slow), score(100, wide)]]);
    assert!(equal.starts_with("no allocator needs the smallest region more often"), "{equal}");
    assert!(equal.contains("no allocator is clearly the fastest"), "{equal}");
    let unserved = Score { region: None, ..score(1, fast) };
    let one = verdict(&[vec![score(300, slow), unserved]]);
    assert!(one.starts_with("a needs the smallest region on the trace (a 3.000"), "{one}");
    assert!(one.contains("b not served"), "{one}");
    let refused = Score { region: None, speed: None, ..score(1, fast) };
    let one = Verdict::of(&names, &[vec![score(300, slow), refused]], 1).to_string();
    assert!(one.contains("a is fastest on the trace (a 10 ns, b not measured)"), "{one}");
    assert!(one.ends_with("and on one run of each trace, which shows no spread"), "{one}");
}
