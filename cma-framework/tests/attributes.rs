//! The guarantees of the attribute tree: each row of the table in section 7 of the specification,
//! and that no text and no path causes a panic or a partial change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod attribute_properties;
mod common;

use cma_buddy::Buddy;
use cma_framework::attributes::{AttributeError, Entry, LONGEST_TEXT};
use cma_framework::config::Map;
use cma_framework::{
    AllocatorChoice, Attributes, ChunkRequest, Cma, DmaAddr, Errno, PendingChunk, Plugin, Process,
    Region, Source,
};
use common::{BASE, MIB, region, scripted, with_regions};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

fn refused(tree: &Attributes, path: &str, text: impl AsRef<[u8]>) -> AttributeError {
    tree.write(path, text.as_ref()).unwrap_err()
}

/// A framework without allocators and with the region `video` at [`BASE`].
fn waiting(choice: AllocatorChoice) -> (Cma, Region, Attributes) {
    let cma = Cma::new();
    let video = region(&cma, "video", BASE, 16 * MIB, choice);
    let tree = cma.attributes();
    (cma, video, tree)
}

fn names(tree: &Attributes, path: &str) -> Vec<String> {
    tree.list(path).unwrap().into_iter().map(|(name, _)| name).collect()
}

/// The text of every attribute but the log of errors.
fn everything(tree: &Attributes) -> Vec<(String, String)> {
    fn walk(tree: &Attributes, folder: &str, all: &mut Vec<(String, String)>) {
        for (name, entry) in tree.list(folder).unwrap() {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            match entry {
                Entry::Folder => walk(tree, &path, all),
                Entry::Link { target } => all.push((path, target)),
                Entry::Attribute { .. } if path == "errors" => {}
                Entry::Attribute { .. } => all.push((path.clone(), tree.read(&path).unwrap())),
            }
        }
    }
    let mut all = Vec::new();
    walk(tree, "", &mut all);
    all
}

#[test]
fn the_map_reads_as_at_most_one_line_and_a_write_replaces_it() {
    let cma = with_regions(&["a", "b"], "");
    let tree = cma.attributes();
    assert_eq!(tree.read("map").unwrap(), "");
    tree.write("map", b"cam/x,mic=a;*=b\n").unwrap();
    assert_eq!(tree.read("map").unwrap(), "cam/x,mic=a;*=b\n");
    assert_eq!(*cma.map(), Map::parse("cam/x,mic=a;*=b").unwrap());
    tree.write("map", b" *=a").unwrap();
    assert_eq!(tree.read("map").unwrap(), "*=a\n");
    assert!(cma.alloc("any", None, 4096, 0).is_ok());
    tree.write("map", b"\n").unwrap();
    assert_eq!(tree.read("map").unwrap(), "");
    assert_eq!(cma.alloc("any", None, 4096, 0).unwrap_err().errno(), Errno::ENOENT);
}

#[test]
fn a_malformed_map_is_refused_with_its_position_and_the_old_one_stays() {
    let cma = with_regions(&["a"], "cam=a");
    let tree = cma.attributes();
    for (text, position) in [
        ("cam=a;mic", "column 10"),
        ("  cam==a", "column 7"),
        ("a=b\nc=d", "column 6"),
        ("cam=", "column 5"),
    ] {
        let error = refused(&tree, "map", format!("{text}\n"));
        assert_eq!(error.errno(), Errno::EINVAL);
        assert!(error.to_string().contains(position), "{text}: {error}");
        assert_eq!(tree.read("map").unwrap(), "cam=a\n");
    }
}

#[test]
fn bytes_that_are_not_text_and_texts_that_are_too_long_are_refused() {
    let tree = with_regions(&["a"], "cam=a").attributes();
    for path in ["map", "regions/a/alloc"] {
        let before = everything(&tree);
        assert_eq!(refused(&tree, path, b"cam=\xff"), AttributeError::NotUtf8 { at: 4 });
        assert_eq!(refused(&tree, path, b"a\0\n"), AttributeError::Nul { at: 1 });
        let long = vec![b'a'; LONGEST_TEXT + 1];
        assert_eq!(refused(&tree, path, long), AttributeError::TooLong { bytes: LONGEST_TEXT + 1 });
        assert_eq!(everything(&tree), before);
    }
    assert_eq!(AttributeError::NotUtf8 { at: 0 }.errno(), Errno::EINVAL);
    assert_eq!(AttributeError::Nul { at: 0 }.errno(), Errno::EINVAL);
    assert_eq!(AttributeError::TooLong { bytes: 0 }.errno(), Errno::EFBIG);
}

