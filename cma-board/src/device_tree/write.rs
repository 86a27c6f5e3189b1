//! From a board to the source of a device tree.

use super::names::{distinct, is_node_name, node_name};
use super::read::RESERVED;
use crate::board::{Board, BoardRegion};
use crate::note::Note;
use cma_framework::PAGE_SIZE;
use cma_framework::config::{Growth, PatternSpec, Place, Window};
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};

/// Writes a board as the source of a device tree, for `dtc`: a memory node, a child of
/// `/reserved-memory` for each region, and a node with its `memory-region` for each device that the
/// map names. Their place in the tree of a real board is not known here.
///
/// The notes name what the tree doesn't express.
pub fn write(board: &Board) -> (String, Vec<Note>) {
    let mut notes = Notes::default();
    let nodes = RegionNodes::of(board, &mut notes);
    let devices = Devices::of(board, &nodes, &mut notes);
    notes.of_regions(board);
    let source = Source { board, nodes: &nodes, devices: &devices };
    (source.to_string(), notes.0)
}

/// What the tree doesn't express.
#[derive(Default)]
struct Notes(Vec<Note>);

impl Notes {
    /// A note about `items`, if there are any.
    fn about<T: fmt::Display>(&mut self, what: &str, items: impl IntoIterator<Item = T>) {
        let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
        if !items.is_empty() {
            self.0.push(Note::new(format!("{what}: {}", items.join(", "))));
        }
    }

    fn of_regions(&mut self, board: &Board) {
        let allocators = board.regions.iter().filter_map(|region| {
            let allocator = region.spec().allocator?;
            Some(match allocator.params {
                "" => format!("{} ({})", region.name, allocator.name),
                params => format!("{} ({}({params}))", region.name, allocator.name),
            })
        });
        self.about("a device tree names no allocators", allocators);
        let movable = board.regions.iter().filter(|region| region.place.start().is_none());
        if board.growth == Growth::Up {
            self.about(
                "Linux places these regions as high as it can, not as low",
                movable.map(|region| &region.name),
            );
        }
        if let Some(memory) = &board.memory {
            self.about("a device tree chooses no kind of memory", [memory]);
        }
        if board.banks.is_empty() {
            self.0.push(Note::new("the board has no banks, so the tree has no memory node"));
        }
    }
}

/// The nodes of the regions.
struct RegionNodes<'b> {
    /// Their names, in the order of the regions.
    names: Vec<String>,
    /// The places of the regions in their board.
    places: HashMap<&'b str, usize>,
}

impl<'b> RegionNodes<'b> {
    fn of(board: &'b Board, notes: &mut Notes) -> Self {
        let wanted: Vec<_> = board.regions.iter().map(|region| node_name(&region.name)).collect();
        let bases = distinct(&wanted);
        let renamed =
            board.regions.iter().zip(&bases).filter(|(region, base)| region.name != **base);
        notes.about(
            "regions with names that no node can have",
            renamed.map(|(region, base)| format!("{} as {base}", region.name)),
        );
        let names =
            board.regions.iter().zip(bases).map(|(region, base)| match fixed_start(region) {
                Some(start) => format!("{base}@{start:x}"),
                None => base,
            });
        let places = board.regions.iter().enumerate().map(|(n, region)| (&region.name[..], n));
        RegionNodes { names: names.collect(), places: places.collect() }
    }
}

/// The start of a region at a fixed place. It is rounded up, as the framework does it.
fn fixed_start(region: &BoardRegion) -> Option<u64> {
    let alignment = region.alignment.unwrap_or(PAGE_SIZE).max(PAGE_SIZE);
    region.place.start()?.get().checked_next_multiple_of(alignment)
}

/// What the map says about devices, as far as a tree can say it.
#[derive(Default)]
struct Devices {
    /// The devices, in the order in which the map names them.
    nodes: Vec<DeviceNode>,
    /// The default pool, as a place in the board's regions.
    default: Option<usize>,
}

/// A device and its regions, as places in the board's regions.
struct DeviceNode {
    name: String,
    /// The regions of each type, in order.
    typed: Vec<(String, Vec<usize>)>,
    /// Those of every other type.
    rest: Option<Vec<usize>>,
}

