//! Examinations in child processes: for each flaw the guarantee that detects it reports the same
//! violation as in process, with few calls; and allocators that crash, end the process, loop or
//! exhaust the memory are findings, too.

#[path = "flaws/flawed.rs"]
mod flawed;
#[macro_use]
#[path = "flaws/table.rs"]
mod table;

use cma_testkit::cma_api::Algorithm;
use cma_testkit::guarantees::{self, Guarantee};
use cma_testkit::{
    Answer, Call, Examination, Finding, Limits, Placing, Subject, built_library, load,
};
use flawed::Flawed;
use std::path::Path;
use std::time::{Duration, Instant};

/// The most calls that show a flaw.
const FEW: usize = 6;

/// The flaws that only more calls can show, with their number.
const MORE: [(&str, usize); 2] = [
    // It refuses the 52nd chunk.
    ("refuses_beyond_fifty_chunks", 52),
    // It counts to 80 chunks of all allocators.
    ("shares_its_books", 100),
];

macro_rules! flaws {
    ($($flaw:ident, $placing:ident: $guarantee:ident reports $violation:ident;)+) => {
        &[$(Case {
            params: stringify!($flaw),
            placing: Placing::$placing,
            name: stringify!($guarantee),
            guarantee: guarantees::$guarantee,
            kind: stringify!($violation),
        }),+]
    };
}

struct Case {
    params: &'static str,
    placing: Placing,
    name: &'static str,
    guarantee: Guarantee,
    kind: &'static str,
}

const FLAWS: &[Case] = each_flaw!(flaws);

/// What the plug-in `misbehaving` does, and what is reported.
const MISBEHAVING: &[Case] = flaws_of_the_plugin();

const fn flaws_of_the_plugin() -> &'static [Case] {
    macro_rules! cases {
        ($($params:literal: $guarantee:ident reports $violation:literal;)+) => {
            &[$(Case {
                params: $params,
                placing: Placing::Exact,
                name: stringify!($guarantee),
                guarantee: guarantees::$guarantee,
                kind: $violation,
            }),+]
        };
    }
    cases! {
        "place=outside": random_operations_match_the_model reports "Outside";
        "place=wrapping": random_operations_match_the_model reports "Outside";
        "place=small": random_operations_match_the_model reports "WrongSize";
        "place=large": random_operations_match_the_model reports "WrongSize";
        "place=unaligned": huge_alignments_stay_inside_the_region reports "Outside";
        "place=overlapping,after=1": random_operations_match_the_model reports "Overlap";
        "place=unlimited": every_limit_in_a_small_region_is_kept reports "OutsideWindow";
        "fit=none": every_limit_in_a_small_region_is_kept reports "NoRoomThoughFree";
        "fit=region": limits_around_words_and_blocks_are_kept reports "FitIsNoHole";
        "free=refuse": random_operations_match_the_model reports "FreeRefused";
        "free=other": random_operations_match_the_model reports "Holes";
        "adopt=lie": random_operations_match_the_model reports "Holes";
        "init=refuse": random_operations_match_the_model reports "RegionRefused";
        "panic=initialise": regions_are_independent reports "Panicked";
        "panic=allocate": a_whole_region_can_be_one_chunk reports "Panicked";
        "panic=fit": fit_names_the_hole_that_allocate_uses reports "Panicked";
        "panic=free": a_whole_region_can_be_one_chunk reports "Panicked";
        "panic=adopt": a_refused_adoption_changes_nothing reports "Panicked";
        "panic=holes": a_whole_region_can_be_one_chunk reports "Panicked";
        "panic=largest_request": a_whole_region_can_be_one_chunk reports "Panicked";
        "panic=check,after=2": a_whole_region_can_be_one_chunk reports "Panicked";
        "panic=drop": a_whole_region_can_be_one_chunk reports "PanickedInDrop";
        "end=segv": random_operations_match_the_model reports "Crashed";
        "end=segv,after=3": an_allocator_may_move_between_threads reports "Crashed";
        "end=abort,after=2": regions_are_independent reports "Crashed";
        "end=exit,after=1": random_operations_match_the_model reports "Exited";
        "end=loop,after=1": a_region_fills_page_by_page_and_empties_in_any_order reports "Hangs";
        "end=kill,after=1": a_region_fills_page_by_page_and_empties_in_any_order reports "KilledItsParent";
        "end=exhaust": a_whole_region_can_be_one_chunk reports "Crashed";
    }
}

