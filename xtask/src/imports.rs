//! The imports among the modules of a crate.
//!
//! The modules of a crate are a tree. At each node, an edge goes from one child to another when a
//! file in the first child's subtree names something in the second child's subtree: in a `use`
//! declaration or in any other path that begins with `crate`, `self` or `super`. A name that a
//! module only re-exports counts for the module that declares it. References between a parent and
//! its child make no edge: the two are read together. Code under `#[cfg(test)]` and in files named
//! `tests` is left out.

#[cfg(test)]
mod tests;

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, UseTree};

/// The path of a module from the crate's root, which is the empty path.
pub type ModulePath = Vec<String>;

/// The modules of a crate, and the names that each uses of the others.
#[derive(Debug, Default)]
pub struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

#[derive(Debug, Default)]
struct Module {
    /// Every path that it names, absolute.
    named: BTreeSet<ModulePath>,
    /// The names that it brings into scope, and so may re-export, with their absolute paths.
    imported: BTreeMap<String, ModulePath>,
    /// The modules whose names it imports with `*`.
    globs: Vec<ModulePath>,
}

/// A module that names something of a sibling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The module whose subtree has the name.
    pub from: ModulePath,
    /// The sibling in whose subtree the named thing is.
    pub to: ModulePath,
}

/// Modules each of which imports the next, and the last of which imports the first.
#[derive(Debug, PartialEq, Eq)]
pub struct Cycle(pub Vec<ModulePath>);

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().chain(self.0.first()).map(|module| module.join("::"));
        f.write_str(&names.collect::<Vec<_>>().join(" -> "))
    }
}

impl Crate {
    /// Reads the sources below `folder`, a crate's `src`.
    ///
    /// # Errors
    ///
    /// A file can't be read, or is no Rust.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        rust_files(folder, folder, &mut files)?;
        let mut read = Crate::default();
        for file in &files {
            read.modules.entry(module_of(file)).or_default();
        }
        for file in &files {
            let path = folder.join(file);
            let text = fs::read_to_string(&path)?;
            let at = |error| io::Error::other(format!("{}: {error}", path.display()));
            let syntax = syn::parse_file(&text).map_err(at)?;
            read.add(&module_of(file), &syntax.items);
        }
        Ok(read)
    }

    fn add(&mut self, module: &[String], items: &[Item]) {
        let mut names = Names { module: module.to_vec(), found: Module::default(), inline: vec![] };
        for item in items {
            names.visit_item(item);
        }
        let Names { found, inline, .. } = names;
        let entry = self.modules.entry(module.to_vec()).or_default();
        entry.named.extend(found.named);
        entry.imported.extend(found.imported);
        entry.globs.extend(found.globs);
        for (name, items) in inline {
            let path = [module, &[name]].concat();
            self.add(&path, &items);
        }
    }

    /// The module that declares the item at `path`. Re-exports are followed.
    fn declaring(&self, path: &[String]) -> ModulePath {
        let mut path = path.to_vec();
        // The limit ends a cyclic chain of re-exports.
        for _ in 0..32 {
            let known = (0..=path.len()).rev().find(|&n| self.modules.contains_key(&path[..n]));
            let (module, rest) = path.split_at(known.unwrap_or(0));
            let Some(name) = rest.first() else { return module.to_vec() };
            let Some(next) = self.imported(module, name) else { return module.to_vec() };
            let next = [&next, &rest[1..]].concat();
            if next == path {
                return module.to_vec();
            }
            path = next;
        }
        path
    }

    fn imported(&self, module: &[String], name: &str) -> Option<ModulePath> {
        let module = self.modules.get(module)?;
        module.imported.get(name).cloned()
    }

    /// Each pair of siblings of which one names something of the other.
    pub fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (from, module) in &self.modules {
            let globs = module.globs.iter().cloned();
            for named in module.named.iter().map(|path| self.declaring(path)).chain(globs) {
                let common = from.iter().zip(&named).take_while(|(a, b)| a == b).count();
                if common < from.len() && common < named.len() {
                    let sibling = |path: &[String]| path[..=common].to_vec();
                    edges.insert(Edge { from: sibling(from), to: sibling(&named) });
                }
            }
        }
        edges
    }

    /// A cycle among siblings, if there is one: a shortest one.
    pub fn cycle(&self) -> Option<Cycle> {
        let edges = self.edges();
        let mut next: BTreeMap<&ModulePath, Vec<&ModulePath>> = BTreeMap::new();
        for Edge { from, to } in &edges {
            next.entry(from).or_default().push(to);
        }
        let cycles = next.keys().filter_map(|start| shortest_way_back(start, &next));
        cycles.min_by_key(Vec::len).map(Cycle)
    }
}

