//! Drives one target with generated and mutated inputs for a bounded time.

use crate::isolation::{Panic, Watchdog};
use crate::mutation::Mutator;
use crate::shrinking::shrink;
use crate::{Form, Outcome, Target, escape};
use fastrand::Rng;
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// The most inputs that are kept to be mutated.
const MOST_KEPT: usize = 2000;

/// The end of a campaign.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After this time.
    Time(Duration),
    /// After so many runs.
    Runs(u64),
}

/// The inputs for one target: those of `corpus`, then generated and mutated ones. The same seed and
/// corpus give the same inputs.
#[derive(Debug)]
pub struct Campaign<'a> {
    target: &'a Target,
    corpus: Vec<Vec<u8>>,
    seed: u64,
    watchdog: Watchdog,
}

/// The result of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The number of inputs that ran.
    pub runs: u64,
    /// The number of inputs that the code under test accepted.
    pub accepted: u64,
    /// The number of classes of outcomes.
    pub outcomes: usize,
}

/// An input that breaks a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The input, shrunk.
    pub input: Vec<u8>,
    /// The size in bytes of the input that failed first.
    pub found_bytes: usize,
    /// The number of the run that found it, from 1.
    pub run: u64,
    /// The panic of the shrunk input.
    pub panic: Panic,
}

impl<'a> Campaign<'a> {
    /// A campaign for `target` that starts with the inputs of `corpus`.
    pub fn new(target: &'a Target, corpus: Vec<Vec<u8>>, seed: u64, watchdog: Watchdog) -> Self {
        Campaign { target, corpus, seed, watchdog }
    }

    /// Runs inputs until `limit`, or until one fails. `before` sees each input before it runs.
    ///
    /// # Errors
    ///
    /// The first input that breaks a property.
    pub fn run(&self, limit: Limit, mut before: impl FnMut(&[u8])) -> Result<Report, Box<Failure>> {
        let started = Instant::now();
        let mut source = Source::new(self.target, self.seed);
        let mut kept = Vec::new();
        let mut outcomes: HashSet<Outcome> = HashSet::new();
        let mut report = Report { runs: 0, accepted: 0, outcomes: 0 };
        let mut corpus = self.corpus.iter();
        loop {
            let from_corpus = corpus.next().cloned();
            let done = match limit {
                Limit::Runs(most) => report.runs >= most,
                Limit::Time(time) => from_corpus.is_none() && started.elapsed() >= time,
            };
            if done {
                report.outcomes = outcomes.len();
                return Ok(report);
            }
            let is_from_corpus = from_corpus.is_some();
            let input = from_corpus.unwrap_or_else(|| source.next(&kept));
            report.runs += 1;
            before(&input);
            let outcome = self
                .watchdog
                .run(self.target, &input)
                .map_err(|panic| Box::new(self.failure(input.clone(), report.runs, &panic)))?;
            report.accepted += u64::from(outcome.accepted);
            if (outcomes.insert(outcome) || is_from_corpus) && kept.len() < MOST_KEPT {
                kept.push(input);
            }
        }
    }

    /// Shrinks `found`, which panicked with `panic` in run number `run`.
    fn failure(&self, found: Vec<u8>, run: u64, panic: &Panic) -> Failure {
        let found_bytes = found.len();
        let plain = if self.target.form == Form::Text { b'0' } else { 0 };
        let mut last = panic.clone();
        let input = shrink(found, plain, |candidate| {
            match self.watchdog.run(self.target, candidate) {
                // Another panic is another failure.
                Err(other) if other.location == panic.location => {
                    last = other;
                    true
                }
                _ => false,
            }
        });
        Failure { input, found_bytes, run, panic: last }
    }
}

/// Makes inputs.
struct Source {
    rng: Rng,
    runner: TestRunner,
    generate: BoxedStrategy<Vec<u8>>,
    mutator: Mutator,
}

impl Source {
    fn new(target: &Target, seed: u64) -> Self {
        // Each target has random numbers of its own, so that campaigns with one seed differ.
        let mut hasher = DefaultHasher::new();
        (target.name, seed).hash(&mut hasher);
        let mut rng = Rng::with_seed(hasher.finish());
        let mut strategy_seed = [0; 32];
        rng.fill(&mut strategy_seed);
        let strategy_rng = TestRng::from_seed(RngAlgorithm::ChaCha, &strategy_seed);
        let config = Config { failure_persistence: None, ..Config::default() };
        Source {
            rng,
            runner: TestRunner::new_with_rng(config, strategy_rng),
            generate: (target.generate)(),
            mutator: Mutator { form: target.form, tokens: escape::tokens(target.dictionary) },
        }
    }

    /// Every fourth input is generated, the others are changes of generated or `kept` ones.
    fn next(&mut self, kept: &[Vec<u8>]) -> Vec<u8> {
        if self.rng.u8(0..4) == 0 {
            return self.generated();
        }
        let (input, other) = (self.known(kept), self.known(kept));
        self.mutator.mutate(&mut self.rng, &input, &other)
    }

    fn known(&mut self, kept: &[Vec<u8>]) -> Vec<u8> {
        match self.rng.choice(kept) {
            Some(input) if self.rng.u8(0..4) > 0 => input.clone(),
            _ => self.generated(),
        }
    }

    fn generated(&mut self) -> Vec<u8> {
        match self.generate.new_tree(&mut self.runner) {
            Ok(tree) => tree.current(),
            Err(reason) => panic!("a generator of inputs filters too much: {reason}"),
        }
    }
}