fn limits() -> Limits {
    Limits { call: Duration::from_secs(5), memory: 256 << 20, ..Limits::default() }
}

/// The finding of a case on the allocator of `subject`.
fn finding(case: &Case, subject: Subject) -> Result<Finding, String> {
    let examination = Examination::new(|| Ok(subject)).map_err(|error| error.to_string())?;
    let examination = examination.with_limits(limits());
    let found = examination.examine(case.name, case.guarantee, &mut |_| {});
    found.map_err(|error| error.to_string())?.ok_or_else(|| "it is not detected".to_string())
}

/// Whether the finding is that of the case, and has at most `most` calls.
fn judge(case: &Case, finding: &Finding, most: usize) -> Result<(), String> {
    // No calls show a violation of these, which is in the text.
    let has_calls = !["ParameterAccepted", "ParameterNotNamed"].contains(&case.kind)
        && case.params != "panics_at_parameters";
    if finding.kind() != case.kind {
        return Err(format!("it is reported as {}\n{finding}", finding.kind()));
    }
    if finding.len() > most || has_calls != finding.is_shortened() {
        return Err(format!("{} calls show it\n{finding}", finding.len()));
    }
    Ok(())
}

type Test = (&'static str, fn() -> Result<(), String>);

const TESTS: [Test; 7] = [
    ("each_flaw_is_shown_by_few_calls", each_flaw_is_shown_by_few_calls),
    ("what_a_plugin_does_to_its_process_is_a_finding", what_a_plugin_does_is_a_finding),
    ("a_crash_is_reported_with_its_call", a_crash_is_reported_with_its_call),
    ("no_process_of_a_plugin_is_left_behind", no_process_of_a_plugin_is_left_behind),
    ("a_finding_is_the_same_each_time", a_finding_is_the_same_each_time),
    ("a_test_to_paste_is_one_that_compiles", a_test_to_paste_is_one_that_compiles),
    ("a_good_allocator_is_no_finding", a_good_allocator_is_no_finding),
];

#[allow(clippy::print_stdout, reason = "it is a test program")]
fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let is_wanted = |(name, _): &&Test| filter.as_ref().is_none_or(|word| name.contains(word));
    let mut failed = false;
    for (name, test) in TESTS.iter().filter(is_wanted) {
        match test() {
            Ok(()) => println!("test {name} ... ok"),
            Err(reason) => {
                println!("test {name} ... FAILED\n{reason}");
                failed = true;
            }
        }
    }
    if failed {
        std::process::exit(101);
    }
}