/// A shortest import cycle of each crate below `root` that has one, with the crate's folder.
///
/// # Errors
///
/// The files can't be listed or read, or one is no Rust.
pub fn cycles(root: &Path) -> io::Result<Vec<(PathBuf, Cycle)>> {
    let mut cycles = Vec::new();
    for manifest in crate::files(root)?.iter().filter(|file| file.ends_with("Cargo.toml")) {
        let folder = manifest.with_file_name("");
        let sources = root.join(&folder).join("src");
        if sources.is_dir() {
            cycles.extend(Crate::read(&sources)?.cycle().map(|cycle| (folder, cycle)));
        }
    }
    Ok(cycles)
}

/// The shortest way from `start` back to itself.
fn shortest_way_back(
    start: &ModulePath,
    next: &BTreeMap<&ModulePath, Vec<&ModulePath>>,
) -> Option<Vec<ModulePath>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for to in way.last().and_then(|last| next.get(last)).into_iter().flatten() {
                if *to == start {
                    return Some(way.into_iter().cloned().collect());
                } else if seen.insert(*to) {
                    longer.push([&way[..], &[*to]].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

fn rust_files(folder: &Path, below: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(below)? {
        let path = entry?.path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        } else if path.is_dir() {
            rust_files(folder, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.extend(path.strip_prefix(folder).map(Path::to_path_buf));
        }
    }
    Ok(())
}

/// The module that a file below `src` is.
fn module_of(file: &Path) -> ModulePath {
    let path = file.with_extension("");
    let mut parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let is_root = parts.len() == 1 && matches!(parts[0].as_str(), "lib" | "main");
    if is_root || parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Collects what the items of one module name.
struct Names {
    module: ModulePath,
    found: Module,
    inline: Vec<(String, Vec<Item>)>,
}

impl Names {
    /// The absolute path of `path`, if it begins with `crate`, `self` or `super`.
    fn absolute(&self, path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([&self.module, rest].concat()),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let above = self.module.len().checked_sub(up)?;
                Some([&self.module[..above], &path[up..]].concat())
            }
            _ => None,
        }
    }

    fn name(&mut self, path: &[String]) {
        self.found.named.extend(self.absolute(path));
    }

    fn import(&mut self, tree: &UseTree, mut path: Vec<String>) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.import(&part.tree, path);
            }
            UseTree::Name(part) => self.import_as(&part.ident.to_string(), path, &part.ident),
            UseTree::Rename(part) => self.import_as(&part.rename.to_string(), path, &part.ident),
            UseTree::Glob(_) => {
                // Without `crate`, `self` or `super` it is a child, or another crate.
                self.found.globs.extend(self.absolute(&path));
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, path.clone());
                }
            }
        }
    }

    fn import_as(&mut self, name: &str, mut path: Vec<String>, last: &syn::Ident) {
        if last != "self" {
            path.push(last.to_string());
        }
        self.name(&path);
        let absolute = self.absolute(&path).unwrap_or_else(|| [&self.module[..], &path].concat());
        self.found.imported.insert(name.to_string(), absolute);
    }

    /// Paths in the arguments of macros, which have no syntax tree.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                }
                token => {
                    self.name(&path);
                    path.clear();
                    colons = 0;
                    match token {
                        TokenTree::Ident(ident) => path.push(ident.to_string()),
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.name(&path);
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        match item {
            Item::Mod(module) => {
                if let Some((_, items)) = &module.content {
                    self.inline.push((module.ident.to_string(), items.clone()));
                }
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.name(&parts);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let test = |list: &syn::MetaList| list.tokens.to_string() == "test";
        attribute.path().is_ident("cfg") && attribute.meta.require_list().is_ok_and(test)
    })
}
