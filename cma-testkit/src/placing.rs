//! What an author declares about where the allocator puts chunks: the suite holds it to that.

/// The rule by which an allocator finds a place. Each includes the promises of
/// [`Allocator`](cma_api::Allocator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// Any valid place. It may have no room for what would fit, and may refuse to adopt what it
    /// can't express; but it serves a page of an empty region, and adopts, in ascending order, what
    /// it placed itself.
    Any,
    /// Any valid place, and no room only when no hole can hold the request with its alignment. It
    /// adopts every free range.
    Exact,
    /// As [`Exact`](Self::Exact), in the place that [`Model::best_fit`](crate::Model::best_fit)
    /// finds.
    BestFit,
    /// As [`Exact`](Self::Exact), in the lowest place there is.
    FirstFit,
}

impl Placing {
    /// Whether every place that is free can be had.
    pub fn is_exact(self) -> bool {
        self != Placing::Any
    }
}