#[test]
fn allocators_are_listed_in_the_order_of_their_registration() {
    let cma = Cma::new();
    let tree = cma.attributes();
    assert_eq!(tree.read("allocators").unwrap(), "\n");
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    cma.allocator_register_as(None, Plugin::built_in::<Buddy>()).unwrap();
    cma.allocator_register(Plugin::built_in::<Buddy>()).unwrap();
    assert_eq!(tree.read("allocators").unwrap(), "best-fit - buddy\n");
}

#[test]
fn a_region_has_a_folder_named_by_its_start_and_a_link_named_by_its_name() {
    let cma = Cma::new();
    region(&cma, "video", BASE, MIB, AllocatorChoice::Default);
    cma.region_register(None, DmaAddr::new(0), MIB, AllocatorChoice::Default).unwrap();
    let tree = cma.attributes();
    let link = Entry::Link { target: "0x40000000".to_string() };
    assert_eq!(
        tree.list("regions").unwrap(),
        [
            ("0x0".to_string(), Entry::Folder),
            ("0x40000000".to_string(), Entry::Folder),
            ("video".to_string(), link.clone())
        ]
    );
    assert_eq!(tree.entry("regions/video").unwrap(), link);
    assert_eq!(names(&tree, "regions/video"), names(&tree, "regions/0x40000000"));
    assert_eq!(tree.read("regions/video/start").unwrap(), "0x40000000\n");
    assert_eq!(tree.read("regions/0x0/name").unwrap(), "");
    for other in
        ["regions/0x40000001", "regions/0X40000000", "regions/0x040000000", "regions/0x1000"]
    {
        assert_eq!(tree.entry(other).unwrap_err().errno(), Errno::ENOENT, "{other}");
    }
}

#[test]
fn a_name_like_an_address_never_hides_a_region() {
    let cma = Cma::new();
    // The name of the first region is the start of the second.
    region(&cma, "0x40100000", BASE, MIB, AllocatorChoice::Default);
    region(&cma, "plain", BASE + MIB, MIB, AllocatorChoice::Default);
    for (n, name) in [".", "..", &"x".repeat(256)].iter().enumerate() {
        region(&cma, name, BASE + (n as u64 + 2) * MIB, MIB, AllocatorChoice::Default);
    }
    let tree = cma.attributes();
    assert_eq!(tree.entry("regions/0x40100000").unwrap(), Entry::Folder);
    assert_eq!(tree.read("regions/0x40100000/name").unwrap(), "plain\n");
    assert_eq!(tree.read("regions/0x40000000/name").unwrap(), "0x40100000\n");
    assert_eq!(names(&tree, "regions")[5..], ["plain"]);
    for path in ["regions/.", "regions/..", "regions/"] {
        assert_eq!(tree.entry(path).unwrap_err().errno(), Errno::ENOENT);
    }
}

#[test]
fn the_figures_of_a_region_follow_its_chunks() {
    let cma = with_regions(&["a"], "*=a");
    let tree = cma.attributes();
    let read = |name: &str| tree.read(&format!("regions/a/{name}")).unwrap();
    assert_eq!([read("name"), read("start"), read("size")], ["a\n", "0x40000000\n", "16777216\n"]);
    assert_eq!(
        [read("total_pages"), read("base_pfn"), read("order_per_bit")],
        ["4096\n", "262144\n", "0\n"]
    );
    let first = cma.alloc("cam", None, 4 * MIB, 0).unwrap();
    let second = cma.alloc("cam", None, MIB, 0).unwrap();
    drop(first);
    assert_eq!(
        [read("users"), read("free"), read("available_pages")],
        ["1\n", "15728640\n", "3840\n"]
    );
    assert_eq!(read("maxchunk"), "2816\n");
    drop(second);
    assert_eq!([read("users"), read("free"), read("maxchunk")], ["0\n", "16777216\n", "4096\n"]);
}