impl Devices {
    fn of(board: &Board, nodes: &RegionNodes<'_>, notes: &mut Notes) -> Self {
        let mut devices = Devices::default();
        let mut places = HashMap::new();
        let mut wild = Vec::new();
        let (mut unnamed, mut undefined, mut grouped) = (Vec::new(), Vec::new(), Vec::new());
        let taken: HashSet<String> = ["aliases", "chosen", "cpus", RESERVED]
            .into_iter()
            .map(String::from)
            .chain(memory_node(board))
            .collect();
        'rules: for rule in board.map.rules() {
            let mut regions = Vec::new();
            for group in rule.groups.iter() {
                if group.regions().count() > 1 {
                    grouped.push(group.to_string());
                }
                for name in group.regions() {
                    match nodes.places.get(name) {
                        Some(place) => regions.push(*place),
                        None => undefined.push(name.to_string()),
                    }
                }
            }
            let mut of_device = "";
            for PatternSpec { device, kind } in rule.patterns.iter() {
                of_device = device.unwrap_or(of_device);
                let kind = kind.filter(|kind| *kind != "*");
                let text = || match kind {
                    Some(kind) => format!("{of_device}/{kind}"),
                    None => of_device.to_string(),
                };
                if of_device == "*" && kind.is_none() {
                    devices.set_default(board, &regions, notes);
                    // No rule behind it is ever reached.
                    break 'rules;
                }
                if is_wild(of_device) || kind.is_some_and(is_wild) {
                    wild.push(text());
                } else if !is_node_name(of_device) || taken.contains(of_device) {
                    unnamed.push(text());
                } else if !regions.is_empty() {
                    let place = *places.entry(of_device.to_string()).or_insert_with(|| {
                        devices.nodes.push(DeviceNode::new(of_device));
                        devices.nodes.len() - 1
                    });
                    devices.nodes[place].add(kind, &regions);
                }
            }
        }
        let once = |mut names: Vec<String>| {
            let mut seen = HashSet::new();
            names.retain(|name| seen.insert(name.clone()));
            names
        };
        notes.about("a device tree has no patterns, so these are left out", wild);
        notes.about("devices with names that no node can have, left out", once(unnamed));
        notes.about("regions that the map names but the board doesn't have", once(undefined));
        notes.about(
            "a device tree doesn't choose the best of a group, so its regions are in order",
            once(grouped),
        );
        devices
    }

    /// The default pool is the first of `regions`.
    fn set_default(&mut self, board: &Board, regions: &[usize], notes: &mut Notes) {
        let name = |place: &usize| &board.regions[*place].name;
        let Some((first, others)) = regions.split_first() else { return };
        if board.regions[*first].no_map {
            notes.about("the default pool can't be no-map", [name(first)]);
            return;
        }
        self.default = Some(*first);
        let what = format!("the default pool is one region, {}; the map also has", name(first));
        notes.about(&what, others.iter().map(name));
    }
}

impl DeviceNode {
    fn new(name: &str) -> Self {
        DeviceNode { name: name.into(), typed: Vec::new(), rest: None }
    }

    /// Adds the regions of a type, or of all that are not named, unless an earlier rule is reached
    /// first.
    fn add(&mut self, kind: Option<&str>, regions: &[usize]) {
        let is_known = |kind: &str| self.typed.iter().any(|(known, _)| known == kind);
        if self.rest.is_some() || kind.is_some_and(is_known) {
            return;
        }
        match kind {
            Some(kind) => self.typed.push((kind.into(), regions.to_vec())),
            None => self.rest = Some(regions.to_vec()),
        }
    }
}

fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// The name of the memory node, if there is one.
fn memory_node(board: &Board) -> Option<String> {
    let start = board.banks.iter().map(|bank| bank.0.start().get()).min()?;
    Some(format!("memory@{start:x}"))
}

/// The source as a text.
struct Source<'s, 'b> {
    board: &'b Board,
    nodes: &'s RegionNodes<'b>,
    devices: &'s Devices,
}

