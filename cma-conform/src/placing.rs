//! The author's declaration of where the allocator places chunks, which the suite verifies.

use std::fmt;

/// The rule by which an allocator finds a place. Each rule includes the guarantees of
/// [`Allocator`](cma_api::Allocator).
///
/// | rule | the allocator | such as |
/// | --- | --- | --- |
/// | [`FirstFit`](Self::FirstFit) | finds the lowest free place | a bitmap that is searched from its start |
/// | [`BestFit`](Self::BestFit) | finds the smallest hole that holds the request within its limits | a tree of holes by size |
/// | [`Exact`](Self::Exact) | finds any place, and returns `NoRoom` only when there is none | another rule, such as next fit |
/// | [`Any`](Self::Any) | may refuse a request that would fit | buddy blocks, size classes |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// Any valid place. The allocator may refuse a request that would fit, and may refuse to adopt
    /// a range that it can't represent. But it serves a page of an empty region, and adopts, in
    /// ascending order, the chunks that it placed itself.
    Any,
    /// Any valid place, and `NoRoom` only when no hole can hold the request within its limits. The
    /// allocator adopts every free range.
    Exact,
    /// As [`Exact`](Self::Exact), in the place that [`Model::best_fit`](crate::Model::best_fit)
    /// finds.
    BestFit,
    /// As [`Exact`](Self::Exact), at the lowest free place.
    FirstFit,
}

impl Placing {
    /// Every rule, from the weakest.
    pub const ALL: [Placing; 4] =
        [Placing::Any, Placing::Exact, Placing::BestFit, Placing::FirstFit];

    /// Whether the allocator uses every free place.
    pub fn is_exact(self) -> bool {
        self != Placing::Any
    }
}

impl fmt::Display for Placing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Placing::Any => "any",
            Placing::Exact => "exact",
            Placing::BestFit => "best-fit",
            Placing::FirstFit => "first-fit",
        })
    }
}
