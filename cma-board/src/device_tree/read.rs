//! From a blob to a board.

use super::blob::BlobError;
use super::names::{device_name, distinct, region_name, without_address};
use super::tree::{Extent, Id, PropertyFault, Tree};
use crate::board::{Board, BoardRegion};
use crate::note::{BoardError, Note, Origin};
use crate::pages::{difference, union};

use crate::read_board::ReadBoard;
use cma_framework::PageRange;
use cma_framework::config::{Bank, Growth, Map, Place, Window};
use std::collections::{HashMap, HashSet};

/// The node whose children are reserved memory.
pub(super) const RESERVED: &str = "reserved-memory";

/// The longest map in bytes: a device can name a node with many ranges many times.
const MOST_MAP_BYTES: usize = 1 << 20;

/// What to do about memory that the tree doesn't state.
const STATE_BANKS: &str = "state the banks, as in --banks '2G@0x80000000', or read the tree of the \
    running board, /sys/firmware/fdt; what is withheld is taken from both";

/// What to do about a property that is wrong.
const CORRECT: &str = "correct the property in the source of the tree";

/// Reads a board from a device-tree blob.
///
/// # Errors
///
/// A file that is no blob, a damaged one, and properties that contradict themselves, with the path
/// of the node.
pub fn read(file: &[u8]) -> Result<ReadBoard, BoardError> {
    let tree = Tree::read(file).map_err(blob_error)?;
    let mut reading = Reading { tree: &tree, notes: Vec::new() };
    let devices = reading.devices()?;
    let asked = devices.iter().flat_map(|device| &device.regions).map(|(_, node)| *node).collect();
    let reserved = reading.reserved(&asked)?;
    let withheld = reserved.withheld.iter().copied().chain(tree.reservations());
    let withheld = union(withheld.filter_map(Extent::pages_touched));
    let banks = reading.banks(&reserved, &withheld)?;
    let names = reading.region_names(&reserved.regions);
    let (rules, rules_at) = reading.rules(&devices, &reserved, &names)?;
    reading.remark_on_boot_arguments();

    let regions_at: Vec<_> = reserved.regions.iter().map(|r| node_origin(&tree, r.node)).collect();
    let regions = reserved.regions.into_iter().zip(names);
    let name = tree.text(0, "model").or_else(|| tree.texts(0, "compatible").next());
    let board = Board {
        name: name.map(String::from),
        banks: banks.into_iter().map(Bank).collect(),
        // Linux takes the highest free place for a node without `reg`.
        growth: Growth::Down,
        regions: regions.map(|(r, name)| BoardRegion { name, ..r.region }).collect(),
        map: Map::parse(&rules).map_err(|error| BoardError(Note::new(error.to_string())))?,
        ..Board::default()
    };
    let read = ReadBoard::new(board, &regions_at, &rules_at, reading.notes)?;
    Ok(ReadBoard { withheld, ..read })
}

fn node_origin(tree: &Tree<'_>, node: Id) -> Origin {
    Origin::Node(tree.path(node))
}

fn blob_error(error: BlobError) -> BoardError {
    let note = Note::new(error.to_string()).with_remedy(error.remedy());
    BoardError(match error {
        BlobError::Damaged { path, .. } if !path.is_empty() => note.at_node(path),
        _ => note,
    })
}

/// A device whose node has a `memory-region`.
struct Device<'a> {
    node: Id,
    /// The nodes that it refers to, each with its type, in order.
    regions: Vec<(Option<&'a str>, Id)>,
}

/// What the children of `/reserved-memory` say.
#[derive(Default)]
struct Reserved {
    regions: Vec<ReservedRegion>,
    withheld: Vec<Extent>,
    /// The node of the default pool.
    default: Option<Id>,
}

/// A region and the node that describes it; one node describes several if it has several ranges.
struct ReservedRegion {
    node: Id,
    /// The region, without its name.
    region: BoardRegion,
}

