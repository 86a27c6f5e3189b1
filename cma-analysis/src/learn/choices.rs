//! Choices of the numbers of packing.

use cma_packing::Rule;

/// The share of the peak by which a choice must be better than the numbers without a profile, in
/// the mean of the last round.
const MARGIN: f64 = 0.002;

/// How many standard errors of that mean it must be better.
const ERRORS: f64 = 2.0;

/// A choice, and what it needs.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) rule: Rule,
    /// What it needs beyond the peak, as a share of that: for each copy on which it was tried, the
    /// mean of the recordings.
    pub(super) beyond: Vec<f64>,
}

impl Choice {
    pub(super) fn new(rule: Rule) -> Self {
        Choice { rule, beyond: Vec::new() }
    }

    pub(super) fn mean(&self) -> f64 {
        mean(self.beyond.iter().copied())
    }

    /// Whether this one needs less than `other` on the same copies, by more than chance.
    pub(super) fn is_better_than(&self, other: &Choice) -> bool {
        let gains = || other.beyond.iter().zip(&self.beyond).map(|(other, this)| other - this);
        let gain = mean(gains());
        let variance = mean(gains().map(|one| (one - gain).powi(2)));
        let error = (variance / gains().count().saturating_sub(1).max(1) as f64).sqrt();
        gain >= MARGIN.max(ERRORS * error)
    }

    /// One like it.
    pub(super) fn changed(&self, random: &mut Random) -> Choice {
        let mut change = |number: f64| number * random.between(0.6, 1.6);
        let Rule { steepness, share, steepest, own_grade } = self.rule;
        let rule = Rule {
            steepness: change(steepness),
            share: change(share),
            steepest: change(steepest),
            own_grade: change(own_grade),
        };
        Choice::new(rounded(rule))
    }
}

/// The choices to begin with: the numbers without a profile, best fit, and `count` less 2 others.
pub(super) fn first(count: usize, random: &mut Random) -> Vec<Choice> {
    let default = Rule::default();
    let best_fit = Rule { steepness: 0.0, own_grade: 0.0, ..default };
    let mut choices = vec![Choice::new(default), Choice::new(best_fit)];
    choices.resize_with(count.max(choices.len()), || {
        let rule = Rule {
            steepness: random.between(0.1, 4.0),
            share: random.between(1.0, 200.0),
            steepest: random.between(1.0, 12.0),
            own_grade: random.between(0.05, 3.0),
        };
        Choice::new(rounded(rule))
    });
    choices
}

/// The numbers with the digits that matter, within their ranges.
fn rounded(rule: Rule) -> Rule {
    let hundredths = |number: f64| (number * 100.0).round() / 100.0;
    Rule {
        steepness: hundredths(rule.steepness.min(32.0)),
        share: hundredths(rule.share.clamp(1.0, 65536.0)),
        steepest: hundredths(rule.steepest.min(32.0)),
        own_grade: hundredths(rule.own_grade.min(32.0)),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a mean of few")]
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0_u64, 0.0), |(count, sum), value| (count + 1, sum + value));
    sum / count.max(1) as f64
}

/// SplitMix64 (Steele, Lea and Flood, 2014), from a fixed seed.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A number from 0 to 1.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let high = ((z ^ z >> 31) >> 11) as f64;
        high / (1_u64 << 53) as f64
    }

    /// A number between two, with a uniform logarithm.
    fn between(&mut self, least: f64, most: f64) -> f64 {
        least * (most / least).powf(self.unit())
    }
}
