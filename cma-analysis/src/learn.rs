//! Learning a profile of packing from recordings of a program.
//!
//! A search tries choices of the rule's four numbers. What a choice needs for one recording is
//! mostly luck: a number that is a hundredth larger moves it by points. So choices are compared by
//! *copies* of the recordings, which differ a little ([`copies`]), in rounds: many choices on few
//! copies, then the best of them, and changes of these, on more. The last round is on copies on
//! which nothing was chosen, and there a choice must be clearly better than the numbers without a
//! profile. Else those are the result.
//!
//! Results don't depend on the number of threads: seeds are fixed.

mod choices;
mod copies;

use crate::demand::Demand;
use crate::smallest::search;
use choices::{Choice, Random};
use cma_api::Pages;
use cma_framework::config::Bytes;
use cma_packing::{Beginning, Profile, Rule, Sizes};
use copies::Copy;
use rayon::prelude::*;
use std::ops::Range;

/// A profile, and what it needs.
#[derive(Clone, Debug)]
pub struct Learned {
    /// The profile.
    pub profile: Profile,
    /// For each recording, in their order.
    pub effects: Vec<Effect>,
    /// How many choices of numbers were tried.
    pub choices: usize,
}

impl Learned {
    /// Whether no choice was clearly better than the numbers that packing has without a profile,
    /// which the profile has then.
    pub fn is_default(&self) -> bool {
        self.profile.rule == Rule::default()
    }
}

/// What a recording needs, as [`Smallest`](crate::Smallest) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The most memory that is live at a time.
    pub peak: Pages,
    /// What packing needs without parameters.
    pub without: Pages,
    /// What it needs with the profile.
    pub with: Pages,
}

/// Why nothing can be learned from a recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packing does not serve it in {}, the largest region tried", Bytes(largest.bytes()))]
pub struct CannotLearn {
    /// The recording: an index into those given.
    pub recording: usize,
    /// The largest size that was tried.
    pub largest: Pages,
}

/// The copies that the choices of a round have been tried on after it, and how many are kept.
const ROUNDS: [(usize, usize); 3] = [(2, 24), (4, 8), (8, 4)];

/// The same for the best choices and their changes.
const ROUNDS_OF_CHANGES: [(usize, usize); 2] = [(4, 8), (8, 4)];

/// The choices of the first round if the recordings are short, and if they are long.
const CHOICES: Range<usize> = 16..64;

/// The most operations of all recordings with which the first round has the most choices. Learning
/// takes some two minutes of processor time then, and grows in proportion when it has the fewest.
const OPERATIONS: usize = 200_000;

/// The changes that are tried of each of the best choices.
const CHANGES: usize = 6;

/// The copies of the last round.
const LAST: Range<usize> = 100..108;

/// Searches for the numbers of packing that suit the recordings `demands` of one program, on all
/// threads of the pool that this is called in. `tried` is called after each search for a size.
///
/// The profile needs no more than packing without one, for each of the recordings.
///
/// # Errors
///
/// [`CannotLearn`].
///
/// # Panics
///
/// Without a recording.
pub fn learn(demands: &[Demand<'_>], tried: &(dyn Fn() + Sync)) -> Result<Learned, CannotLearn> {
    assert!(!demands.is_empty(), "a profile is learned from a recording");
    let operations: usize = demands.iter().map(|demand| demand.trace().operations().len()).sum();
    let learning = Learning { demands, profile: describe(demands), tried };
    let without = learning.needs(&learning.profile)?;
    let first = CHOICES.end * OPERATIONS / operations.max(1);
    let mut random = Random::new(1);
    let mut choices = choices::first(first.clamp(CHOICES.start, CHOICES.end), &mut random);
    let mut count = choices.len();
    for (copies, kept) in ROUNDS {
        learning.round(&mut choices, 0..copies, kept);
    }
    for choice in choices.clone() {
        choices.extend((0..CHANGES).map(|_| choice.changed(&mut random)));
        count += CHANGES;
    }
    for (copies, kept) in ROUNDS_OF_CHANGES {
        learning.round(&mut choices, 0..copies, kept);
    }
    let (profile, with) = learning.last(&choices, &without);
    let effect = |(n, demand): (usize, &Demand<'_>)| Effect {
        peak: demand.peak().pages,
        without: without[n],
        with: with[n],
    };
    let effects = demands.iter().enumerate().map(effect).collect();
    Ok(Learned { profile, effects, choices: count })
}

/// What the recordings are known by, with the numbers that packing has without a profile.
fn describe(demands: &[Demand<'_>]) -> Profile {
    let all: usize = demands.iter().map(|demand| demand.chunks().len()).sum();
    let whole = (all / demands.len()).max(1);
    let firsts = std::iter::successors(Some(FIRST_BEGINNING), |requests| Some(2 * requests));
    let firsts = firsts.take_while(|requests| *requests < whole).chain([whole]);
    let beginning = |requests: usize| {
        let mut sizes = Sizes::default();
        for demand in demands {
            let last = if requests == whole { usize::MAX } else { requests };
            let chunks =
                || demand.chunks().iter().take(last).map(|chunk| chunk.pages().min(MOST_PAGES));
            let all: u64 = chunks().sum();
            // A recording counts as much as another, however long both are.
            #[allow(clippy::cast_precision_loss, reason = "a share")]
            chunks().for_each(|pages| sizes.add(pages as u32, pages as f64 / all as f64));
        }
        Beginning { requests: requests as u64, sizes }
    };
    Profile { rule: Rule::default(), beginnings: firsts.map(beginning).collect() }
}

/// The requests of the first beginning of a profile; each further one has twice as many.
const FIRST_BEGINNING: usize = 16;

/// The most pages of a chunk in a region that packing serves.
const MOST_PAGES: u64 = (1 << 31) - 1;

struct Learning<'d> {
    demands: &'d [Demand<'d>],
    /// The profile, with the numbers that packing has without one.
    profile: Profile,
    tried: &'d (dyn Fn() + Sync),
}

