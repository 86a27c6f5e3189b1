//! Each target holds for its corpus and for a moment of fuzzing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cma_fuzz::{Campaign, Limit, TARGETS, Watchdog};

fn inputs(target: &cma_fuzz::Target) -> Vec<Vec<u8>> {
    target.corpus().unwrap().into_iter().map(|(_, input)| input).collect()
}

#[test]
fn every_target_holds_for_its_corpus_and_for_generated_inputs() {
    for target in TARGETS {
        let corpus = inputs(target);
        let runs = corpus.len() as u64 + 40;
        let campaign = Campaign::new(target, corpus, 1, Watchdog::default());
        let report = campaign.run(Limit::Runs(runs), |_| {});
        let report = report.unwrap_or_else(|failure| panic!("{}: {failure:?}", target.name));
        assert!(report.accepted > 0, "{} accepts nothing: {report:?}", target.name);
        assert!(report.outcomes > 2, "{} has too few outcomes: {report:?}", target.name);
    }
}

#[test]
fn every_corpus_has_an_accepted_and_a_refused_input() {
    for target in TARGETS {
        let outcomes: Vec<bool> =
            inputs(target).iter().map(|input| target.check(input).accepted).collect();
        assert!(outcomes.contains(&true), "nothing in the corpus of {} is accepted", target.name);
        assert!(outcomes.contains(&false), "nothing in the corpus of {} is refused", target.name);
    }
}

#[test]
fn the_same_seed_gives_the_same_inputs() {
    for target in TARGETS {
        let inputs = |seed| {
            let mut seen = Vec::new();
            let campaign = Campaign::new(target, Vec::new(), seed, Watchdog::default());
            campaign.run(Limit::Runs(10), |input| seen.push(input.to_vec())).unwrap();
            seen
        };
        assert!(inputs(1) == inputs(1), "{} runs other inputs", target.name);
        assert!(inputs(1) != inputs(2), "{} ignores the seed", target.name);
    }
}
