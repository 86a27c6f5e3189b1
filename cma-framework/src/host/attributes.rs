//! What a running framework shows of itself as a tree of small texts, and what may be written to it
//! (specification section 7).
//!
//! Path in, text out; text in, error out. No file system is in here: a door mounts the tree, or
//! speaks of it in another way.
//!
//! ```text
//! allocators                 the registered allocators
//! errors                     the last writes that were refused, with the reasons
//! map                        the map; may be written
//! regions/0x40000000/        a region, by its start
//! regions/0x40000000/alloc   its allocator; may be written. `Attributes::list` has the rest
//! regions/video -> 0x40000000
//! ```

mod error;
mod lists;
mod refused;
mod region;

use crate::host::events;
use crate::host::region::Region;
use crate::vocabulary::Map;
use crate::{Cma, DmaAddr};
pub use error::AttributeError;
use refused::Refused;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The longest text that may be written to an attribute, in bytes.
pub const LONGEST_TEXT: usize = 64 << 10;

/// The attributes of a framework. Clones share the log of refused writes.
///
/// Paths are relative to the root of the tree, which is the empty path, without `/` at either end.
/// A path may lead through the link of a region. Each text that is read is of one moment.
///
/// ```
/// use cma_framework::{AllocatorChoice, Cma, DmaAddr};
///
/// let cma = Cma::new();
/// cma.region_register(Some("video"), DmaAddr::new(0x4000_0000), 16 << 20, AllocatorChoice::named("buddy"))?;
/// let attributes = cma.attributes();
///
/// attributes.write("map", b"codec=video\n")?;
/// assert_eq!(attributes.read("map")?, "codec=video\n");
/// assert_eq!(attributes.read("regions/video/alloc")?, "[buddy]\n"); // it waits for it
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
    refused: Arc<Refused>,
}

/// What stands at a path.
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
    /// The permissions of it as a file.
    pub fn mode(&self) -> u16 {
        match self {
            Entry::Folder => 0o755,
            Entry::Link { .. } => 0o777,
            Entry::Attribute { writable: true } => 0o644,
            Entry::Attribute { writable: false } => 0o444,
        }
    }
}

/// One attribute of a `T`: of the framework, or of a region.
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
    Attribute::read_only("errors", |_, tree| Ok(tree.refused.to_string())),
    Attribute {
        name: "map",
        read: |cma, _| Ok(line_if_any(&cma.map().to_string())),
        write: Some(|cma, _, text| {
            let map = Map::parse(text)?;
            let named = map
                .rules()
                .flat_map(|rule| rule.regions.iter().map(ToString::to_string).collect::<Vec<_>>());
            let missing = named.filter(|name| cma.region(name).is_none()).collect::<BTreeSet<_>>();
            cma.set_map(map);
            for region in missing {
                events::emit(|| {
                    tracing::warn!(
                        region,
                        "the map names a region that is not there; requests pass it over"
                    );
                });
            }
            Ok(())
        }),
    },
];

const REGIONS: &str = "regions";