/// A blob that is being read, and what is to be said about it.
struct Reading<'t, 'a> {
    tree: &'t Tree<'a>,
    notes: Vec<Note>,
}

impl<'a> Reading<'_, 'a> {
    fn note_at(&mut self, node: Id, message: impl Into<String>) {
        self.notes.push(Note::new(message).at(node_origin(self.tree, node)));
    }

    /// A note about several nodes or names, if there are any.
    fn note_about(&mut self, node: Option<Id>, what: &str, items: &[String]) {
        if !items.is_empty() {
            self.note_at(node.unwrap_or(0), format!("{what}: {}", items.join(", ")));
        }
    }

    fn fault(&self, node: Id, property: &str, fault: &PropertyFault) -> BoardError {
        self.mistake(node, format!("{property}: {fault}"))
    }

    /// A property that is wrong.
    fn mistake(&self, node: Id, message: impl Into<String>) -> BoardError {
        BoardError(Note::new(message).at(node_origin(self.tree, node)).with_remedy(CORRECT))
    }

    fn extents(&self, node: Id, name: &str) -> Result<Option<Vec<Extent>>, BoardError> {
        let extents = self.tree.extents(node, name).transpose();
        extents.map_err(|fault| self.fault(node, name, &fault))
    }

    fn size(&self, node: Id, name: &str) -> Result<Option<u64>, BoardError> {
        self.tree.size(node, name).transpose().map_err(|fault| self.fault(node, name, &fault))
    }

    /// The devices that refer to reserved memory, in the order of the tree.
    fn devices(&mut self) -> Result<Vec<Device<'a>>, BoardError> {
        let tree = self.tree;
        let reserved = tree.top(RESERVED);
        let mut devices = Vec::new();
        for node in tree.ids().filter(|node| tree.is_enabled(*node)) {
            let Some(phandles) = tree.words(node, "memory-region") else { continue };
            let phandles = phandles.map_err(|fault| self.fault(node, "memory-region", &fault))?;
            let mut kinds = tree.texts(node, "memory-region-names");
            let mut regions = Vec::new();
            for phandle in phandles {
                let kind = kinds.next();
                match tree.by_phandle(phandle) {
                    Some(region) if Some(tree.parent(region)) != reserved => self.note_at(
                        node,
                        format!(
                            "memory-region: {} is no child of /{RESERVED}, so no rule of the map \
                             names it",
                            tree.path(region)
                        ),
                    ),
                    Some(region) if !tree.is_enabled(region) => self
                        .note_at(node, format!("memory-region: {} is disabled", tree.path(region))),
                    Some(region) => regions.push((kind, region)),
                    None => self.note_at(
                        node,
                        format!("memory-region: no node has the phandle {phandle:#x}"),
                    ),
                }
            }
            if !regions.is_empty() {
                devices.push(Device { node, regions });
            }
        }
        Ok(devices)
    }

    /// The children of `/reserved-memory`. `asked` are those that devices refer to.
    fn reserved(&mut self, asked: &HashSet<Id>) -> Result<Reserved, BoardError> {
        let tree = self.tree;
        let mut reserved = Reserved::default();
        let Some(parent) = tree.top(RESERVED) else { return Ok(reserved) };
        let (mut disabled, mut withheld) = (Vec::new(), Vec::new());
        for node in tree.children(parent) {
            if !tree.is_enabled(node) {
                disabled.push(tree.name(node).to_string());
                continue;
            }
            let is_pool = tree.texts(node, "compatible").any(is_pool);
            let regions = match (self.extents(node, "reg")?, self.size(node, "size")?) {
                (Some(ranges), _) if is_pool || asked.contains(&node) => {
                    self.fixed(node, &ranges, &mut reserved)
                }
                (Some(ranges), _) => {
                    let texts: Vec<_> = ranges.iter().map(ToString::to_string).collect();
                    withheld.push(format!("{} ({})", tree.name(node), texts.join(" ")));
                    reserved.withheld.extend(ranges);
                    continue;
                }
                (None, Some(size)) => vec![self.movable(node, size)?],
                (None, None) => {
                    self.note_at(node, "neither reg nor size: left out");
                    continue;
                }
            };
            if tree.has(node, "linux,cma-default") && !regions.is_empty() {
                if !is_pool || !tree.has(node, "reusable") || tree.has(node, "no-map") {
                    self.note_at(
                        node,
                        "linux,cma-default without effect: the default pool is a shared-dma-pool \
                         that is reusable and not no-map",
                    );
                } else if let Some(earlier) = reserved.default.replace(node) {
                    self.note_at(earlier, "linux,cma-default without effect: a later node has it");
                }
            }
            let no_map = tree.has(node, "no-map");
            reserved.regions.extend(
                regions.into_iter().map(|region| ReservedRegion {
                    node,
                    region: BoardRegion { no_map, ..region },
                }),
            );
        }
        self.note_about(Some(parent), "disabled, so left out", &disabled);
        self.note_about(
            Some(parent),
            "withheld from the banks, because they are no shared-dma-pool and no memory-region \
             refers to them",
            &withheld,
        );
        Ok(reserved)
    }

    /// The regions of a node with fixed ranges.
    fn fixed(&mut self, node: Id, ranges: &[Extent], reserved: &mut Reserved) -> Vec<BoardRegion> {
        let mut regions = Vec::new();
        for range in ranges {
            match range.pages_within() {
                None => self.note_at(node, format!("{range} has no whole page: left out")),
                Some(pages) if pages.first_page() == 0 => {
                    self.note_at(
                        node,
                        format!("{range} is withheld: a region can't start at address 0"),
                    );
                    reserved.withheld.push(*range);
                }
                Some(pages) => {
                    if !range.is_whole() {
                        self.note_at(node, format!("{range} is cut to whole pages: {pages}"));
                    }
                    regions.push(BoardRegion {
                        size: pages.bytes(),
                        place: Place::At(pages.start()),
                        ..BoardRegion::default()
                    });
                }
            }
        }
        regions
    }

    /// The region of a node whose place is chosen at boot.
    fn movable(&mut self, node: Id, size: u64) -> Result<BoardRegion, BoardError> {
        let ranges = self.extents(node, "alloc-ranges")?.unwrap_or_default();
        if ranges.len() > 1 {
            let rest: Vec<_> = ranges[1..].iter().map(ToString::to_string).collect();
            let first = ranges[0];
            self.note_at(
                node,
                format!(
                    "alloc-ranges: the region lies within the first range, {first}; a window is \
                     one range, so these are not tried: {}",
                    rest.join(", ")
                ),
            );
        }
        let place = match ranges.first() {
            None => Place::Anywhere,
            Some(range) => {
                Place::Within(Window::sized(range.start, range.size).ok_or_else(|| {
                    self.mistake(node, format!("alloc-ranges: {range} is no range of addresses"))
                })?)
            }
        };
        if size == 0 {
            return Err(self.mistake(node, "size: a region of 0 bytes"));
        }
        // An alignment of 0 is none, as in Linux.
        let alignment = self.size(node, "alignment")?.filter(|alignment| *alignment != 0);
        if let Some(alignment) = alignment.filter(|alignment| !alignment.is_power_of_two()) {
            let message = format!("alignment: {alignment:#x} bytes, no power of two");
            return Err(self.mistake(node, message));
        }
        Ok(BoardRegion { size, place, alignment, ..BoardRegion::default() })
    }

    /// The banks: what the memory nodes state, without what is withheld, and the ranges of fixed
    /// regions. None if the nodes state nothing: fixed regions alone are not the board's memory.
    fn banks(
        &mut self,
        reserved: &Reserved,
        withheld: &[PageRange],
    ) -> Result<Vec<PageRange>, BoardError> {
        let tree = self.tree;
        let mut memory = Vec::new();
        for node in tree.children(0) {
            if tree.text(node, "device_type") != Some("memory") || !tree.is_enabled(node) {
                continue;
            }
            let usable = self.extents(node, "linux,usable-memory")?;
            let ranges = usable.map_or_else(|| self.extents(node, "reg"), |r| Ok(Some(r)))?;
            let stated = ranges.unwrap_or_default();
            for range in stated.iter().filter(|range| range.size > 0) {
                if !range.is_whole() {
                    self.note_at(node, format!("{range} is cut to whole pages"));
                }
                memory.extend(range.pages_within());
            }
            if stated.iter().all(|range| range.size == 0) {
                let note = Note::new("no size: a boot loader states it");
                self.notes.push(note.at(node_origin(tree, node)).with_remedy(STATE_BANKS));
            }
        }
        if memory.is_empty() {
            return Ok(memory);
        }
        let banks = difference(&union(memory), withheld);

        let fixed = reserved.regions.iter().filter_map(|reserved| {
            let Place::At(start) = reserved.region.place else { return None };
            Some((reserved.node, PageRange::from_bytes(start, reserved.region.size)?))
        });
        let (mut own, mut outside) = (Vec::new(), Vec::new());
        for (node, range) in fixed {
            if !difference(&[range], &banks).is_empty() {
                own.push(range);
                outside.push(tree.name(node).to_string());
            }
        }
        outside.dedup();
        self.note_about(
            tree.top(RESERVED),
            "not in the memory that the tree leaves, so banks of their own",
            &outside,
        );
        Ok(union(banks.into_iter().chain(own)))
    }

    /// The names of the regions: those of their nodes. The address of a node is left out where the
    /// name is unique without it.
    fn region_names(&mut self, regions: &[ReservedRegion]) -> Vec<String> {
        let tree = self.tree;
        let mut nodes: Vec<_> = regions.iter().map(|region| region.node).collect();
        nodes.dedup();
        let mut uses = HashMap::new();
        for node in &nodes {
            *uses.entry(region_name(without_address(tree.name(*node)))).or_insert(0) += 1;
        }
        let wanted = regions.iter().map(|region| {
            let short = region_name(without_address(tree.name(region.node)));
            match uses.get(&short) {
                Some(1) => short,
                _ => region_name(tree.name(region.node)),
            }
        });
        let names = distinct(&wanted.collect::<Vec<_>>());
        let renamed = regions.iter().zip(&names).filter_map(|(region, name)| {
            let node = tree.name(region.node);
            (without_address(node) != name).then(|| format!("{node} as {name}"))
        });
        let renamed: Vec<_> = renamed.collect();
        self.note_about(
            tree.top(RESERVED),
            "regions with another name than their node, because names of regions are unique and \
             have no , and no @",
            &renamed,
        );
        names
    }

    /// The map, and the node that each rule is from.
    fn rules(
        &mut self,
        devices: &[Device<'_>],
        reserved: &Reserved,
        names: &[String],
    ) -> Result<(String, Vec<Origin>), BoardError> {
        let tree = self.tree;
        let mut names_of: HashMap<Id, Vec<&str>> = HashMap::new();
        for (region, name) in reserved.regions.iter().zip(names) {
            names_of.entry(region.node).or_default().push(name);
        }
        let called = self.device_names(devices);
        let (mut rules, mut origins, mut size) = (Vec::new(), Vec::new(), 0);
        for (device, called) in devices.iter().zip(&called) {
            // The regions of each type, in the order of the types.
            let mut kinds: Vec<(Option<String>, Vec<&str>)> = Vec::new();
            let mut places = HashMap::new();
            for (kind, node) in &device.regions {
                let kind = kind.map(device_name).filter(|kind| !kind.is_empty());
                let names = names_of.get(node).map(Vec::as_slice).unwrap_or_default();
                size += names.iter().map(|name| name.len() + 1).sum::<usize>();
                if size > MOST_MAP_BYTES {
                    let note = Note::new("the regions of memory-region make a map of over 1 MiB");
                    return Err(BoardError(note.at(node_origin(tree, device.node))));
                }
                let place = *places.entry(kind.clone()).or_insert(kinds.len());
                if place == kinds.len() {
                    kinds.push((kind, Vec::new()));
                }
                kinds[place].1.extend(names);
            }
            // A pattern without a type matches every type, so it comes last.
            kinds.sort_by_key(|(kind, _)| kind.is_none());
            for (kind, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
                let pattern = |device: &String| match &kind {
                    Some(kind) => format!("{device}/{kind}"),
                    None => device.clone(),
                };
                let patterns: Vec<_> = called.iter().map(pattern).collect();
                rules.push(format!("{}={}", patterns.join(","), names.join(",")));
                origins.push(node_origin(tree, device.node));
            }
        }
        if let Some((node, names)) = reserved.default.and_then(|n| Some((n, names_of.get(&n)?))) {
            rules.push(format!("*={}", names.join(",")));
            origins.push(node_origin(tree, node));
        }
        Ok((rules.join(";"), origins))
    }

    /// The names of each device: that of its node, and its aliases. Nodes that have the same name
    /// get those of the nodes above as well, as in Linux: `soc:gpu`.
    fn device_names(&mut self, devices: &[Device<'_>]) -> Vec<Vec<String>> {
        let tree = self.tree;
        let mut uses = HashMap::new();
        for device in devices {
            *uses.entry(tree.name(device.node)).or_insert(0) += 1;
        }
        let wanted = devices.iter().map(|device| match uses.get(tree.name(device.node)) {
            Some(1) => device_name(tree.name(device.node)),
            _ => device_name(&tree.path(device.node)[1..].replace('/', ":")),
        });
        let names = distinct(&wanted.collect::<Vec<_>>());
        let renamed = devices.iter().zip(&names).map(|(device, name)| (device.node, name));
        let renamed = renamed
            .filter(|(node, name)| tree.name(*node) != *name)
            .map(|(node, name)| format!("{} as {name}", tree.path(node)));
        let renamed: Vec<_> = renamed.collect();
        self.note_about(
            None,
            "devices with another name than their node, because names of devices are unique here \
             and have no ,",
            &renamed,
        );
        let mut aliases = self.aliases();
        let mut taken: HashSet<String> = names.iter().cloned().collect();
        let mut called = Vec::new();
        for (device, name) in devices.iter().zip(names) {
            let aliases = aliases.remove(&tree.path(device.node)).unwrap_or_default();
            let aliases = aliases.into_iter().filter(|alias| taken.insert(alias.clone()));
            called.push(std::iter::once(name).chain(aliases).collect());
        }
        called
    }

    /// The aliases of each path.
    fn aliases(&self) -> HashMap<String, Vec<String>> {
        let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
        if let Some(node) = self.tree.top("aliases") {
            for (alias, path) in self.tree.all_texts(node) {
                aliases.entry(path.into()).or_default().push(device_name(&alias));
            }
        }
        aliases
    }

    fn remark_on_boot_arguments(&mut self) {
        let tree = self.tree;
        let Some(chosen) = tree.top("chosen") else { return };
        let arguments = tree.text(chosen, "bootargs").unwrap_or_default();
        let about_memory = |word: &&str| {
            ["cma=", "cma.map=", "hugetlb_cma="].iter().any(|key| word.starts_with(key))
        };
        let words: Vec<_> = arguments.split_whitespace().filter(about_memory).collect();
        if !words.is_empty() {
            let note = Note::new(format!("bootargs are not read: {}", words.join(" ")));
            let note = note.at(node_origin(tree, chosen));
            self.notes.push(note.with_remedy("import that text by itself"));
        }
    }
}

/// Whether a node that is compatible with `what` is memory for devices to allocate from.
fn is_pool(what: &str) -> bool {
    matches!(what, "shared-dma-pool" | "restricted-dma-pool")
}
