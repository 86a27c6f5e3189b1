//! Any bytes and any path: no call panics, a refused write changes nothing, and an accepted text
//! reads back as it was written.

use super::everything;
use crate::common::with_regions;
use cma_framework::config::{Map, parse_allocator};
use cma_framework::{Attributes, Plugin};
use proptest::prelude::*;

const VALID: &[&str] = &[
    "\n",
    "cam=a\n",
    "cam/x,/y=a,b;*=b\n",
    "s3c-mfc5/f=fw;s3c-mfc5/a=b1;s3c-mfc5/b=b2;*=b1,b2\n",
    "a?c*/t*=x;\n",
    "best-fit\n",
    "buddy(max-order=4)\n",
    "unheard-of(x=1,y=2)",
];

/// Any bytes, or a valid text in which a few bytes were replaced, removed or added.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let mutation = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    let mutated = (prop::sample::select(VALID), prop::collection::vec(mutation, 0..4));
    let mutated = mutated.prop_map(|(text, mutations)| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte, how) in mutations {
            let at = at.index(bytes.len() + 1);
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at, b";,=/*?():- \n"[usize::from(byte) % 12]),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..40), mutated]
}

/// Any names, many of which are in the tree.
fn path() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "",
        "regions",
        "map",
        "errors",
        "0x40000000",
        "a",
        "alloc",
        "free",
        ".",
        "..",
    ]);
    let name =
        prop_oneof![4 => known.prop_map(str::to_string), 1 => "0x[0-9a-f]{0,17}", 1 => "\\PC{0,8}"];
    prop::collection::vec(name, 0..4).prop_map(|names| names.join("/"))
}

fn tree() -> Attributes {
    let cma = with_regions(&["a", "b"], "*=a,b");
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    cma.attributes()
}

/// Every value is parsed by the grammar or the type of its attribute.
fn reads_back(tree: &Attributes) {
    for (path, text) in everything(tree) {
        let name = path.rsplit('/').next().unwrap();
        let is_list = matches!(name, "owners" | "failures" | "waiters" | "shadow");
        let is_list = is_list || matches!(name, "why" | "why.json");
        assert!(
            is_list || text.len() <= 1 || !text[..text.len() - 1].contains('\n'),
            "{path}: {text:?} is one line"
        );
        match name {
            "map" => assert_eq!(Map::parse(&text).unwrap().to_string(), text.trim()),
            "start" => {
                assert!(u64::from_str_radix(text.trim().strip_prefix("0x").unwrap(), 16).is_ok());
            }
            "alloc" | "allocators" | "name" | "problem" | "owners" | "failures" | "waiters"
            | "shadow" | "why" | "why.json" | "a" | "b" => {}
            "bitmap" => {
                assert!(text.trim().split(' ').all(|word| word.parse::<u32>().is_ok()), "{path}");
            }
            _ => assert!(text.trim().parse::<u64>().is_ok(), "{path}: {text:?}"),
        }
    }
}

/// The paths of folders, also by their links, and of attributes.
fn known_paths(tree: &Attributes) -> (Vec<String>, Vec<String>) {
    let mut folders = vec![String::new(), "regions".to_string()];
    let mut attributes =
        ["allocators", "errors", "map", "why", "why.json"].map(str::to_string).to_vec();
    for (region, _) in tree.list("regions").unwrap() {
        let folder = format!("regions/{region}");
        attributes
            .extend(tree.list(&folder).unwrap().iter().map(|(name, _)| format!("{folder}/{name}")));
        folders.push(folder);
    }
    (folders, attributes)
}

proptest! {
    #[test]
    fn a_map_is_accepted_as_written_or_refused_without_a_change(text in text()) {
        let tree = tree();
        let before = everything(&tree);
        match tree.write("map", &text) {
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                prop_assert_eq!(everything(&tree), before);
            }
            Ok(()) => {
                let text = String::from_utf8(text).unwrap();
                // In one line: line ends and tabs beside separators are ignored.
                let line = text.trim().replace(char::is_control, "");
                let expected = if line.is_empty() { String::new() } else { format!("{line}\n") };
                prop_assert_eq!(tree.read("map").unwrap(), expected);
            }
        }
        reads_back(&tree);
    }

    #[test]
    fn an_allocator_is_accepted_as_written_or_refused_without_a_change(text in text()) {
        let tree = tree();
        let before = everything(&tree);
        match tree.write("regions/a/alloc", &text) {
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                prop_assert_eq!(everything(&tree), before);
            }
            Ok(()) => {
                let text = String::from_utf8(text).unwrap();
                let expected = match parse_allocator(&text).unwrap() {
                    None => "best-fit\n".to_string(),
                    Some(known) if ["best-fit", "buddy"].contains(&known.name) => format!("{}\n", known.name),
                    Some(unknown) => format!("[{}]\n", unknown.name),
                };
                prop_assert_eq!(tree.read("regions/a/alloc").unwrap(), expected);
            }
        }
        reads_back(&tree);
    }

    #[test]
    fn a_path_that_is_not_in_the_tree_is_an_error(path in path()) {
        let tree = tree();
        let (folders, attributes) = known_paths(&tree);
        prop_assert_eq!(tree.read(&path).is_ok(), attributes.contains(&path), "{}", path);
        prop_assert_eq!(tree.list(&path).is_ok(), folders.contains(&path), "{}", path);
        let known = folders.contains(&path) || attributes.contains(&path);
        prop_assert_eq!(tree.entry(&path).is_ok(), known, "{}", path);
        prop_assert_eq!(tree.write(&path, b"\n").is_ok(), path == "map" || known && path.ends_with("/alloc"), "{}", path);
    }
}