impl fmt::Display for Source<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/dts-v1/;\n\n/ {\n")?;
        f.write_str("\t#address-cells = <2>;\n\t#size-cells = <2>;\n")?;
        if let Some(name) = &self.board.name {
            writeln!(f, "\tmodel = {};", Quoted(name))?;
        }
        if let Some(name) = memory_node(self.board) {
            let mut banks: Vec<_> = self.board.banks.iter().map(|bank| bank.0).collect();
            banks.sort_by_key(|bank| bank.first_page());
            let banks = banks.into_iter().map(|bank| Pair(bank.start().get(), bank.bytes()));
            writeln!(f, "\n\t{name} {{\n\t\tdevice_type = \"memory\";")?;
            writeln!(f, "\t\treg = {};\n\t}};", List(banks))?;
        }
        if !self.board.regions.is_empty() {
            writeln!(f, "\n\t{RESERVED} {{")?;
            f.write_str("\t\t#address-cells = <2>;\n\t\t#size-cells = <2>;\n\t\tranges;\n")?;
            for (n, region) in self.board.regions.iter().enumerate() {
                self.region(f, n, region)?;
            }
            f.write_str("\t};\n")?;
        }
        for device in &self.devices.nodes {
            self.device(f, device)?;
        }
        f.write_str("};\n")
    }
}

impl Source<'_, '_> {
    fn region(&self, f: &mut fmt::Formatter<'_>, n: usize, region: &BoardRegion) -> fmt::Result {
        let property = |f: &mut fmt::Formatter<'_>, property: &dyn fmt::Display| {
            writeln!(f, "\t\t\t{property};")
        };
        writeln!(f, "\n\t\t{} {{", self.nodes.names[n])?;
        property(f, &"compatible = \"shared-dma-pool\"")?;
        property(f, if region.no_map { &"no-map" } else { &"reusable" })?;
        match fixed_start(region) {
            Some(start) => {
                let size = region.size.checked_next_multiple_of(PAGE_SIZE).unwrap_or(region.size);
                property(f, &format_args!("reg = {}", Pair(start, size)))?;
            }
            None => {
                property(f, &format_args!("size = {}", Number(region.size)))?;
                if let Some(alignment) = region.alignment {
                    property(f, &format_args!("alignment = {}", Number(alignment)))?;
                }
            }
        }
        if let Place::Within(window) = region.place {
            property(f, &format_args!("alloc-ranges = {}", extent(window)))?;
        }
        if self.devices.default == Some(n) {
            property(f, &"linux,cma-default")?;
        }
        f.write_str("\t\t};\n")
    }

    fn device(&self, f: &mut fmt::Formatter<'_>, device: &DeviceNode) -> fmt::Result {
        let names =
            device.typed.iter().flat_map(|(kind, regions)| regions.iter().map(move |_| kind));
        let typed = device.typed.iter().flat_map(|(_, regions)| regions);
        let regions = typed.chain(device.rest.iter().flatten());
        let references = regions.map(|n| format!("<&{{/{RESERVED}/{}}}>", self.nodes.names[*n]));
        writeln!(f, "\n\t{} {{", device.name)?;
        writeln!(f, "\t\tmemory-region = {};", List(references))?;
        if !device.typed.is_empty() {
            writeln!(f, "\t\tmemory-region-names = {};", List(names.map(|kind| Quoted(kind))))?;
        }
        f.write_str("\t};\n")
    }
}

/// A window as an address and a size. The size of the whole address space has no number of two
/// cells; its window loses the last byte, and with it the last page.
fn extent(window: Window) -> Pair {
    let (start, last) = (window.start().get(), window.last().get());
    Pair(start, (last - start).saturating_add(1))
}

/// The two cells of a number.
struct Cells(u64);

impl fmt::Display for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} {:#x}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

/// A number as a value.
struct Number(u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", Cells(self.0))
    }
}

/// An address and a size as a value.
struct Pair(u64, u64);

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} {}>", Cells(self.0), Cells(self.1))
    }
}

/// The values of a property, each in a line.
struct List<I>(I);

impl<I: Iterator<Item: fmt::Display> + Clone> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, item) in self.0.clone().enumerate() {
            write!(f, "{}{item}", if n == 0 { "" } else { ",\n\t\t\t" })?;
        }
        Ok(())
    }
}

/// A text as `dtc` reads it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_ascii_control() => write!(f, "\\{:03o}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