fn each_flaw_is_shown_by_few_calls() -> Result<(), String> {
    let mut wrong = Vec::new();
    // Its 8000 calls take too long to be made again, as this test is not optimised.
    let too_long = |case: &&Case| case.params == "loses_chunks_beyond_250_holes";
    for case in FLAWS.iter().filter(|case| !too_long(case)) {
        let subject = Subject {
            algorithm: Algorithm::of::<Flawed>(),
            params: case.params,
            placing: case.placing,
        };
        let more = MORE.iter().find(|(flaw, _)| *flaw == case.params);
        let most = more.map_or(FEW, |(_, most)| *most);
        let outcome = finding(case, subject).and_then(|it| judge(case, &it, most));
        wrong.extend(outcome.err().map(|reason| format!("{}: {reason}", case.params)));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n\n")) }
}

fn plugin(params: &'static str) -> Subject {
    let algorithm = load(&built_library("cma_fixture_misbehaving"));
    Subject { algorithm, params, placing: Placing::Exact }
}

fn what_a_plugin_does_is_a_finding() -> Result<(), String> {
    let mut wrong = Vec::new();
    for case in MISBEHAVING {
        let outcome = finding(case, plugin(case.params)).and_then(|it| judge(case, &it, FEW));
        wrong.extend(outcome.err().map(|reason| format!("{}: {reason}", case.params)));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n\n")) }
}

/// The case of the plug-in with these parameters.
fn case(params: &str) -> &'static Case {
    MISBEHAVING.iter().find(|case| case.params == params).expect("it is in the table")
}

fn a_crash_is_reported_with_its_call() -> Result<(), String> {
    let found = finding(case("end=segv"), plugin("end=segv"))?;
    let what = "it crashed with signal 11 (SIGSEGV) in call 1: allocate 0x1000 aligned 0x1000";
    let last = found.calls().last().ok_or("there are no calls")?;
    let is_it = matches!(last.call, Call::Allocate(_)) && last.answer == Answer::Nothing;
    if found.what() == what && is_it { Ok(()) } else { Err(found.to_string()) }
}

/// The processes whose last argument is `argument`.
fn processes_with(argument: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes
        .filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok())
        .filter(|line| line.split('\0').rfind(|word| !word.is_empty()) == Some(argument));
    lines.collect()
}

fn no_process_of_a_plugin_is_left_behind() -> Result<(), String> {
    // No other process sleeps for so long.
    let seconds = (1_000_000_000 + u64::from(std::process::id())).to_string();
    let params: &'static str = format!("leave={seconds}").leak();
    let mut own =
        std::process::Command::new("sleep").arg(&seconds).spawn().map_err(|e| e.to_string())?;
    // Its arguments are there a moment after it has started.
    let begun = Instant::now();
    let mut seen = 0;
    while seen == 0 && begun.elapsed() < Duration::from_secs(60) {
        seen = processes_with(&seconds).len();
    }
    own.kill().and_then(|()| own.wait()).map_err(|error| error.to_string())?;
    let guarantee = guarantees::a_whole_region_can_be_one_chunk;
    let examination = Examination::new(|| Ok(plugin(params))).map_err(|error| error.to_string())?;
    let found = examination.examine("a_whole_region_can_be_one_chunk", guarantee, &mut |_| {});
    match (found.map_err(|error| error.to_string())?, processes_with(&seconds), seen) {
        (None, left, 1) if left.is_empty() => Ok(()),
        (found, left, seen) => Err(format!("{found:?}, {left:?} are left, {seen} was seen")),
    }
}

fn a_finding_is_the_same_each_time() -> Result<(), String> {
    let case = case("free=other");
    let (first, second) =
        (finding(case, plugin(case.params))?, finding(case, plugin(case.params))?);
    if first.to_string() == second.to_string() {
        return Ok(());
    }
    Err(format!("{first}\n{second}"))
}

fn a_test_to_paste_is_one_that_compiles() -> Result<(), String> {
    let found = finding(case("free=refuse"), plugin("free=refuse"))?;
    let library = Path::new("libcma_fixture_misbehaving.so");
    let test = found.test(library, "free=refuse", Placing::Exact).ok_or("there is no test")?;
    // There it is a test, and is compiled.
    if include_str!("plugin.rs").contains(&test) { Ok(()) } else { Err(test) }
}

fn a_good_allocator_is_no_finding() -> Result<(), String> {
    for params in ["none", "best_fit"] {
        let placing = if params == "none" { Placing::FirstFit } else { Placing::BestFit };
        let subject = Subject { algorithm: Algorithm::of::<Flawed>(), params, placing };
        let examination = Examination::new(|| Ok(subject)).map_err(|error| error.to_string())?;
        for (name, guarantee) in guarantees::ALL {
            let found = examination.examine(name, *guarantee, &mut |_| {});
            if let Some(finding) = found.map_err(|error| error.to_string())? {
                return Err(finding.to_string());
            }
        }
    }
    Ok(())
}
