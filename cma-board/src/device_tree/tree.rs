//! The nodes of a blob as a table: what each is called, where it stands, and what it says.

use super::blob::{self, BlobError};
use crate::pages::between;
use cma_framework::{DmaAddr, PAGE_SIZE, PageRange};
use dtoolkit::fdt::{Fdt, FdtNode, FdtProperty};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Cells, Node, Property, ToCellInt};
use std::collections::HashMap;
use std::fmt;

/// The first address after the address space.
const TOP: u128 = 1 << 64;

/// The position of a node in its tree, in the order of the blob.
pub(super) type Id = usize;

/// A device tree, with every node after its parent.
pub(super) struct Tree<'a> {
    fdt: Fdt<'a>,
    nodes: Vec<Entry<'a>>,
    phandles: HashMap<u32, Id>,
}

struct Entry<'a> {
    node: FdtNode<'a>,
    parent: Id,
    is_enabled: bool,
}

/// A range of addresses as a property states it; it may end past the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) size: u64,
}

impl Extent {
    /// The first address after the extent, at most the top of the address space.
    pub(super) fn end(self) -> u128 {
        (u128::from(self.start) + u128::from(self.size)).min(TOP)
    }

    /// Whether the extent starts and ends at a page, and ends within the address space.
    pub(super) fn is_whole(self) -> bool {
        PageRange::from_bytes(DmaAddr::new(self.start), self.size).is_some()
    }

    /// The pages that lie in the extent as a whole.
    pub(super) fn pages_within(self) -> Option<PageRange> {
        let page = u128::from(PAGE_SIZE);
        between(u128::from(self.start).div_ceil(page), self.end() / page)
    }

    /// The pages that the extent has a part of.
    pub(super) fn pages_touched(self) -> Option<PageRange> {
        let page = u128::from(PAGE_SIZE);
        between(u128::from(self.start) / page, self.end().div_ceil(page))
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.start, self.size)
    }
}

/// Why a property can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PropertyFault {
    /// Its size is not what its kind has.
    #[error("{bytes} bytes, no multiple of {unit}")]
    Size { bytes: usize, unit: usize },
    /// The node above it counts addresses or sizes in units that have no meaning here.
    #[error("#address-cells {address} and #size-cells {size} of the node above; 1 or 2 are read")]
    Cells { address: u32, size: u32 },
}