#[test]
fn the_counters_of_a_region_count_pages_as_mainline_does_and_requests() {
    let cma = with_regions(&["a"], "*=a");
    let tree = cma.attributes();
    let read = |name: &str| {
        tree.read(&format!("regions/a/{name}")).unwrap().trim().parse::<u64>().unwrap()
    };
    let first = cma.alloc("cam", None, 5 * 4096, 0).unwrap();
    let second = cma.alloc("cam", None, 2 * 4096, 0).unwrap();
    drop(first);
    drop(cma.alloc("cam", None, 4096, 0).unwrap());
    cma.alloc("cam", None, 32 * MIB, 0).unwrap_err();
    assert_eq!([read("alloc_pages_success"), read("alloc_pages_fail")], [8, 8192]);
    assert_eq!([read("release_pages_success"), read("high_water")], [6, 7 * 4096]);
    let requests = ["chunks_placed", "requests_refused", "chunks_freed"];
    assert_eq!(requests.map(read), [3, 1, 2]);
    drop(second);
    assert_eq!([read("release_pages_success"), read("high_water")], [8, 7 * 4096]);
    assert_eq!(requests.map(read), [3, 1, 3]);
}

#[test]
fn the_bitmap_has_a_bit_set_for_each_allocated_page() {
    let (cma, video, tree) = waiting(scripted("0+1 31+2 95+1 64+3"));
    let chunks: Vec<_> = [1, 2, 1, 3]
        .iter()
        .map(|pages| cma.alloc_from_region(&video, pages * 4096, 0).unwrap())
        .collect();
    let bitmap = tree.read("regions/video/bitmap").unwrap();
    let words: Vec<u32> = bitmap.trim_end().split(' ').map(|word| word.parse().unwrap()).collect();
    assert_eq!(words[..4], [1 << 31 | 1, 1, 1 << 31 | 0b111, 0]);
    assert_eq!((words.len(), bitmap.ends_with(" 0\n")), (16 * 256 / 32, true));
    drop(chunks);
    assert!(
        tree.read("regions/video/bitmap").unwrap().trim_end().split(' ').all(|word| word == "0")
    );

    region(&cma, "huge", 0x100_0000_0000, 1 << 39, AllocatorChoice::Default);
    assert_eq!(tree.read("regions/huge/bitmap").unwrap_err().errno(), Errno::EFBIG);
}

#[test]
fn waiters_lists_requests_in_their_order_and_failures_their_limits() {
    let cma = with_regions(&["a"], "*=a");
    let tree = cma.attributes();
    let read = |name: &str| tree.read(&format!("regions/a/{name}")).unwrap();
    assert_eq!(read("waiters"), "");
    let whole = cma.alloc("cam", None, 16 * MIB, 0).unwrap();
    let process = Process { uid: 7, pid: 42, name: "two words".into() };
    let camera = Source::Device { name: "cam", kind: Some("frame") };
    let request = |text: &str| ChunkRequest::parse(text).unwrap();
    let first = request("1M/64K below=0x40800000 boundary=2M wait=2s");
    let mut first = cma.to_share(process, camera, &first).unwrap().alloc_async();
    let mut second = cma.allocate_async(Source::Regions("a"), &request("1")).unwrap();
    let poll = |pending: &mut PendingChunk| {
        Pin::new(pending).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    };
    assert!(!poll(&mut first) && !poll(&mut second));
    let waiters = read("waiters");
    let lines: Vec<&str> = waiters.lines().collect();
    let [one, two] = &lines[..] else { panic!("{waiters}") };
    let one = one.strip_prefix("1048576 65536 below=1032M,boundary=2M,wait=2s cam/frame ");
    let one = one.and_then(|rest| rest.strip_suffix(" 7 42 two\\u{20}words"));
    let two = two.strip_prefix("1 4096 - - ").and_then(|rest| rest.strip_suffix(" - - -"));
    for waited in [one, two] {
        assert!(waited.is_some_and(|waited| waited.parse::<f64>().is_ok()), "{waiters}");
    }
    drop((first, second));
    assert_eq!(read("waiters"), "");
    cma.allocate(camera, &request("2M/1M above=0x40000001 below=0x40800fff")).unwrap_err();
    cma.allocate(camera, &request("4K at=0x40000000")).unwrap_err();
    let failures = read("failures");
    let [within, at] =
        [" 2097152 1048576 above=0x40001000,below=1032M ", " 4096 4096 at=0x40000000 "];
    let mut lines = failures.lines();
    assert!(lines.next().unwrap().contains(within), "{failures}");
    assert!(lines.next().unwrap().contains(at), "{failures}");
    drop(whole);
}

