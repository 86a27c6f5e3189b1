//! A tree beside a sorted set from the standard library, looked through after each step.

use super::*;
use std::collections::BTreeMap;

/// A tree and what should be in it.
struct Both {
    trees: Trees,
    root: u32,
    model: BTreeMap<Hole, u32>,
}

impl Both {
    fn new() -> Self {
        Both { trees: Trees::new(), root: NONE, model: BTreeMap::new() }
    }

    fn insert(&mut self, hole: Hole, node: u32) {
        self.root = match self.root {
            NONE => self.trees.single(hole, node),
            root => self.trees.insert(root, hole, node),
        };
        self.model.insert(hole, node);
    }

    fn remove(&mut self, hole: Hole) {
        self.root = self.trees.remove(self.root, hole);
        self.model.remove(&hole);
    }

    fn check(&self) {
        let mut told = Vec::new();
        let blocks = match self.root {
            NONE => 0,
            root => self.trees.check(root, &mut |hole, node| told.push((hole, node))).unwrap(),
        };
        self.trees.check_pool(blocks).unwrap();
        assert!(told.iter().rev().copied().eq(self.model.iter().map(|(&hole, &node)| (hole, node))));
    }
}

#[test]
fn a_tree_holds_what_was_put_in_in_order() {
    let mut state = 1u64;
    let mut chance = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut both = Both::new();
    let page = cma_api::Alignment::PAGE;
    let grids = [1, 2].map(|shift| Grid::new(1, cma_api::Alignment::new(page.bytes() << shift).unwrap()));
    for step in 0..60_000u32 {
        // Five waves: the tree grows to a few thousand holes and shrinks to none.
        let grows = chance(100) < if step / 6_000 % 2 == 0 { 80 } else { 15 };
        let hole = Hole::new(1 + chance(8) as u32, chance(4_000) as u32);
        if grows && !both.model.contains_key(&hole) {
            both.insert(hole, step);
        } else if let Some(&there) = both.model.range(hole..).next().map(|(there, _)| there) {
            both.remove(there);
        } else if !both.model.is_empty() {
            let least = 1 + chance(9) as u32;
            let expected = both.model.range(Hole::least(least)..).next().map(|(&hole, &node)| (hole, node));
            let taken = both.trees.take(both.root, least);
            assert_eq!(taken.map(|(hole, node, _)| (hole, node)), expected);
            if let Some((hole, _, root)) = taken {
                both.root = root;
                both.model.remove(&hole);
            }
        }
        if both.root != NONE {
            let wanted = Wanted { pages: 1 + chance(8) as u32, grid: grids[chance(2) as usize] };
            let fits = |hole: &Hole| wanted.grid.reach(*hole) >= wanted.pages;
            let expected = both.model.keys().find(|hole| fits(hole)).map(|hole| (*hole, both.model[hole]));
            assert_eq!(both.trees.first(both.root, &wanted), expected);
            assert_eq!(both.trees.largest(both.root), *both.model.keys().next_back().unwrap());
        }
        if step % 100 == 0 {
            both.check();
        }
    }
}