impl<'a> Tree<'a> {
    /// Reads a blob.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, BlobError> {
        let fdt = blob::open(file)?;
        let mut tree = Tree { fdt, nodes: Vec::new(), phandles: HashMap::new() };
        tree.add(fdt.root(), 0);
        let mut open = vec![(0, fdt.root().children())];
        while let Some((parent, children)) = open.last_mut() {
            match children.next() {
                Some(node) => {
                    let id = tree.add(node, *parent);
                    open.push((id, node.children()));
                }
                None => drop(open.pop()),
            }
        }
        Ok(tree)
    }

    fn add(&mut self, node: FdtNode<'a>, parent: Id) -> Id {
        let id = self.nodes.len();
        let mut is_enabled = self.nodes.get(parent).is_none_or(|parent| parent.is_enabled);
        for property in node.properties() {
            match property.name() {
                "status" => is_enabled &= matches!(text(&property), Some("okay" | "ok")),
                "phandle" | "linux,phandle" => {
                    if let Ok(phandle) = property.value_as::<u32>() {
                        self.phandles.entry(phandle).or_insert(id);
                    }
                }
                _ => {}
            }
        }
        self.nodes.push(Entry { node, parent, is_enabled });
        id
    }

    /// All nodes; the root is the first.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        0..self.nodes.len()
    }

    /// The nodes directly within `parent`.
    pub(super) fn children(&self, parent: Id) -> impl Iterator<Item = Id> {
        self.ids().skip(1).filter(move |id| self.nodes[*id].parent == parent)
    }

    /// The child of the root that is called so.
    pub(super) fn top(&self, name: &str) -> Option<Id> {
        self.children(0).find(|id| self.name(*id) == name)
    }

    /// The node with a phandle; the first of several.
    pub(super) fn by_phandle(&self, phandle: u32) -> Option<Id> {
        self.phandles.get(&phandle).copied()
    }

    /// The node's name, with its address.
    pub(super) fn name(&self, id: Id) -> &'a str {
        self.nodes[id].node.name()
    }

    /// The node above; that of the root is the root.
    pub(super) fn parent(&self, id: Id) -> Id {
        self.nodes[id].parent
    }

    /// The node's path, as `/soc/video@1000`.
    pub(super) fn path(&self, id: Id) -> String {
        let mut names = Vec::new();
        let mut at = id;
        while at != 0 {
            names.push(self.name(at));
            at = self.parent(at);
        }
        match names.is_empty() {
            true => "/".into(),
            false => names.iter().rev().flat_map(|name| ["/", name]).collect(),
        }
    }

    /// Whether neither the node nor one above it is disabled.
    pub(super) fn is_enabled(&self, id: Id) -> bool {
        self.nodes[id].is_enabled
    }

    /// Whether the node has the property, whatever its value.
    pub(super) fn has(&self, id: Id, name: &str) -> bool {
        self.property(id, name).is_some()
    }

    /// The property's text, if it is one.
    pub(super) fn text(&self, id: Id, name: &str) -> Option<&'a str> {
        text(&self.property(id, name)?)
    }

    /// The texts of a list, up to the first that is no text.
    pub(super) fn texts(&self, id: Id, name: &str) -> impl Iterator<Item = &'a str> {
        let value = self.property(id, name).map(|property| bytes(&property)).unwrap_or_default();
        value
            .split_inclusive(|byte| *byte == 0)
            .map_while(|text| str::from_utf8(text.strip_suffix(&[0])?).ok())
    }

    /// The node's properties that are texts: their names and values.
    pub(super) fn all_texts(&self, id: Id) -> impl Iterator<Item = (String, &'a str)> {
        self.nodes[id]
            .node
            .properties()
            .filter_map(|property| Some((property.name().to_string(), text(&property)?)))
    }

    /// The words of a property.
    pub(super) fn words(&self, id: Id, name: &str) -> Option<Result<Vec<u32>, PropertyFault>> {
        let value = bytes(&self.property(id, name)?);
        let (words, rest) = value.as_chunks();
        Some(match rest {
            [] => Ok(words.iter().copied().map(u32::from_be_bytes).collect()),
            _ => Err(PropertyFault::Size { bytes: value.len(), unit: 4 }),
        })
    }

    /// A property of one size, in units of the node above.
    pub(super) fn size(&self, id: Id, name: &str) -> Option<Result<u64, PropertyFault>> {
        let property = self.property(id, name)?;
        Some(self.cells(id).and_then(|(_, cells)| {
            let fault = PropertyFault::Size { bytes: property.value().len(), unit: cells * 4 };
            let mut sizes = property.as_prop_encoded_array([cells]).map_err(|_| fault.clone())?;
            match (sizes.next(), sizes.next()) {
                (Some([size]), None) => Ok(number(size)),
                _ => Err(fault),
            }
        }))
    }

    /// A property of pairs of an address and a size, in units of the node above.
    pub(super) fn extents(&self, id: Id, name: &str) -> Option<Result<Vec<Extent>, PropertyFault>> {
        let property = self.property(id, name)?;
        Some(self.cells(id).and_then(|(address, size)| {
            let unit = (address + size) * 4;
            let fault = PropertyFault::Size { bytes: property.value().len(), unit };
            let pairs = property.as_prop_encoded_array([address, size]).map_err(|_| fault)?;
            Ok(pairs
                .map(|[start, size]| Extent { start: number(start), size: number(size) })
                .collect())
        }))
    }

    /// The ranges of the blob's own list of reserved memory.
    pub(super) fn reservations(&self) -> impl Iterator<Item = Extent> {
        self.fdt
            .memory_reservations()
            .map(|range| Extent { start: range.address(), size: range.size() })
    }

    /// How many words an address and a size of the node have.
    fn cells(&self, id: Id) -> Result<(usize, usize), PropertyFault> {
        let space = self.nodes[self.parent(id)].node.address_space();
        match (space.address_cells, space.size_cells) {
            (address @ 1..=2, size @ 1..=2) => Ok((address as usize, size as usize)),
            (address, size) => Err(PropertyFault::Cells { address, size }),
        }
    }

    fn property(&self, id: Id, name: &str) -> Option<FdtProperty<'a>> {
        self.nodes[id].node.properties().find(|property| property.name() == name)
    }
}

/// A number of one or two words.
fn number(cells: Cells<'_>) -> u64 {
    cells.to_int().unwrap_or_default()
}

/// The value of a property.
fn bytes<'a>(property: &FdtProperty<'a>) -> &'a [u8] {
    property.value_as().unwrap_or_default()
}

/// The value of a property that is one text.
fn text<'a>(property: &FdtProperty<'a>) -> Option<&'a str> {
    let text = property.value_as::<&'a str>().ok()?;
    text.chars().all(|c| !c.is_control()).then_some(text)
}
