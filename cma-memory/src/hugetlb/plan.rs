//! What several regions take of one pool together, so that a refusal's remedy is the remedy for all
//! of them.

use cma_framework::Pages;
use cma_framework::reserve::ReserveRequest;

/// The regions that were announced.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Those that were not asked for yet.
    waiting: Vec<ReserveRequest>,
    /// Who was told a remedy for all of them, and of which kind.
    told: Vec<(Lack, String)>,
}

/// What a pool lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// Pages.
    Pages,
    /// Pages side by side.
    Runs,
}

/// What is to be had of a pool from now on.
#[derive(Clone, Debug)]
pub(super) struct Need {
    /// For this region and all that wait.
    pub(super) pages: Pages,
    /// How many wait besides this one.
    others: usize,
    told: Vec<(Lack, String)>,
}

impl Plan {
    /// The regions that will be asked for, one after the other.
    pub(super) fn new(waiting: Vec<ReserveRequest>) -> Self {
        Plan { waiting, told: Vec::new() }
    }

    /// What is needed when `request` comes.
    pub(super) fn need(&mut self, request: &ReserveRequest) -> Need {
        match self.waiting.iter().position(|waiting| waiting == request) {
            Some(at) => {
                self.waiting.remove(at);
            }
            // It comes by itself, and what was said before was said without it.
            None => return Need { pages: request.pages, others: 0, told: Vec::new() },
        }
        let sum = self.waiting.iter().map(|waiting| waiting.pages.get());
        let pages = sum.fold(request.pages.get(), u64::saturating_add);
        Need { pages: Pages::new(pages), others: self.waiting.len(), told: self.told.clone() }
    }

    /// `region` was told the remedy for all that waited.
    pub(super) fn told(&mut self, lack: Lack, region: Option<&str>) {
        self.told.push((lack, region.unwrap_or("(private)").to_string()));
    }
}

impl Need {
    /// `remedy`, unless another region was told one that counts this region in.
    pub(super) fn remedy(&self, lack: Lack, remedy: impl FnOnce() -> String) -> String {
        match self.told.iter().find(|(told, _)| *told == lack) {
            Some((_, region)) => {
                format!("the command given for region {region} makes room for this region, too")
            }
            None => remedy(),
        }
    }

    /// For whom a remedy is, in words.
    pub(super) fn for_whom(&self) -> String {
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

    fn request(name: &str, pages: u64) -> ReserveRequest {
        let name = Some(name.to_string());
        ReserveRequest { name, pages: Pages::new(pages), alignment: Alignment::PAGE, start: None }
    }

    #[test]
    fn one_remedy_of_each_kind_is_for_all_regions_that_wait() {
        let [a, b, c, d] = [request("a", 1), request("b", 2), request("c", 4), request("d", 8)];
        let mut plan = Plan::new(vec![a.clone(), b.clone(), c.clone()]);
        assert_eq!(plan.need(&a).pages, Pages::new(7));
        let need = plan.need(&b);
        assert_eq!(
            (need.pages, need.for_whom()),
            (Pages::new(6), " (room for this region and 1 more)".into())
        );
        assert_eq!(need.remedy(Lack::Pages, || "this".to_string()), "this");
        plan.told(Lack::Pages, Some("b"));
        let need = plan.need(&c);
        assert_eq!((need.pages, need.for_whom()), (Pages::new(4), String::new()));
        assert!(
            need.remedy(Lack::Pages, || unreachable!())
                .contains("command given for region b makes room for")
        );
        assert_eq!(need.remedy(Lack::Runs, || "another".to_string()), "another");
        // One that nobody announced is not counted in what was said.
        let need = plan.need(&d);
        assert_eq!(
            (need.pages, need.remedy(Lack::Pages, || "this".to_string())),
            (Pages::new(8), "this".into())
        );
    }
}
