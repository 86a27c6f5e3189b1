//! `device_tree::read`, and `device_tree::write` of what it accepts.

use super::{grammar, is_one_line};
use crate::{Form, Outcome, Target};
use cma_board::device_tree::{read, write};
use cma_board::{Board, Note, Origin};
use cma_framework::config::{Bank, Map, Place, parse_regions};
use cma_framework::{DmaAddr, PAGE_SIZE, PageRange};
use proptest::prelude::*;

pub(super) const TARGET: Target = Target {
    name: "device_tree",
    about: "boards from device-tree blobs",
    form: Form::Binary,
    generate,
    dictionary: include_str!("../../dictionary/device_tree.dict"),
    check,
};

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;

/// A node to write.
#[derive(Clone, Debug)]
struct Node {
    name: String,
    properties: Vec<(String, Vec<u8>)>,
    children: Vec<Node>,
}

fn generate() -> BoxedStrategy<Vec<u8>> {
    let reserved = prop::collection::vec(node("[ab,]{1,2}(@[0-9]{1,2})?"), 0..5);
    let others = prop::collection::vec(node("aliases|chosen|memory(@[0-9])?|[ab]{1,2}"), 0..5);
    let ranges = prop::collection::vec((0..64_u64, 0..8_u64), 0..3);
    let cut = prop_oneof![8 => Just(0), 1 => 0..400_usize];
    (reserved, others, cells(), cells(), ranges, cut)
        .prop_map(|(reserved, mut others, root, words, ranges, cut)| {
            others.push(Node {
                name: "reserved-memory".into(),
                properties: words,
                children: reserved,
            });
            let root = Node { name: String::new(), properties: root, children: others };
            let mut bytes = blob(&root, &ranges);
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            bytes
        })
        .boxed()
}

/// `#address-cells` and `#size-cells`, mostly of one word each.
fn cells() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let count = prop_oneof![6 => Just(1_u32), 1 => 0..4_u32];
    prop::collection::vec(count, 2).prop_map(|counts| {
        let names = ["#address-cells", "#size-cells"].map(String::from);
        names.into_iter().zip(counts.into_iter().map(|n| n.to_be_bytes().to_vec())).collect()
    })
}

/// A node of that name with properties that matter, and up to one child.
fn node(name: &'static str) -> impl Strategy<Value = Node> {
    let word = prop_oneof![
        4 => 0..5_u32,
        4 => (0..64_u32).prop_map(|page| page << 12),
        1 => any::<u32>(),
    ];
    let words = |most| {
        prop::collection::vec(word.clone(), 1..=most)
            .prop_map(|words| words.into_iter().flat_map(u32::to_be_bytes).collect::<Vec<_>>())
    };
    let text = |regex| grammar(regex).prop_map(|text| [text.as_bytes(), b"\0"].concat());
    let value = prop_oneof![
        Just("reg").prop_flat_map({
            let w = words(4);
            move |n| (Just(n), w.clone())
        }),
        Just("size").prop_flat_map({
            let w = words(1);
            move |n| (Just(n), w.clone())
        }),
        Just("alignment").prop_flat_map({
            let w = words(1);
            move |n| (Just(n), w.clone())
        }),
        Just("alloc-ranges").prop_flat_map({
            let w = words(4);
            move |n| (Just(n), w.clone())
        }),
        Just("phandle").prop_flat_map({
            let w = words(1);
            move |n| (Just(n), w.clone())
        }),
        Just("memory-region").prop_flat_map({
            let w = words(3);
            move |n| (Just(n), w.clone())
        }),
        (Just("memory-region-names"), text("[a,]{0,2}")),
        (Just("compatible"), text("shared-dma-pool|other")),
        (Just("device_type"), text("memory")),
        (Just("status"), text("okay|disabled")),
        (Just("b"), text("/[ab]{1,2}")),
        (Just("no-map"), Just(Vec::new())),
        (Just("reusable"), Just(Vec::new())),
        (Just("linux,cma-default"), Just(Vec::new())),
    ];
    let properties = prop::collection::vec(value, 0..6)
        .prop_map(|all| all.into_iter().map(|(name, value)| (name.into(), value)).collect());
    let leaf = (grammar("[ab]{1,2}"), Just(Vec::new()), Just(Vec::new()))
        .prop_map(|(name, properties, children)| Node { name, properties, children });
    (grammar(name), properties, prop::collection::vec(leaf, 0..2))
        .prop_map(|(name, properties, children)| Node { name, properties, children })
}

