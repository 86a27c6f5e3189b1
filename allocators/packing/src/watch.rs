//! Whether the requests are those that a profile was learned from.

use crate::profile::Profile;
use crate::rule::Slopes;
use crate::sizes::Sizes;

/// The largest [distance](Sizes::distance) at which a profile is used. Two recordings of a program
/// mostly have less, two programs more (`docs/performance.md`).
pub const LIKE: f64 = 0.2;

/// The requests so far beside those of a profile, and the numbers that are not in use: those of the
/// profile, or those without one.
#[derive(Debug)]
pub(crate) struct Watch {
    profile: Profile,
    /// The requests that were served; older ones count less after a recording's length.
    seen: Sizes,
    /// How many they are.
    requests: u64,
    /// The beginning of the profile that is compared next.
    beginning: usize,
    /// How many requests there are then.
    next: u64,
    /// Whether the profile is in use.
    used: bool,
    /// The numbers that are not in use.
    pub(crate) other: Slopes,
}

impl Watch {
    /// A profile that is not in use, and its numbers.
    pub(crate) fn new(profile: Profile, other: Slopes) -> Self {
        // A profile without beginnings is like nothing.
        let next = profile.beginnings.first().map_or(u64::MAX, |first| first.requests);
        let seen = Sizes::default();
        Watch { profile, seen, requests: 0, beginning: 0, next, used: false, other }
    }

    /// Counts a request that was served. Returns whether the numbers must be changed for the others
    /// from now on.
    #[inline]
    pub(crate) fn changes(&mut self, pages: u32) -> bool {
        self.seen.count(pages);
        self.requests += 1;
        self.requests == self.next && self.look()
    }

    #[inline(never)]
    fn look(&mut self) -> bool {
        let beginnings = &self.profile.beginnings;
        let like = self.seen.distance(&beginnings[self.beginning].sizes) <= LIKE;
        match beginnings.get(self.beginning + 1) {
            Some(beginning) => {
                self.beginning += 1;
                self.next = beginning.requests;
            }
            None => {
                let whole = beginnings[self.beginning].requests;
                if self.requests >= 2 * whole {
                    self.seen.halve();
                    self.requests /= 2;
                }
                self.next = self.requests + whole.div_ceil(2);
            }
        }
        std::mem::replace(&mut self.used, like) != like
    }
}