#[test]
fn owners_lists_live_chunks_and_failures_lists_refused_requests() {
    let cma = with_regions(&["a"], "*=a");
    let tree = cma.attributes();
    assert_eq!(
        [tree.read("regions/a/owners"), tree.read("regions/a/failures")].map(Result::unwrap),
        ["", ""]
    );
    let _one = cma.alloc("cam", Some("frame"), 5 * 4096, 0).unwrap();
    let _two = cma.alloc("two words\n", None, 1, 0).unwrap();
    let limits = ChunkRequest::parse("4K/4K above=0x40005800 boundary=64K").unwrap();
    let _three = cma.allocate(Source::Regions("a"), &limits).unwrap();
    assert_eq!(
        tree.read("regions/a/owners").unwrap(),
        "0x40000000 20480 - cam/frame - - - -\n\
         0x40005000 4096 - two\\u{20}words\\u{a}/common - - - -\n\
         0x40006000 4096 above=0x40006000,boundary=64K - - - - -\n"
    );
    cma.alloc("cam", Some("frame"), 32 * MIB, 1 << 20).unwrap_err();
    let failures = tree.read("regions/a/failures").unwrap();
    let refused = " 33554432 1048576 - cam/frame too small: 32M requested of a region of 16M\n";
    let age = failures.strip_suffix(refused).unwrap_or_else(|| panic!("{failures}"));
    assert!(
        age.parse::<f64>().is_ok(),
        "a refusal has an age although no timekeeper runs: {failures}"
    );
    let _time = cma_framework::keep_time().unwrap();
    let _four = cma.alloc("mic", None, 4096, 0).unwrap();
    let owners = tree.read("regions/a/owners").unwrap();
    let (_, age) = owners.trim_end().rsplit_once(" mic/common ").unwrap();
    assert!(age.strip_suffix(" - - -").unwrap().parse::<f64>().is_ok(), "{owners}");
}

#[test]
fn alloc_shows_a_regions_allocator_or_the_one_that_it_waits_for() {
    let (_, _, tree) = waiting(AllocatorChoice::Default);
    assert_eq!(tree.read("regions/video/alloc").unwrap(), "");
    assert_eq!(tree.read("regions/video/problem").unwrap(), "waits for the default\n");

    let (cma, _, tree) = waiting(AllocatorChoice::named("buddy"));
    assert_eq!(tree.read("regions/video/alloc").unwrap(), "[buddy]\n");
    assert_eq!(tree.read("regions/video/problem").unwrap(), "waits for buddy\n");
    cma.allocator_register(Plugin::built_in::<Buddy>()).unwrap();
    assert_eq!(tree.read("regions/video/alloc").unwrap(), "buddy\n");
    assert_eq!(tree.read("regions/video/problem").unwrap(), "");

    let (cma, _, tree) = waiting(AllocatorChoice::Default);
    cma.allocator_register_as(None, Plugin::built_in::<Buddy>()).unwrap();
    assert_eq!(tree.read("regions/video/alloc").unwrap(), "-\n");

    let (cma, video, tree) = waiting(scripted("-1+1"));
    cma.alloc_from_region(&video, 4096, 0).unwrap_err();
    assert_eq!(tree.read("regions/video/alloc").unwrap(), "(scripted)\n");
    let problem = tree.read("regions/video/problem").unwrap();
    assert!(
        problem.contains("out of service") && problem.contains("outside the region"),
        "{problem}"
    );
}

#[test]
fn an_allocator_that_is_written_to_alloc_is_attached_and_serves() {
    let cma = with_regions(&["a"], "*=a");
    cma.allocator_register(Plugin::built_in::<Buddy>()).unwrap();
    let tree = cma.attributes();
    let alloc = "regions/a/alloc";
    for (written, shown) in [
        ("buddy\n", "buddy\n"),
        ("best-fit", "best-fit\n"),
        (" buddy(max-order=3) \n", "buddy\n"),
        ("\n", "best-fit\n"),
        ("later\n", "[later]\n"),
    ] {
        tree.write(alloc, written.as_bytes()).unwrap();
        assert_eq!(tree.read(alloc).unwrap(), shown, "{written:?}");
        assert_eq!(cma.alloc("any", None, 4096, 0).is_ok(), shown != "[later]\n", "{written:?}");
    }
    cma.allocator_register_as(Some("later"), Plugin::built_in::<Buddy>()).unwrap();
    assert_eq!(tree.read(alloc).unwrap(), "later\n");
    assert!(cma.alloc("any", None, 4096, 0).is_ok());
}

