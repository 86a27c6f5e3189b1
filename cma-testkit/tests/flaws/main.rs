//! Tests of the suite: for each flaw, the guarantee that must detect it, and the violation that it
//! must report.

mod flawed;
#[macro_use]
mod table;

use cma_api::{Algorithm, AllocatorInfo};
use cma_fixture_first_fit::{FirstFit, Named};
use cma_testkit::{Call, Failure, Placing, Subject, Violation, guarantees};
use flawed::Flawed;
use std::process::Command;
use std::time::Duration;

fn subject(flaw: &'static str, placing: Placing) -> Subject {
    Subject { algorithm: Algorithm::of::<Flawed>(), params: flaw, placing }
}

/// The failure of `guarantee` on an allocator with `flaw`.
fn failure(guarantee: guarantees::Guarantee, flaw: &'static str, placing: Placing) -> Failure {
    guarantee(&subject(flaw, placing)).expect_err("the flaw must be detected")
}

macro_rules! caught {
    ($($flaw:ident, $placing:ident: $guarantee:ident reports $violation:ident;)+) => {
        $(
            #[test]
            fn $flaw() {
                let failure = failure(guarantees::$guarantee, stringify!($flaw), Placing::$placing);
                assert!(matches!(*failure.violation, Violation::$violation { .. }), "{failure}");
            }
        )+

        const CAUGHT: &[&str] = &[$(stringify!($guarantee)),+];
    };
}

each_flaw!(caught);

#[test]
fn every_guarantee_detects_some_flaw() {
    // This guarantee is about the constant `INFO`, which no parameter can change.
    let elsewhere = "hosts_accept_the_name_version_and_description";
    for (name, _) in guarantees::ALL {
        assert!(*name == elsewhere || CAUGHT.contains(name), "no flaw makes {name} fail");
    }
}

struct NameOfTwoWords;

impl Named for NameOfTwoWords {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "first fit", version: "1.0.0", description: "a name of two words" };
}

struct DescriptionOfTwoLines;

impl Named for DescriptionOfTwoLines {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "first-fit", version: "1.0.0", description: "two\nlines" };
}

#[test]
fn a_name_or_description_that_hosts_refuse_is_reported() {
    let cases = [
        (
            Algorithm::of::<FirstFit<NameOfTwoWords>>(),
            "hosts refuse it, because its name \"first fit\" has a character",
        ),
        (
            Algorithm::of::<FirstFit<DescriptionOfTwoLines>>(),
            "its description \"two\\nlines\" has a control character",
        ),
    ];
    for (algorithm, says) in cases {
        let subject = Subject { algorithm, params: "", placing: Placing::FirstFit };
        let failure = guarantees::hosts_accept_the_name_version_and_description(&subject)
            .unwrap_err()
            .to_string();
        assert!(failure.contains(says), "{failure}");
    }
}

#[test]
fn an_endless_loop_is_reported_with_the_call_the_seed_and_the_steps_before() {
    let subject = subject("loops_at_the_third_hole", Placing::Any);
    let guarantee = guarantees::random_operations_match_the_model;
    let verdict = guarantees::verdict_within(Duration::from_secs(2), guarantee, &subject);
    let failure = verdict.expect_err("the flaw must be detected");
    let Violation::Hangs { call: Call::Free(range), .. } = *failure.violation else {
        panic!("{failure}")
    };
    let failure = failure.to_string();
    let says =
        format!("has not returned from this call within 2 s: free {range} (PROPTEST_RNG_SEED=");
    assert!(failure.contains(&says) && failure.contains("   1. "), "{failure}");
}

#[test]
fn the_failures_of_an_allocator_that_always_panics_are_short() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "print_the_failures_of_an_allocator_that_always_panics",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    let printed =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success() && printed.contains("not yet written, at "), "{printed}");
    assert!(printed.lines().count() < 10 * guarantees::ALL.len(), "{printed}");
}

#[test]
#[ignore = "run by another test, which counts its output"]
#[allow(clippy::print_stdout, reason = "another test counts the output")]
fn print_the_failures_of_an_allocator_that_always_panics() {
    for (_, guarantee) in guarantees::ALL {
        if let Err(failure) =
            guarantees::verdict(*guarantee, &subject("always_panics", Placing::Any))
        {
            println!("{failure}");
        }
    }
}

mod without_a_flaw {
    use super::Flawed;
    cma_testkit::conformance!(Flawed, FirstFit, "none");
    mod best_fit {
        use super::Flawed;
        cma_testkit::conformance!(Flawed, BestFit, "best_fit");
    }
}

#[test]
fn a_random_failure_is_shrunk_to_the_operations_that_matter() {
    let guarantee = guarantees::random_operations_match_the_model;
    let failure = failure(guarantee, "never_frees_single_pages", Placing::Any);
    assert_eq!(
        failure.to_string(),
        "allocator \"flawed\" on the region 0x0+0x1000:\n\
         \x20   1. allocate 0x1000 aligned 0x1000 -> 0x0+0x1000\n\
         \x20   2. free 0x0+0x1000\n\
         hole 0: it reports none, the model has 0x0+0x1000"
    );
}

#[test]
fn an_exhaustive_failure_is_a_shortest_one() {
    let guarantee = guarantees::every_short_sequence_matches_the_model;
    let failure = failure(guarantee, "leaks_between_two_neighbours", Placing::Any);
    assert_eq!(failure.steps.len(), 4, "{failure}");
}
