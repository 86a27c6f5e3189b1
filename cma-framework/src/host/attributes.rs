//! The attributes of a running framework: a tree of small texts that can be read and, in part,
//! written (specification section 7).
//!
//! A read takes a path and returns a text; a write takes a path and a text and returns an error, if
//! any. The module has no file system: a front end mounts the tree or exports it in another way.
//!
//! ```text
//! allocators                 the registered allocators
//! errors                     the last refused writes, with the reasons
//! map                        the map; writable
//! regions/0x40000000/        a region, by its start address
//! regions/0x40000000/alloc   its allocator; writable
//! regions/0x40000000/shadow  its shadow (`Cma::set_shadow`); writable, empty for none
//! regions/0x40000000/...     `Attributes::list` returns the others
//! regions/video -> 0x40000000
//! why                        the last refused requests, explained; why.json for programs
//! ```

mod error;
mod lists;
mod region;

use crate::host::events;
use crate::host::region::Region;
use crate::host::write_errors::WriteErrorLog;
use crate::vocabulary::Map;
use crate::{Cma, DmaAddr};
pub use error::AttributeError;
use std::collections::BTreeSet;

/// The size limit of a text that is written to an attribute, in bytes.
pub const LONGEST_TEXT: usize = 64 << 10;

/// The attributes of a framework.
///
/// Paths are relative to the root of the tree, which is the empty path, without `/` at either end.
/// A path may contain the link of a region. Each text that is read is consistent.
///
/// ```
/// use cma_framework::{AllocatorChoice, Cma, DmaAddr};
///
/// let cma = Cma::new();
/// let start = DmaAddr::new(0x4000_0000);
/// cma.region_register(Some("video"), start, 16 << 20, AllocatorChoice::named("buddy"))?;
/// let attributes = cma.attributes();
///
/// attributes.write("map", b"codec=video\n")?;
/// assert_eq!(attributes.read("map")?, "codec=video\n");
/// assert_eq!(attributes.read("regions/video/alloc")?, "[buddy]\n"); // waits for it
/// assert_eq!(attributes.read("regions/0x40000000/size")?, "16777216\n");
///
/// let refused = attributes.write("map", b"codec=\n").unwrap_err();
/// assert!(refused.to_string().contains("at column 7"));
/// assert_eq!(attributes.read("map")?, "codec=video\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Attributes {
    cma: Cma,
}

/// The object at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A folder.
    Folder,
    /// A link in the same folder as its target.
    Link {
        /// The name of its target.
        target: String,
    },
    /// A text.
    Attribute {
        /// Whether it may be written.
        writable: bool,
    },
}

impl Entry {
    /// Its permissions as a file.
    pub fn mode(&self) -> u16 {
        match self {
            Entry::Folder => 0o755,
            Entry::Link { .. } => 0o777,
            Entry::Attribute { writable: true } => 0o644,
            Entry::Attribute { writable: false } => 0o444,
        }
    }
}

/// An attribute of a `T`: of the framework or of a region.
struct Attribute<T: 'static> {
    name: &'static str,
    read: Read<T>,
    write: Option<Write<T>>,
}

type Read<T> = fn(&Cma, &T) -> Result<String, AttributeError>;
type Write<T> = fn(&Cma, &T, &str) -> Result<(), AttributeError>;

impl<T> Attribute<T> {
    const fn read_only(name: &'static str, read: Read<T>) -> Self {
        Attribute { name, read, write: None }
    }

    fn entry(&self) -> Entry {
        Entry::Attribute { writable: self.write.is_some() }
    }
}

/// The attributes of the framework itself.
const TOP: &[Attribute<Attributes>] = &[
    Attribute::read_only("allocators", |cma, _| {
        let allocators = cma.allocators();
        let names: Vec<&str> =
            allocators.iter().map(|r| r.name.as_deref().unwrap_or("-")).collect();
        Ok(names.join(" ") + "\n")
    }),
    Attribute::read_only("errors", |_, tree| Ok(tree.write_errors().to_string())),
    Attribute {
        name: "map",
        read: |cma, _| Ok(line_if_any(&cma.map().to_string())),
        write: Some(|cma, _, text| {
            let map = Map::parse(text)?;
            let missing: BTreeSet<String> = map
                .region_names()
                .filter(|name| cma.region(name).is_none())
                .map(String::from)
                .collect();
            cma.set_map(map);
            for region in missing {
                events::emit(|| {
                    tracing::warn!(
                        region,
                        "the map names a region that is not registered; requests skip it"
                    );
                });
            }
            Ok(())
        }),
    },
    Attribute::read_only("why", |cma, _| {
        let texts: Vec<_> = cma.refusals_explained().map(|why| why.to_string()).collect();
        Ok(texts.join("\n"))
    }),
    Attribute::read_only("why.json", |cma, _| {
        Ok(cma.refusals_explained().map(|why| why.to_json() + "\n").collect())
    }),
];