#[test]
fn parameters_written_with_an_allocator_reach_it() {
    let (cma, video, tree) = waiting(AllocatorChoice::Default);
    cma.allocator_register(Plugin::built_in::<common::Scripted>()).unwrap();
    tree.write("regions/video/alloc", b"scripted(5+1 9+1)\n").unwrap();
    let place = || cma.alloc_from_region(&video, 4096, 0).unwrap().start().get() - BASE;
    assert_eq!(place(), 5 * 4096);
    let error = refused(&tree, "regions/video/alloc", "scripted(colour=red)");
    assert_eq!(error.errno(), Errno::EINVAL);
    assert!(error.to_string().contains("no script: colour=red"), "{error}");
    assert_eq!(place(), 9 * 4096);
}

#[test]
fn an_allocator_is_changed_under_live_chunks_only_if_the_new_one_adopts_them() {
    let cma = with_regions(&["a"], "*=a");
    cma.allocator_register(Plugin::built_in::<Buddy>()).unwrap();
    cma.allocator_register(Plugin::built_in::<common::Scripted>()).unwrap();
    let tree = cma.attributes();
    let chunks: Vec<_> = (0..4).map(|_| cma.alloc("cam", None, 3 * 4096, 0).unwrap()).collect();
    let places: Vec<_> = chunks.iter().map(cma_framework::Chunk::range).collect();
    // One that can't adopt, and one that is not registered.
    for unable in ["scripted\n", "unknown\n"] {
        let error = refused(&tree, "regions/a/alloc", unable);
        assert_eq!(error.errno(), Errno::EBUSY, "{error}");
        assert_eq!(tree.read("regions/a/alloc").unwrap(), "best-fit\n");
    }
    tree.write("regions/a/alloc", b"bitmap\n").unwrap_err();
    cma.allocator_register(Plugin::built_in::<cma_bitmap::Bitmap>()).unwrap();
    tree.write("regions/a/alloc", b"bitmap\n").unwrap();
    assert_eq!(tree.read("regions/a/alloc").unwrap(), "bitmap\n");
    assert_eq!(tree.read("regions/a/users").unwrap(), "4\n");
    assert!(chunks.iter().map(cma_framework::Chunk::range).eq(places));
    cma.region("a").unwrap().check().unwrap();
}

#[test]
fn an_invalid_allocator_is_refused_with_the_reason() {
    let tree = with_regions(&["a"], "").attributes();
    tree.write("regions/a/alloc", b"best-fit").unwrap();
    for (text, reason) in [
        ("-", "without a name"),
        ("[buddy]", "has one of the characters"),
        ("büddy", "not ASCII"),
        ("best fit", "at column 1"),
        ("buddy\nbuddy", "is white space"),
        ("(x=1)", "parameters need the name"),
        ("buddy(x", "expected ')'"),
        ("buddy(x)y", "expected the end"),
        ("buddy;tlsf", "at column 6: \";tlsf\""),
    ] {
        let error = refused(&tree, "regions/a/alloc", format!("{text}\n"));
        assert_eq!(error.errno(), Errno::EINVAL, "{text}");
        assert!(error.to_string().contains(reason), "{text}: {error}");
        assert_eq!(tree.read("regions/a/alloc").unwrap(), "best-fit\n");
    }
}

