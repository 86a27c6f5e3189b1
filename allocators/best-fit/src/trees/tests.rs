//! A tree compared with a sorted set of the standard library after each step.

use super::*;
use cma_api::{Alignment, Asker, Boundary, PageRange, Pages, Request};
use std::collections::BTreeSet;

/// Nodes for holes of 1 to 8 pages, one in every thousand pages.
fn scattered(holes: u32) -> Nodes {
    let (mut nodes, mut last) = Nodes::new(1_000 * holes);
    for n in 1..holes {
        let start = 1_000 * n + n % 5;
        let before = nodes.get(last).start;
        nodes.resize(last, before, 1 + n * 7 % 8);
        last = nodes.insert_after(last, start, 1);
    }
    nodes
}

#[test]
fn a_tree_has_the_inserted_holes_in_order() {
    const HOLES: u32 = 2_000;
    let nodes = scattered(HOLES);
    let mut state = 1u64;
    let mut random = move |bound: u32| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(bound)) as u32
    };
    let region = PageRange::from_pages(1, u64::from(1_000 * HOLES));
    let grids = [(2, None), (4, None), (1, Some(8))].map(|(alignment, boundary)| {
        let alignment = Alignment::new(alignment << 12).unwrap();
        let boundary =
            boundary.map_or(Boundary::NONE, |pages: u64| Boundary::new(pages << 12).unwrap());
        let request = Request::new(Pages::new(1), alignment, Asker::NOBODY).unwrap();
        Grid::of(&request.limited(PageRange::ADDRESS_SPACE, boundary).unwrap(), region)
    });
    let (mut trees, mut root, mut model) = (Trees::new(), None, BTreeSet::new());
    let rank = |node: u32| node * 16;
    for step in 0..30_000u32 {
        // Five waves: the tree grows to thousands of holes and shrinks to a few.
        let grows = random(100) < if step / 3_000 % 2 == 0 { 80 } else { 15 };
        let node = 1 + random(HOLES);
        if grows && model.insert(node) {
            root = Some(match root {
                None => trees.single(rank(node), node),
                Some(root) => trees.insert(root, rank(node), node, &nodes),
            });
        } else if let Some(&there) = model.range(node..).next() {
            model.remove(&there);
            root = trees.remove(root.unwrap(), rank(there), there, &nodes);
        }
        if let Some(mut tree) = root {
            let least = rank(1 + random(HOLES)) - random(2);
            let wanted = Wanted { pages: 5 + random(5), grid: grids[random(3) as usize] };
            let placing = step % 2 == 0;
            let expected = model.iter().copied().find(|&node| {
                rank(node) >= least && (!placing || wanted.fits(Hole::of_node(&nodes, node)))
            });
            let found = if placing {
                trees.first_placing(tree, least, &wanted, &nodes)
            } else {
                trees.first_from(tree, least)
            };
            assert_eq!(found.map(|spot| trees.entry(spot).number()), expected);
            if let Some(spot) = found {
                let entry = trees.entry(spot);
                let left = trees.remove_at(tree, spot, &nodes);
                tree = match left {
                    None => trees.single(entry.rank(), entry.number()),
                    Some(left) => trees.insert(left, entry.rank(), entry.number(), &nodes),
                };
            }
            assert_eq!(trees.last(tree), *model.last().unwrap());
            root = Some(tree);
        }
        if step % 100 == 0 {
            let mut visited = BTreeSet::new();
            let blocks = match root {
                None => 0,
                Some(root) => trees
                    .check(root, &nodes, &mut |entry| assert!(visited.insert(entry.number())))
                    .unwrap(),
            };
            trees.check_pool(blocks).unwrap();
            assert_eq!(visited, model);
        }
    }
}