impl Learning<'_> {
    /// The profile with the numbers `rule`.
    fn with(&self, rule: Rule) -> Profile {
        Profile { rule, ..self.profile.clone() }
    }

    /// What `profile` needs for each recording.
    fn needs(&self, profile: &Profile) -> Result<Vec<Pages>, CannotLearn> {
        let smallest = |(recording, demand): (usize, &Demand<'_>)| {
            let copy = Copy::of(demand, 0);
            let attempt = |pages| copy.serves(profile, pages).then_some(()).ok_or(());
            (self.tried)();
            match search(demand, &attempt) {
                Ok((smallest, _)) => Ok(Pages::new(smallest)),
                Err((largest, ())) => Err(CannotLearn { recording, largest: Pages::new(largest) }),
            }
        };
        self.demands.par_iter().enumerate().map(smallest).collect()
    }

    /// Tries `choices` on those of `copies` on which they have not been tried, and keeps the best.
    fn round(&self, choices: &mut Vec<Choice>, copies: Range<usize>, kept: usize) {
        for (n, copy) in copies.enumerate() {
            if choices.iter().any(|choice| choice.beyond.len() == n) {
                self.try_on(choices, n, copy as u64);
            }
        }
        choices.sort_by(|one, other| one.mean().total_cmp(&other.mean()));
        choices.truncate(kept);
    }

    /// Tries the choices that have been tried on `n` copies of each recording on number `copy`.
    fn try_on(&self, choices: &mut [Choice], n: usize, copy: u64) {
        let copies = self.demands.par_iter().map(|demand| {
            let copy = Copy::of(demand, copy);
            let usual = copy.smallest(&self.profile);
            (copy, usual)
        });
        let copies: Vec<(Copy, u64)> = copies.collect();
        let choices = choices.par_iter_mut().filter(|choice| choice.beyond.len() == n);
        choices.for_each(|choice| {
            let profile = self.with(choice.rule);
            let beyond = copies.iter().map(|(copy, usual)| {
                (self.tried)();
                copy.beyond(&profile, *usual)
            });
            choice.beyond.push(beyond.sum::<f64>() / copies.len() as f64);
        });
    }

    /// The best of `choices` that is better than no profile, as a profile, with what it needs for
    /// each recording.
    fn last(&self, choices: &[Choice], without: &[Pages]) -> (Profile, Vec<Pages>) {
        let default = Choice::new(Rule::default());
        let again = choices.iter().map(|choice| Choice::new(choice.rule));
        let mut choices: Vec<Choice> = again.chain([default]).collect();
        let all = choices.len();
        self.round(&mut choices, LAST, all);
        let default = choices.iter().position(|choice| choice.rule == Rule::default());
        let (better, default) = choices.split_at(default.unwrap_or(0));
        for choice in better.iter().filter(|choice| choice.is_better_than(&default[0])) {
            let profile = self.with(choice.rule);
            let Ok(with) = self.needs(&profile) else { continue };
            if with.iter().zip(without).all(|(with, without)| with <= without) {
                return (profile, with);
            }
        }
        (self.profile.clone(), without.to_vec())
    }
}

#[cfg(test)]
mod tests;