#[test]
fn only_map_alloc_and_shadow_may_be_written() {
    let tree = with_regions(&["a"], "*=a").attributes();
    let before = everything(&tree);
    let (mut writable, mut modes) = (Vec::new(), Vec::new());
    let paths =
        before.iter().map(|(path, _)| path.as_str()).chain(["errors", "", "regions", "regions/a"]);
    for path in paths {
        let entry = tree.entry(path).unwrap();
        modes.push(entry.mode());
        match entry {
            Entry::Attribute { writable: true } => writable.push(path),
            Entry::Attribute { .. } => {
                assert_eq!(refused(&tree, path, "0\n").errno(), Errno::EACCES, "{path}");
            }
            _ => assert_eq!(refused(&tree, path, "0\n").errno(), Errno::EISDIR, "{path}"),
        }
    }
    let of_region = ["alloc", "shadow"].map(|name| format!("regions/0x40000000/{name}"));
    assert_eq!(writable, ["map", &of_region[0], &of_region[1]]);
    modes.sort_unstable();
    modes.dedup();
    assert_eq!(modes, [0o444, 0o644, 0o755, 0o777]);
    assert_eq!(everything(&tree), before);
    assert_eq!(tree.read("errors").unwrap(), "");
}

#[test]
fn missing_entries_folders_and_attributes_have_distinct_errors() {
    let tree = with_regions(&["a"], "").attributes();
    let errno = |path: &str| tree.read(path).map_err(|error| error.errno());
    for path in ["nothing", "/map", "map2", "regions/b", "regions/a/nothing", "regions//a", "Map"] {
        assert_eq!(errno(path), Err(Errno::ENOENT), "{path}");
    }
    for path in ["map/", "map/x", "regions/a/name/x"] {
        assert_eq!(errno(path), Err(Errno::ENOTDIR), "{path}");
    }
    for path in ["", "regions", "regions/a", "regions/0x40000000"] {
        assert_eq!(errno(path), Err(Errno::EISDIR), "{path}");
    }
    assert_eq!(tree.list("map").unwrap_err().errno(), Errno::ENOTDIR);
    assert_eq!(tree.list("nothing").unwrap_err().errno(), Errno::ENOENT);
}

#[test]
fn a_region_that_was_unregistered_is_gone_from_the_tree() {
    let cma = with_regions(&["a"], "");
    let tree = cma.attributes();
    cma.region_unregister(&cma.region("a").unwrap()).unwrap();
    assert_eq!(names(&tree, "regions"), [""; 0]);
    assert_eq!(tree.entry("regions/a").unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(tree.read("regions/0x40000000/name").unwrap_err().errno(), Errno::ENOENT);
}

#[test]
fn the_last_refused_writes_are_kept_with_their_reasons() {
    let cma = with_regions(&["a"], "");
    let tree = cma.attributes();
    assert_eq!(tree.read("errors").unwrap(), "");
    refused(&tree, "map", "a==b");
    refused(&cma.attributes(), "regions/a/alloc", "-");
    assert_eq!(
        tree.read("errors").unwrap(),
        "1 map: EINVAL: a rule has one '=' at column 3: \"=\"\n\
        2 regions/0x40000000/alloc: EINVAL: this can't be the name of an allocator: it stands for an allocator without a name at column 1: \"-\"\n"
    );
    for _ in 0..20 {
        refused(&tree, "map", "x".repeat(LONGEST_TEXT - 1) + "=");
        refused(&tree, "map", format!("{}*=a", "y*".repeat(LONGEST_TEXT / 4)));
    }
    let errors = tree.read("errors").unwrap();
    assert_eq!(errors.lines().count(), 8);
    assert!(errors.len() < 8 * 1000, "{} bytes", errors.len());
    assert!(errors.lines().last().unwrap().starts_with("42 map: EINVAL: "), "{errors}");
}

#[test]
fn a_listener_is_told_each_write_that_took_effect_and_no_other() {
    let cma = Cma::new();
    let start = DmaAddr::new(1 << 30);
    cma.region_register(Some("ram"), start, 1 << 20, AllocatorChoice::Default).unwrap();
    let (attributes, written) = (cma.attributes(), Arc::new(Mutex::new(Vec::new())));
    attributes.write("map", b"*=ram").unwrap();
    let told = written.clone();
    let note = move |path: &str, text: &str| told.lock().unwrap().push(format!("{path} {text}"));
    assert!(attributes.on_written(note));
    assert!(!cma.attributes().on_written(|_, _| panic!("a second listener is called")));
    attributes.write("map", b" camera=ram\n").unwrap();
    attributes.write("map", b"camera=").unwrap_err();
    attributes.write("regions/ram/alloc", b"buddy").unwrap();
    attributes.write("regions/ram/size", b"1").unwrap_err();
    let expected = ["map  camera=ram", "regions/0x40000000/alloc buddy"];
    assert_eq!(*written.lock().unwrap(), expected);
}
