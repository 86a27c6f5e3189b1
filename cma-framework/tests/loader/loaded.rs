//! Loading files that are plug-ins.

use super::*;
use cma_api::v1::CallFailure;
use cma_api::{Alignment, Asker, PageRange, Pages, Request};
use cma_framework::loader::{SearchPath, load_all};
use std::os::unix::net::UnixListener;

const REGION: PageRange = PageRange::from_pages(0x100, 16);

fn page() -> Request {
    Request::new(Pages::new(1), Alignment::PAGE, Asker::NOBODY).unwrap()
}

#[test]
fn a_loaded_plugin_has_its_name_version_and_description() {
    let path = fixture("revision-one");
    let plugin = Plugin::load(&path).unwrap();
    assert_eq!(plugin.name(), "revised");
    assert_eq!(plugin.version(), "1.0.0");
    assert_eq!(plugin.description(), "an allocator that is revised later");
    assert_eq!(plugin.path(), Some(path.as_path()));
    let built_in = Plugin::built_in::<cma_fixture_first_fit::FirstFit<Linked>>();
    assert_eq!(built_in.interface_version(), plugin.interface_version());
    assert_eq!((built_in.name(), built_in.path()), ("linked", None));
}

struct Linked;

impl cma_fixture_first_fit::Named for Linked {
    const INFO: cma_api::AllocatorInfo = cma_api::AllocatorInfo {
        name: "linked",
        version: "1.0.0",
        description: "linked into the test",
    };
}

#[test]
fn a_plugin_may_have_a_file_name_of_maximal_length() {
    let folder = folder();
    let path = file(
        folder.path(),
        &"n".repeat(255),
        &patched(&fs::read(fixture("revision-one")).unwrap(), b"1.0.0", b"1.0.3"),
    );
    assert_eq!(Plugin::load(path).unwrap().version(), "1.0.3");
}

#[test]
fn a_plugin_places_chunks_in_the_region_it_is_given() {
    let plugin = Plugin::load(fixture("misbehaving")).unwrap();
    let mut allocator = plugin.initialise(REGION, "").unwrap();
    let chunk = allocator.allocate(&page()).into_result().unwrap();
    assert!(chunk.range.within(REGION));
    assert_eq!(allocator.largest_request(), Pages::new(15));
    allocator.free(&chunk).into_result().unwrap();
    assert_eq!(allocator.holes().as_slice(), [REGION]);
}

#[test]
fn several_plugins_of_one_interface_are_loaded_together() {
    let one = Plugin::load(fixture("revision-one")).unwrap();
    let other = Plugin::load(fixture("misbehaving")).unwrap();
    let third = Plugin::load(fixture("stalling")).unwrap();
    assert_eq!([one.name(), other.name(), third.name()], ["revised", "misbehaving", "stalling"]);
}

#[test]
fn a_panic_in_any_call_of_a_plugin_is_an_error() {
    let plugin = Plugin::load(fixture("misbehaving")).unwrap();
    let reason = plugin.initialise(REGION, "panic=initialise").err().unwrap();
    assert_eq!(reason, "it panicked: initialise panics, as its parameters say");
    assert_eq!(
        plugin.initialise(REGION, "init=refuse").err().unwrap(),
        "refuses every region, as its parameters say"
    );
    assert_eq!(
        plugin.initialise(REGION, "colour=red").err().unwrap(),
        "unknown parameter \"colour=red\""
    );
    let mut allocator = plugin.initialise(REGION, "panic=allocate,after=1").unwrap();
    let chunk = allocator.allocate(&page()).into_result().unwrap();
    assert_eq!(allocator.allocate(&page()).into_result(), Err(CallFailure::Panicked));
    assert_eq!(allocator.free(&chunk).into_result(), Err(CallFailure::Panicked));
    drop(plugin.initialise(REGION, "panic=drop").unwrap());
}

#[test]
fn a_stalling_plugin_blocks_in_allocate_until_it_is_released() {
    let folder = folder();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let plugin = Plugin::load(fixture("stalling")).unwrap();
    let mut allocator = plugin.initialise(REGION, socket.to_str().unwrap()).unwrap();
    let call = std::thread::spawn(move || allocator.allocate(&page()).into_result().unwrap());
    let (connection, _) = listener.accept().unwrap();
    assert!(!call.is_finished());
    drop(connection);
    assert!(call.join().unwrap().range.within(REGION));
}

#[test]
fn one_bad_file_among_the_plugins_does_not_stop_the_others() {
    let (first, second) = (folder(), folder());
    let put = |folder: &TempDir, name: &str, from: &str| {
        file(folder.path(), name, &fs::read(fixture(from)).unwrap())
    };
    put(&first, "libcma_a_plugin.so", "revision-one");
    file(first.path(), "libcma_b_plugin.so", b"not a library");
    put(&first, "libcma_c_plugin.so", "misbehaving");
    put(&first, "ordinary.so", "stalling");
    put(&second, "libcma_a_plugin.so", "stalling");
    put(&second, "libcma_d_plugin.so", "revision-two");
    let gone = first.path().join("gone");
    let named = [first.path().into(), gone.clone(), second.path().into()];
    let all = load_all(&SearchPath::new(&named, None, None), None);
    let found: Vec<_> = all
        .iter()
        .map(|(path, plugin)| {
            let name = plugin
                .as_ref()
                .map_or_else(|e| e.reason().kind().to_string(), |p| p.name().to_string());
            (path.strip_prefix(first.path()).or(path.strip_prefix(second.path())).unwrap(), name)
        })
        .collect();
    let expected = [
        ("libcma_a_plugin.so", "revised"),
        ("libcma_b_plugin.so", "not-elf"),
        ("libcma_c_plugin.so", "misbehaving"),
        ("gone", "folder-missing"),
        ("libcma_d_plugin.so", "revised"),
    ]
    .map(|(path, name)| (Path::new(path), name.to_string()));
    assert_eq!(found, expected);
    assert_complete(&gone, all.into_iter().nth(3).unwrap().1.unwrap_err());
}
