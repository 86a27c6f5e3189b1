//! The attribute tree of a running framework, by scripts that a person can read:
//!
//! ```text
//! read regions/a/alloc
//! write map camera=a;*=b\n
//! long map 70000                  writes so many bytes
//! alloc camera 1048576            a device allocates so many bytes
//! free 0                          the first chunk that is live
//! ```
//!
//! A path ends at the first blank; `\n` and `\xNN` stand for bytes, also in paths. Other lines are
//! ignored, so every input is a script.

use super::{grammar, is_one_line, text, variant};
use crate::escape::unescape;
use crate::{Form, Outcome, Target};
use cma_framework::attributes::{AttributeError, Entry, LONGEST_TEXT};
use cma_framework::config::{Map, parse_allocator};
use cma_framework::{AllocatorChoice, Attributes, Chunk, Cma, DmaAddr, Plugin};
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(super) const TARGET: Target = Target {
    name: "attributes",
    about: "paths and texts of the attribute tree, with chunks that come and go",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/attributes.dict"),
    check,
};

/// The most operations of one script.
const MOST_OPERATIONS: usize = 24;
const REGION_BYTES: u64 = 1 << 20;
const STARTS: [u64; 2] = [0x4000_0000, 0x5000_0000];

fn generate() -> BoxedStrategy<Vec<u8>> {
    let alloc = "write regions/(a|b|0x40000000)/alloc \
        (best-fit|buddy|bitmap|tlsf|buddy[(]max-order=[0-9][)]|[a-z]{1,4}|-|[(]|)(\\\\n)?";
    let map =
        "write map ([a-c]{1,2}(/[xy])?=[abz](,[ab])?;?){0,3}([*]=a,b)?(\\\\n|\\\\x00|\\\\xff)?";
    let any_path = "(read|write) (regions|map|errors|allocators|0x[0-9a-f]{1,9}|[.]{1,2}|a|\\PC)?\
        (/(0x40000000|a|b|alloc|free|[.]{1,2}))?(/(alloc|bitmap|owners|free|size|x))?( \\PC{0,6})?";
    let operation = prop_oneof![
        3 => grammar(alloc),
        3 => grammar(map),
        3 => grammar(any_path),
        3 => grammar("alloc (a|b|cam|b/x) [1-9][0-9]{0,6}"),
        2 => grammar("free [0-3]"),
        1 => grammar("long (map|regions/a/alloc) (65536|65537|[0-9]{1,5})"),
    ];
    prop::collection::vec(operation, 1..14).prop_map(|lines| lines.join("\n").into_bytes()).boxed()
}

/// Two regions, three allocators and a map.
fn framework() -> Cma {
    let cma = Cma::new();
    for plugin in [
        Plugin::built_in::<cma_best_fit::BestFit>(),
        Plugin::built_in::<cma_buddy::Buddy>(),
        Plugin::built_in::<cma_bitmap::Bitmap>(),
    ] {
        let registered = cma.allocator_register(plugin);
        registered.unwrap_or_else(|error| panic!("an allocator is not registered: {error}"));
    }
    for (name, start) in ["a", "b"].into_iter().zip(STARTS) {
        let start = DmaAddr::new(start);
        let region = cma.region_register(Some(name), start, REGION_BYTES, AllocatorChoice::Default);
        region.unwrap_or_else(|error| panic!("a region is not registered: {error}"));
    }
    cma.set_map(Map::parse("*=a,b").unwrap_or_default());
    cma
}

