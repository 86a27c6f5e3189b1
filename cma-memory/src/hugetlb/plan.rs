//! The needs of several regions of one pool together, so that the remedy in a refusal is the remedy
//! for all of them.

use cma_framework::Pages;
use cma_framework::reserve::ReserveRequest;

/// The regions that were announced.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Those that were not requested yet.
    waiting: Vec<ReserveRequest>,
    /// The regions whose refusals gave a remedy for all regions, with the kind of remedy.
    remedies: Vec<(Lack, String)>,
}

/// The kind of a pool's shortage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// Pages.
    Pages,
    /// Adjacent pages.
    Runs,
}

/// The need of one region and of the waiting ones.
#[derive(Clone, Debug)]
pub(super) struct Need {
    /// For this region and all waiting ones.
    pub(super) pages: Pages,
    /// The number of waiting regions besides this one.
    others: usize,
    remedies: Vec<(Lack, String)>,
}

impl Plan {
    /// A plan for regions that will be requested one after the other.
    pub(super) fn new(waiting: Vec<ReserveRequest>) -> Self {
        Plan { waiting, remedies: Vec::new() }
    }

    /// The need at the time of `request`.
    pub(super) fn need(&mut self, request: &ReserveRequest) -> Need {
        match self.waiting.iter().position(|waiting| waiting == request) {
            Some(at) => {
                self.waiting.remove(at);
            }
            // It was not announced, so no earlier remedy counts it in.
            None => return Need { pages: request.pages, others: 0, remedies: Vec::new() },
        }
        let sum = self.waiting.iter().map(|waiting| waiting.pages.get());
        let pages = sum.fold(request.pages.get(), u64::saturating_add);
        Need {
            pages: Pages::new(pages),
            others: self.waiting.len(),
            remedies: self.remedies.clone(),
        }
    }

    /// Records that the refusal of `region` gave the remedy for all waiting regions.
    pub(super) fn remedy_given(&mut self, lack: Lack, region: Option<&str>) {
        self.remedies.push((lack, region.unwrap_or("(private)").to_string()));
    }
}

impl Need {
    /// `remedy`, unless another region's refusal gave one that counts in this region.
    pub(super) fn remedy(&self, lack: Lack, remedy: impl FnOnce() -> String) -> String {
        match self.remedies.iter().find(|(given, _)| *given == lack) {
            Some((_, region)) => {
                format!("the command given for region {region} makes room for this region, too")
            }
            None => remedy(),
        }
    }

    /// The regions that a remedy is for, in words.
    pub(super) fn scope(&self) -> String {
        match self.others {
            0 => String::new(),
            others => format!(" (room for this region and {others} more)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::Alignment;
    use cma_framework::config::Place;

    fn request(name: &str, pages: u64) -> ReserveRequest {
        let name = Some(name.to_string());
        ReserveRequest {
            name,
            pages: Pages::new(pages),
            alignment: Alignment::PAGE,
            place: Place::Anywhere,
        }
    }

    #[test]
    fn a_remedy_of_each_kind_is_given_once_for_all_waiting_regions() {
        let [a, b, c, d] = [request("a", 1), request("b", 2), request("c", 4), request("d", 8)];
        let mut plan = Plan::new(vec![a.clone(), b.clone(), c.clone()]);
        assert_eq!(plan.need(&a).pages, Pages::new(7));
        let need = plan.need(&b);
        assert_eq!(
            (need.pages, need.scope()),
            (Pages::new(6), " (room for this region and 1 more)".into())
        );
        assert_eq!(need.remedy(Lack::Pages, || "this".to_string()), "this");
        plan.remedy_given(Lack::Pages, Some("b"));
        let need = plan.need(&c);
        assert_eq!((need.pages, need.scope()), (Pages::new(4), String::new()));
        assert!(
            need.remedy(Lack::Pages, || unreachable!())
                .contains("command given for region b makes room for")
        );
        assert_eq!(need.remedy(Lack::Runs, || "another".to_string()), "another");
        // An earlier remedy doesn't count in a region that was not announced.
        let need = plan.need(&d);
        assert_eq!(
            (need.pages, need.remedy(Lack::Pages, || "this".to_string())),
            (Pages::new(8), "this".into())
        );
    }
}
