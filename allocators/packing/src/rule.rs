//! The numbers of the rule.

use cma_api::{InitError, Params};
use std::ops::RangeInclusive;

/// The octaves of a hole's size that the length of the region costs, for each octave by which a
/// chunk is smaller than the [`SHARE`] of the region, without parameters. So are the next three.
pub const STEEPNESS: f64 = 0.7;

/// The part of the region, as its divisor, that has no preferred end.
pub const SHARE: f64 = 8.0;

/// The most octaves that the length of the region costs.
pub const STEEPEST: f64 = 5.0;

/// The octaves by which a hole of the chunk's own grade counts as smaller.
pub const OWN_GRADE: f64 = 1.0;

/// The numbers of the rule. The [crate's documentation](crate) describes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// In place of [`STEEPNESS`]: 0 to 32.
    pub steepness: f64,
    /// In place of [`SHARE`]: 1 to 65536.
    pub share: f64,
    /// In place of [`STEEPEST`]: 0 to 32.
    pub steepest: f64,
    /// In place of [`OWN_GRADE`]: 0 to 32.
    pub own_grade: f64,
}

impl Default for Rule {
    fn default() -> Self {
        Rule { steepness: STEEPNESS, share: SHARE, steepest: STEEPEST, own_grade: OWN_GRADE }
    }
}

/// A number of the rule: its name in parameters and in profiles, and its range.
pub(crate) struct Number {
    pub(crate) key: &'static str,
    range: RangeInclusive<f64>,
    pub(crate) of: fn(&mut Rule) -> &mut f64,
}

/// The numbers in the order in which parameters and profiles are documented.
pub(crate) const NUMBERS: [Number; 4] = [
    Number { key: "steepness", range: 0.0..=32.0, of: |rule| &mut rule.steepness },
    Number { key: "share", range: 1.0..=65536.0, of: |rule| &mut rule.share },
    Number { key: "steepest", range: 0.0..=32.0, of: |rule| &mut rule.steepest },
    Number { key: "own-grade", range: 0.0..=32.0, of: |rule| &mut rule.own_grade },
];

impl Number {
    /// What is wrong with `value`, if anything is.
    pub(crate) fn fault(&self, value: f64) -> Option<String> {
        let (least, most) = (self.range.start(), self.range.end());
        let right = self.range.contains(&value);
        (!right).then(|| format!("takes a number from {least} to {most}, found {value}"))
    }
}

/// The numbers that parameters state, each in the place of that of a rule.
#[derive(Debug, Default)]
pub(crate) struct Stated([Option<f64>; NUMBERS.len()]);

impl Stated {
    /// Takes the numbers out of `params`.
    pub(crate) fn take(params: &mut Params<'_>) -> Result<Self, InitError> {
        let mut stated = [None; NUMBERS.len()];
        for (value, number) in stated.iter_mut().zip(NUMBERS) {
            *value = params.fraction(number.key)?;
            if let Some(fault) = value.and_then(|value| number.fault(value)) {
                return Err(InitError::new(format!("parameter \"{}\" {fault}", number.key)));
            }
        }
        Ok(Stated(stated))
    }

    /// `rule` with these numbers.
    pub(crate) fn over(&self, mut rule: Rule) -> Rule {
        for (value, number) in self.0.iter().zip(NUMBERS) {
            if let Some(value) = value {
                *(number.of)(&mut rule) = *value;
            }
        }
        rule
    }
}

/// A rule for a region: what a search computes with.
#[derive(Debug)]
pub(crate) struct Slopes {
    /// The octaves that a page of distance from the region's start costs a chunk of each grade.
    pub(crate) of_grade: Vec<f64>,
    /// The octaves by which a hole of the chunk's own grade counts as smaller.
    pub(crate) own_grade: f64,
}

impl Slopes {
    /// `rule` in a region of `region` pages, for grades of sizes of these `octaves`.
    pub(crate) fn new(rule: &Rule, octaves: impl Iterator<Item = f64>, region: u32) -> Self {
        let share = (f64::from(region) / rule.share).log2();
        let slope = |octaves: f64| {
            let steepness = rule.steepness * (share - octaves);
            steepness.clamp(-rule.steepest, rule.steepest) / f64::from(region)
        };
        Slopes { of_grade: octaves.map(slope).collect(), own_grade: rule.own_grade }
    }
}