/// What a path leads to.
enum Node {
    Root,
    Top(&'static Attribute<Attributes>),
    Regions,
    Region(Region),
    Link(Region),
    Of(Region, &'static Attribute<Region>),
}

impl Node {
    fn entry(&self) -> Entry {
        match self {
            Node::Root | Node::Regions | Node::Region(_) => Entry::Folder,
            Node::Link(region) => Entry::Link { target: folder(region) },
            Node::Top(attribute) => attribute.entry(),
            Node::Of(_, attribute) => attribute.entry(),
        }
    }

    /// The path that leads here without a link.
    fn path(&self) -> String {
        match self {
            Node::Root => String::new(),
            Node::Top(attribute) => attribute.name.to_string(),
            Node::Regions => REGIONS.to_string(),
            Node::Region(region) | Node::Link(region) => format!("{REGIONS}/{}", folder(region)),
            Node::Of(region, attribute) => {
                format!("{REGIONS}/{}/{}", folder(region), attribute.name)
            }
        }
    }
}

impl Cma {
    /// The attributes of this framework, with an empty log of refused writes.
    pub fn attributes(&self) -> Attributes {
        Attributes { cma: self.clone(), refused: Arc::default() }
    }
}

impl Attributes {
    /// What stands at `path`.
    ///
    /// # Errors
    ///
    /// [`AttributeError::Missing`] when there is nothing, [`AttributeError::NotFolder`] when the
    /// path leads through an attribute.
    pub fn entry(&self, path: &str) -> Result<Entry, AttributeError> {
        Ok(self.node(path)?.entry())
    }

    /// What is in the folder at `path`, each with its name. Regions come in ascending order of
    /// address, their links behind them.
    ///
    /// # Errors
    ///
    /// The same; [`AttributeError::NotFolder`] also for an attribute itself.
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
            Node::Top(_) | Node::Of(..) => Err(AttributeError::NotFolder),
        }
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
            Node::Of(region, attribute) => (attribute.read)(&self.cma, &region),
            Node::Root | Node::Regions | Node::Region(_) | Node::Link(_) => {
                Err(AttributeError::Folder)
            }
        }
    }

    /// Writes `text` to the attribute at `path`. White space around it, such as the newline at its
    /// end, is passed over.
    ///
    /// # Errors
    ///
    /// Those of [`entry`](Self::entry); [`AttributeError::ReadOnly`]; what is wrong with the text,
    /// or why it can't be put in force. Then nothing has changed. What an attribute that may be
    /// written refuses is kept for a while in the attribute `errors`.
    pub fn write(&self, path: &str, text: &[u8]) -> Result<(), AttributeError> {
        let node = self.node(path)?;
        let written = match &node {
            Node::Top(Attribute { write: Some(write), .. }) => {
                checked(text).and_then(|text| write(&self.cma, self, text))
            }
            Node::Of(region, Attribute { write: Some(write), .. }) => {
                checked(text).and_then(|text| write(&self.cma, region, text))
            }
            Node::Top(_) | Node::Of(..) => return Err(AttributeError::ReadOnly),
            Node::Root | Node::Regions | Node::Region(_) | Node::Link(_) => {
                return Err(AttributeError::Folder);
            }
        };
        if let Err(error) = &written {
            self.refused.note(&node.path(), error);
        }
        events::emit(|| match &written {
            Ok(()) => tracing::info!(path = node.path(), "attribute written"),
            Err(error) => tracing::info!(path = node.path(), %error, "attribute not written"),
        });
        written
    }

    fn node(&self, path: &str) -> Result<Node, AttributeError> {
        let mut node = Node::Root;
        for name in path.split('/').skip(usize::from(path.is_empty())) {
            let inner = self.child(node, name)?;
            node = inner.ok_or_else(|| AttributeError::Missing { path: path.to_string() })?;
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
                attribute.map(|attribute| Node::Of(region, attribute))
            }
            Node::Top(_) | Node::Of(..) => return Err(AttributeError::NotFolder),
        })
    }
}

/// The name of a region's folder.
fn folder(region: &Region) -> String {
    region.range().start().to_string()
}

/// Whether a region of this name has a link. One that is written like an address has none: such a
/// name is that of the folder of whichever region starts there. Nor has one that no file can have.
fn can_be_link(name: &str) -> bool {
    const LONGEST_FILE_NAME: usize = 255;
    let is_address =
        name.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    !is_address && name.len() <= LONGEST_FILE_NAME && !matches!(name, "" | "." | "..")
}

fn checked(text: &[u8]) -> Result<&str, AttributeError> {
    if text.len() > LONGEST_TEXT {
        return Err(AttributeError::TooLong { bytes: text.len() });
    }
    if let Some(at) = text.iter().position(|byte| *byte == 0) {
        return Err(AttributeError::Nul { at });
    }
    let text = str::from_utf8(text)
        .map_err(|error| AttributeError::NotUtf8 { at: error.valid_up_to() })?;
    // What else there is of white space the grammars pass over, and places in the text stay what
    // they are.
    Ok(text.strip_suffix('\n').unwrap_or(text))
}

/// `text` as a line, or nothing at all.
fn line_if_any(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}