fn check(input: &[u8]) -> Outcome {
    let cma = framework();
    let tree = cma.attributes();
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut last = Outcome::refused("nothing");
    for line in text(input).lines().take(MOST_OPERATIONS) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (path, argument) = rest.split_once(' ').unwrap_or((rest, ""));
        let bytes = unescape(path.as_bytes());
        let path = text(&bytes);
        match command {
            "read" => last = read(&tree, &path),
            "write" => last = write(&tree, &path, &unescape(argument.as_bytes())),
            "long" => {
                let length = argument.parse().unwrap_or(0).min(LONGEST_TEXT + 2);
                last = write(&tree, &path, &vec![b'a'; length]);
            }
            "alloc" => {
                let (device, kind) =
                    path.split_once('/').map_or((&*path, None), |(d, k)| (d, Some(k)));
                chunks.extend(cma.alloc(device, kind, argument.parse().unwrap_or(0), 0));
            }
            "free" => {
                let nth = path.parse::<usize>().ok().filter(|nth| *nth < chunks.len());
                drop(nth.map(|nth| chunks.remove(nth)));
            }
            _ => continue,
        }
        counts_chunks(&tree, &chunks);
    }
    last
}

/// `entry`, `list` and `read` agree about `path`.
fn read(tree: &Attributes, path: &str) -> Outcome {
    let entry = tree.entry(path);
    let (listed, text) = (tree.list(path), tree.read(path));
    let known = paths(tree);
    match (&entry, known.get(path)) {
        (Ok(entry), Some(known)) => assert_eq!(entry, known, "{path:?}"),
        (Err(_), None) => {}
        (Ok(_), None) => panic!("{path:?} is in no list"),
        (Err(error), Some(_)) => panic!("{path:?} is listed: {error}"),
    }
    let is_attribute = matches!(entry, Ok(Entry::Attribute { .. }));
    let is_folder = matches!(entry, Ok(Entry::Folder | Entry::Link { .. }));
    assert_eq!(text.is_ok(), is_attribute, "{path:?}: {text:?}");
    assert_eq!(listed.is_ok(), is_folder, "{path:?}: {listed:?}");
    match (entry, text) {
        (Ok(_), Ok(text)) => {
            assert!(
                text.is_empty() || text.ends_with('\n'),
                "{path:?}: {text:?} is not whole lines"
            );
            Outcome::accepted(path.rsplit('/').next().unwrap_or_default())
        }
        (Ok(_), Err(_)) => Outcome::accepted("folder"),
        (Err(error), _) => refused(&error),
    }
}

fn refused(error: &AttributeError) -> Outcome {
    is_one_line(&error.to_string());
    let inner = match error {
        AttributeError::Config(error) => variant(&error.kind),
        AttributeError::Change(error) => variant(error),
        _ => String::new(),
    };
    Outcome::refused(format!("{} {inner}", variant(error)))
}

/// A write that fails changes nothing but the log of errors; one that succeeds is read back, and
/// changes nothing else.
fn write(tree: &Attributes, path: &str, written: &[u8]) -> Outcome {
    let before = texts(tree);
    let logged = tree.read("errors").unwrap_or_default();
    match tree.write(path, written) {
        Err(error) => {
            assert_eq!(texts(tree), before, "a refused write of {path:?} changed something");
            let log = tree.read("errors").unwrap_or_default();
            let is_writable = matches!(tree.entry(path), Ok(Entry::Attribute { writable: true }));
            assert_eq!(log != logged, is_writable, "the log after {path:?}: {log:?}");
            if is_writable {
                let newest = log.lines().next_back().unwrap_or_default();
                // The log shortens long lines.
                let start: String = error.to_string().chars().take(60).collect();
                assert!(newest.contains(&start), "{newest:?} doesn't contain {error}");
            }
            refused(&error)
        }
        Ok(()) => {
            let Ok(text) = str::from_utf8(written) else {
                panic!("{:?} was accepted", written.escape_ascii().to_string());
            };
            assert!(text.len() <= LONGEST_TEXT, "{} bytes were accepted", text.len());
            let after = texts(tree);
            let real = real_path(tree, path);
            assert_eq!(after[&real], expected(&real, text), "{path:?} after writing {text:?}");
            for (other, text) in &before {
                // A new allocator has other holes to serve from, and may be missing.
                let follows = other.ends_with("/maxchunk") || other.ends_with("/problem");
                let may_change =
                    |other: &str| other == real || follows && folder(other) == folder(&real);
                assert!(
                    after[other] == *text || may_change(&real_path(tree, other)),
                    "{path:?} changed {other:?} from {text:?} to {:?}",
                    after[other]
                );
            }
            Outcome::accepted(format!("{} {}", name(&real), after[&real].len().min(12)))
        }
    }
}

