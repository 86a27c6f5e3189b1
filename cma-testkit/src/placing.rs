//! The author's declaration of where the allocator places chunks, which the suite verifies.

/// The rule by which an allocator finds a place. Each rule includes the guarantees of
/// [`Allocator`](cma_api::Allocator).
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
    /// Whether the allocator uses every free place.
    pub fn is_exact(self) -> bool {
        self != Placing::Any
    }
}