const REGIONS: &str = "regions";

/// The target of a path.
enum Node {
    Root,
    Top(&'static Attribute<Attributes>),
    Regions,
    Region(Region),
    Link(Region),
    RegionAttribute(Region, &'static Attribute<Region>),
}

impl Node {
    fn entry(&self) -> Entry {
        match self {
            Node::Root | Node::Regions | Node::Region(_) => Entry::Folder,
            Node::Link(region) => Entry::Link { target: folder(region) },
            Node::Top(attribute) => attribute.entry(),
            Node::RegionAttribute(_, attribute) => attribute.entry(),
        }
    }

    /// The path of the node without links.
    fn path(&self) -> String {
        match self {
            Node::Root => String::new(),
            Node::Top(attribute) => attribute.name.to_string(),
            Node::Regions => REGIONS.to_string(),
            Node::Region(region) | Node::Link(region) => format!("{REGIONS}/{}", folder(region)),
            Node::RegionAttribute(region, attribute) => {
                format!("{REGIONS}/{}/{}", folder(region), attribute.name)
            }
        }
    }
}

impl Cma {
    /// The attributes of this framework. All of its trees have one log of refused writes.
    pub fn attributes(&self) -> Attributes {
        Attributes { cma: self.clone() }
    }
}

impl Attributes {
    /// The object at `path`.
    ///
    /// # Errors
    ///
    /// [`AttributeError::Missing`] if there is none, [`AttributeError::NotFolder`] if an inner part
    /// of the path is an attribute.
    pub fn entry(&self, path: &str) -> Result<Entry, AttributeError> {
        Ok(self.node(path)?.entry())
    }

    /// The entries of the folder at `path` with their names. Regions are in ascending order of
    /// address, followed by their links.
    ///
    /// # Errors
    ///
    /// Those of [`entry`](Self::entry); [`AttributeError::NotFolder`] also if `path` is an
    /// attribute.
    pub fn list(&self, path: &str) -> Result<Vec<(String, Entry)>, AttributeError> {
        match self.node(path)? {
            Node::Root => {
                let top =
                    TOP.iter().map(|attribute| (attribute.name.to_string(), attribute.entry()));
                Ok(top.chain([(REGIONS.to_string(), Entry::Folder)]).collect())
            }
            Node::Regions => {
                let regions = self.cma.regions();
                let folders = regions.iter().map(|region| (folder(region), Entry::Folder));
                let links = regions.iter().filter_map(|region| {
                    let name = region.name().filter(|name| can_be_link(name))?;
                    Some((name.to_string(), Entry::Link { target: folder(region) }))
                });
                Ok(folders.chain(links).collect())
            }
            Node::Region(_) | Node::Link(_) => {
                let attributes = region::ATTRIBUTES.iter();
                Ok(attributes
                    .map(|attribute| (attribute.name.to_string(), attribute.entry()))
                    .collect())
            }
            Node::Top(_) | Node::RegionAttribute(..) => Err(AttributeError::NotFolder),
        }
    }

    /// The entries of the folder at `path` as text, a line for each: `name`, `folder/`, or
    /// `link -> target`.
    ///
    /// # Errors
    ///
    /// Those of [`list`](Self::list).
    pub fn list_text(&self, path: &str) -> Result<String, AttributeError> {
        let line = |(name, entry)| match entry {
            Entry::Attribute { .. } => format!("{name}\n"),
            Entry::Folder => format!("{name}/\n"),
            Entry::Link { target } => format!("{name} -> {target}\n"),
        };
        Ok(self.list(path)?.into_iter().map(line).collect())
    }

    /// The text of the attribute at `path`.
    ///
    /// # Errors
    ///
    /// Those of [`entry`](Self::entry), [`AttributeError::Folder`] for a folder or the link to one,
    /// and [`AttributeError::TooLarge`] for the `bitmap` of a huge region.
    pub fn read(&self, path: &str) -> Result<String, AttributeError> {
        match self.node(path)? {
            Node::Top(attribute) => (attribute.read)(&self.cma, self),
            Node::RegionAttribute(region, attribute) => (attribute.read)(&self.cma, &region),
            Node::Root | Node::Regions | Node::Region(_) | Node::Link(_) => {
                Err(AttributeError::Folder)
            }
        }
    }

    /// Writes `text` to the attribute at `path`. White space around the text, such as the final
    /// newline, is ignored.
    ///
    /// # Errors
    ///
    /// Those of [`entry`](Self::entry); [`AttributeError::ReadOnly`]; an error in the text, or the
    /// reason why it can't be applied. Nothing has changed then. The attribute `errors` keeps the
    /// last errors of writes to writable attributes.
    pub fn write(&self, path: &str, text: &[u8]) -> Result<(), AttributeError> {
        let node = self.node(path)?;
        let listener = &self.cma.framework().write_listener;
        let path = || node.path();
        let written = match &node {
            Node::Top(Attribute { write: Some(write), .. }) => decode(text)
                .and_then(|text| listener.tell(path, text, || write(&self.cma, self, text))),
            Node::RegionAttribute(region, Attribute { write: Some(write), .. }) => decode(text)
                .and_then(|text| listener.tell(path, text, || write(&self.cma, region, text))),
            Node::Top(_) | Node::RegionAttribute(..) => return Err(AttributeError::ReadOnly),
            Node::Root | Node::Regions | Node::Region(_) | Node::Link(_) => {
                return Err(AttributeError::Folder);
            }
        };
        if let Err(error) = &written {
            self.write_errors().record(&node.path(), error.errno(), error.to_string());
        }
        events::emit(|| match &written {
            Ok(()) => tracing::info!(path = node.path(), "attribute written"),
            Err(error) => tracing::info!(path = node.path(), %error, "attribute not written"),
        });
        written
    }

    /// Has `listener` called after each [`write`](Self::write) that took effect, before that
    /// returns: with the path without links, and the text. From then on writes come one after
    /// another, so the last text of a path is the one in force. A host keeps them so that they
    /// outlive the process, and writes them again in the next one.
    ///
    /// A framework has one listener for good. Returns whether it is this one. The listener must not
    /// write.
    pub fn on_written(&self, listener: impl FnMut(&str, &str) + Send + 'static) -> bool {
        self.cma.framework().write_listener.set(Box::new(listener))
    }

    fn write_errors(&self) -> &WriteErrorLog {
        &self.cma.framework().write_errors
    }

    /// Resolves `path`.
    fn node(&self, path: &str) -> Result<Node, AttributeError> {
        let mut node = Node::Root;
        for name in path.split('/').skip(usize::from(path.is_empty())) {
            let child = self.child(node, name)?;
            node = child.ok_or_else(|| AttributeError::Missing { path: path.to_string() })?;
        }
        Ok(node)
    }

    fn child(&self, node: Node, name: &str) -> Result<Option<Node>, AttributeError> {
        Ok(match node {
            Node::Root if name == REGIONS => Some(Node::Regions),
            Node::Root => TOP.iter().find(|attribute| attribute.name == name).map(Node::Top),
            Node::Regions if can_be_link(name) => {
                self.cma.framework().snapshot().region(name).cloned().map(Node::Link)
            }
            Node::Regions => {
                let start =
                    name.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
                let region = start.and_then(|at| {
                    self.cma.framework().snapshot().region_of(DmaAddr::new(at)).cloned()
                });
                region.filter(|region| folder(region) == name).map(Node::Region)
            }
            Node::Region(region) | Node::Link(region) => {
                let attribute = region::ATTRIBUTES.iter().find(|attribute| attribute.name == name);
                attribute.map(|attribute| Node::RegionAttribute(region, attribute))
            }
            Node::Top(_) | Node::RegionAttribute(..) => return Err(AttributeError::NotFolder),
        })
    }
}

/// The name of a region's folder.
fn folder(region: &Region) -> String {
    region.range().start().to_string()
}

/// Whether a region of this name has a link. It has none if the name looks like an address, which
/// would be the name of the folder of the region at that address, or can't be a file name.
fn can_be_link(name: &str) -> bool {
    const LONGEST_FILE_NAME: usize = 255;
    let is_address =
        name.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    !is_address && name.len() <= LONGEST_FILE_NAME && !matches!(name, "" | "." | "..")
}

/// `text` as UTF-8 without its final newline.
fn decode(text: &[u8]) -> Result<&str, AttributeError> {
    if text.len() > LONGEST_TEXT {
        return Err(AttributeError::TooLong { bytes: text.len() });
    }
    if let Some(at) = text.iter().position(|byte| *byte == 0) {
        return Err(AttributeError::Nul { at });
    }
    let text = str::from_utf8(text)
        .map_err(|error| AttributeError::NotUtf8 { at: error.valid_up_to() })?;
    // Other white space is left to the parsers, so that the positions in their errors are right.
    Ok(text.strip_suffix('\n').unwrap_or(text))
}

/// `text` as a line, or nothing if it is empty.
fn line_if_any(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}