/// The blob of a tree, with ranges of reserved memory in pages.
fn blob(root: &Node, ranges: &[(u64, u64)]) -> Vec<u8> {
    let (mut structure, mut strings) = (Vec::new(), Vec::new());
    push_node(root, &mut structure, &mut strings);
    structure.extend(END.to_be_bytes());
    let mut reserved: Vec<u8> = Vec::new();
    for (page, pages) in ranges.iter().filter(|range| **range != (0, 0)).chain([&(0, 0)]) {
        reserved.extend((page * PAGE_SIZE).to_be_bytes());
        reserved.extend((pages * PAGE_SIZE).to_be_bytes());
    }
    let structure_at = 40 + reserved.len();
    let strings_at = structure_at + structure.len();
    let size = strings_at + strings.len();
    let header = [size, structure_at, strings_at, 40, 17, 16, 0, strings.len(), structure.len()];
    let header = [0xd00d_feed].into_iter().chain(header.map(|field| field as u32));
    let header: Vec<u8> = header.flat_map(u32::to_be_bytes).collect();
    [header, reserved, structure, strings].concat()
}

fn push_node(node: &Node, structure: &mut Vec<u8>, strings: &mut Vec<u8>) {
    let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(4), 0);
    structure.extend(BEGIN_NODE.to_be_bytes());
    structure.extend([node.name.as_bytes(), b"\0"].concat());
    pad(structure);
    for (name, value) in &node.properties {
        for number in [PROPERTY, value.len() as u32, strings.len() as u32] {
            structure.extend(number.to_be_bytes());
        }
        structure.extend(value);
        pad(structure);
        strings.extend([name.as_bytes(), b"\0"].concat());
    }
    for child in &node.children {
        push_node(child, structure, strings);
    }
    structure.extend(END_NODE.to_be_bytes());
}

fn check(input: &[u8]) -> Outcome {
    match read(input) {
        Ok(read) => {
            read.notes.iter().for_each(is_a_remark);
            assert_eq!(read.regions.text(), read.board.regions_text());
            assert_eq!(read.map.text(), read.board.map_text());
            is_consistent(&read.board);
            let mut given = read.clone();
            given.replace_banks(&[Bank(PageRange::ADDRESS_SPACE)]);
            is_not_reserved(input, &given.board.banks);
            if read.board.regions.iter().all(|region| region.place.start().is_none()) {
                is_not_reserved(input, &read.board.banks);
            }
            let (source, notes) = write(&read.board);
            assert!(source.starts_with("/dts-v1/;") && source.ends_with("};\n"), "{source}");
            assert_eq!(source.matches("shared-dma-pool").count(), read.board.regions.len());
            notes.iter().for_each(is_a_remark);
            let defaults = source.matches("linux,cma-default").count();
            Outcome::accepted(format!(
                "{} banks, {} regions, {} rules, {defaults} default",
                read.board.banks.len().min(3),
                read.board.regions.len().min(4),
                read.board.map.rules().count().min(4),
            ))
        }
        Err(error) => {
            is_a_remark(&error.0);
            assert!(error.0.remedy.is_some() || matches!(error.0.at, Origin::Node(_)), "{error}");
            // Without the numbers and names of this input.
            let words = error
                .0
                .message
                .split([' ', ':'])
                .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            Outcome::refused(words.collect::<Vec<_>>().join(" "))
        }
    }
}

/// A remark is one line, and names a node by its path.
fn is_a_remark(note: &Note) {
    is_one_line(&note.to_string());
    note.remedy.iter().for_each(|remedy| is_one_line(remedy));
    if let Origin::Node(path) = &note.at {
        assert!(path.starts_with('/'), "{path:?} is no path");
    }
}

/// The regions and the map follow the grammars, banks are in order and apart, and a fixed region
/// lies in one bank.
fn is_consistent(board: &Board) {
    let parsed = parse_regions(&board.regions_text()).map(|regions| regions.len());
    assert_eq!(parsed, Ok(board.regions.len()));
    let map = Map::parse(&board.map_text());
    assert!(map.is_ok(), "{map:?}");
    for pair in board.banks.windows(2) {
        let (low, high) = (pair[0].0, pair[1].0);
        assert!(low.end_page() < high.first_page(), "{low} and {high} are one bank");
    }
    for region in &board.regions {
        if let Place::At(start) = region.place {
            let range = PageRange::from_bytes(start, region.size);
            let is_in = |Bank(bank): &Bank| range.is_some_and(|range| range.within(*bank));
            assert!(
                board.banks.is_empty() || board.banks.iter().any(is_in),
                "{region:?} is in none of {:?}",
                board.banks
            );
        }
    }
}

/// No bank has a page of which the blob's own list has a part.
fn is_not_reserved(blob: &[u8], banks: &[Bank]) {
    let number = |at: usize| blob[at..at + 8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let mut at = number(12) as u32 as usize;
    while (number(at), number(at + 8)) != (0, 0) {
        let (start, size) = (number(at), number(at + 8));
        for Bank(bank) in banks.iter().filter(|_| size > 0) {
            let last = start.saturating_add(size - 1);
            let is_apart =
                last < bank.start().get() || DmaAddr::new(start).page() >= bank.end_page();
            assert!(is_apart, "{start:#x}+{size:#x} is in the bank {bank}");
        }
        at += 16;
    }
}
