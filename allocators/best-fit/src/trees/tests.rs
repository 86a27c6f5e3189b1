//! A tree compared with a sorted set of the standard library after each step.

use super::*;
use cma_api::Alignment;
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
    let grids = [2, 4].map(|pages| Grid::new(1, Alignment::new(pages << 12).unwrap()));
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
            let reinsert = |trees: &mut Trees, entry: Entry, left| match left {
                None => trees.single(entry.rank(), entry.number()),
                Some(left) => trees.insert(left, entry.rank(), entry.number(), &nodes),
            };
            let least = rank(1 + random(HOLES)) - random(2);
            let expected = model.iter().copied().find(|&node| rank(node) >= least);
            let taken = trees.take_from(tree, least, &nodes);
            assert_eq!(taken.map(|(entry, _)| entry.number()), expected);
            if let Some((entry, left)) = taken {
                tree = reinsert(&mut trees, entry, left);
            }
            let wanted = AlignedRequest { pages: 5 + random(5), grid: grids[random(2) as usize] };
            let expected = model.iter().copied().find(|&node| wanted.fits(nodes.hole(node)));
            let taken = trees.take_aligned(tree, 0, &wanted, &nodes);
            assert_eq!(taken.map(|(entry, _)| entry.number()), expected);
            if let Some((entry, left)) = taken {
                tree = reinsert(&mut trees, entry, left);
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