/// The text of an attribute after `text` was written to it.
fn expected(path: &str, text: &str) -> String {
    if path == "map" {
        let line = text.trim().replace(char::is_control, "");
        return if line.is_empty() { line } else { line + "\n" };
    }
    match parse_allocator(text) {
        Ok(None) => "best-fit\n".to_string(),
        Ok(Some(spec)) if ["best-fit", "buddy", "bitmap"].contains(&spec.name) => {
            format!("{}\n", spec.name)
        }
        Ok(Some(spec)) => format!("[{}]\n", spec.name),
        Err(error) => panic!("{text:?} was accepted: {error}"),
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("no folder", |(folder, _)| folder)
}

/// `path` with the link of a region replaced by its folder.
fn real_path(tree: &Attributes, path: &str) -> String {
    match path.rsplit_once('/') {
        Some((folder, name)) => match tree.entry(folder) {
            Ok(Entry::Link { target }) => format!("regions/{target}/{name}"),
            _ => path.to_string(),
        },
        None => path.to_string(),
    }
}

/// Every path of the tree with its entry, the paths through links included.
fn paths(tree: &Attributes) -> BTreeMap<String, Entry> {
    let mut all = BTreeMap::from([(String::new(), Entry::Folder)]);
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let listed = tree.list(&folder);
        for (name, entry) in listed.unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if !matches!(entry, Entry::Attribute { .. }) {
                folders.push(path.clone());
            }
            all.insert(path, entry);
        }
    }
    all
}

/// The text of every attribute but the log of errors and the explanations, which follow from others
/// and from the time, without the ages of chunks and failures: time passes while a script runs.
fn texts(tree: &Attributes) -> BTreeMap<String, String> {
    let attributes = paths(tree).into_iter().filter_map(|(path, entry)| {
        let is_text = matches!(entry, Entry::Attribute { .. })
            && !matches!(&*path, "errors" | "why" | "why.json");
        is_text.then(|| {
            let text = tree.read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let text = match name(&path) {
                "failures" => without_word(&text, 0),
                "owners" => without_word(&text, 3),
                _ => text,
            };
            (path, text)
        })
    });
    attributes.collect()
}

/// Each line of `text` without its word number `n`.
fn without_word(text: &str, n: usize) -> String {
    let words = |line: &str| {
        let words = line.split(' ').enumerate().filter(|(i, _)| *i != n);
        words.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(|line| words(line) + "\n").collect()
}

/// The figures of each region are those of the chunks that the script holds.
fn counts_chunks(tree: &Attributes, chunks: &[Chunk]) {
    for start in STARTS {
        let live = || {
            let inside =
                move |chunk: &&Chunk| (start..start + REGION_BYTES).contains(&chunk.start().get());
            chunks.iter().filter(inside)
        };
        let taken: u64 = live().map(Chunk::size).sum();
        let figure = |name: &str| {
            let text = tree.read(&format!("regions/{start:#x}/{name}")).unwrap_or_default();
            text.trim().parse::<u64>().unwrap_or_else(|_| panic!("{name} is {text:?}"))
        };
        assert_eq!(figure("users"), live().count() as u64, "users of {start:#x}");
        assert_eq!(figure("free"), REGION_BYTES - taken, "free bytes of {start:#x}");
        assert_eq!(figure("size"), REGION_BYTES);
        assert!(figure("maxchunk") * 4096 <= figure("free"), "the largest hole is free space");
    }
}
