//! Attributes over the socket: who may read them, and that a text is the framework's own.

mod common;

use cma_client::{AttributeText, Error};
use cma_device_protocol::{Answer, MAX_TEXT, Request};
use common::{BASE, MIB, TestServer, is_root, with_memory};
use rustix::fs::{SealFlags, fcntl_get_seals};
use rustix::io::{Errno, pwrite};

fn refused(errno: Errno) -> impl Fn(Error) -> String {
    move |error| match error {
        Error::Refused { errno: found, reason } if found == errno.raw_os_error() => reason,
        error => panic!("{error:?} is not {errno:?}"),
    }
}

#[test]
fn every_attribute_has_the_text_that_the_framework_has_and_every_folder_its_entries() {
    let server = TestServer::start(with_memory());
    let chunk = server.client().alloc("camera", Some("frame"), MIB, 0).unwrap();
    let tree = server.cma.attributes();
    tree.write("map", b"a==b").unwrap_err();
    let reader = server.client().attributes().unwrap();
    for path in ["map", "errors", "regions/ram/owners", "regions/0x40000000/free"] {
        assert_eq!(reader.read(path).unwrap(), AttributeText::Text(tree.read(path).unwrap()));
    }
    assert!(tree.read("regions/ram/owners").unwrap().contains("camera/frame"));
    let bare = format!("{:#x}", BASE + (1 << 37));
    assert_eq!(
        reader.read("regions").unwrap(),
        AttributeText::Folder(format!("0x40000000/\n{bare}/\nram -> 0x40000000\nbare -> {bare}\n"))
    );
    let root =
        AttributeText::Folder("allocators\nerrors\nmap\nwhy\nwhy.json\nregions/\n".to_string());
    assert_eq!(server.client().attribute("").unwrap(), root);
    drop(chunk);
}

#[test]
fn a_text_that_is_longer_than_a_message_arrives_whole() {
    let server = TestServer::start(with_memory());
    let chunks: Vec<_> =
        (0..4000).map(|_| server.cma.alloc("camera", None, 4096, 0).unwrap()).collect();
    let AttributeText::Text(text) = server.client().attribute("regions/ram/owners").unwrap() else {
        panic!("it is an attribute");
    };
    assert_eq!(text.lines().count(), chunks.len());
    assert!(text.len() > 100_000);
}

#[test]
fn a_path_that_leads_nowhere_is_refused_and_the_connection_goes_on() {
    let server = TestServer::start(with_memory());
    let reader = server.client().attributes().unwrap();
    for (path, errno) in [
        ("nothing", Errno::NOENT),
        ("regions/other/free", Errno::NOENT),
        ("regions/", Errno::NOENT),
        ("../map", Errno::NOENT),
        ("map/x", Errno::NOTDIR),
    ] {
        reader.read(path).map_err(refused(errno)).unwrap_err();
    }
    assert!(matches!(reader.read(&"x".repeat(MAX_TEXT + 1)), Err(Error::NamesTooLong(_))));
    assert!(reader.read("map").is_ok());
}

#[test]
fn only_root_and_the_user_of_the_server_read_attributes() {
    if !is_root("only_root_and_the_user_of_the_server_read_attributes") {
        return;
    }
    let server = TestServer::start(with_memory());
    assert!(server.client().attribute("map").is_ok());
    let stranger = &server.connections_of(1001, 1)[0];
    for path in ["map", "regions/ram/owners", "regions", "nothing"] {
        stranger.send(1, &Request::Attribute { path });
        let (errno, reason) = stranger.refusal();
        assert_eq!(Errno::from_raw_os_error(errno), Errno::ACCESS);
        assert!(reason.contains("only root") && reason.contains("not user 1001"), "{reason}");
    }
    // The same connection is served as before.
    stranger.send(2, &Request::List { after: 0 });
    assert!(matches!(stranger.receive().unwrap().as_answer(), Ok((2, Answer::Listed(..)))));
}

#[test]
fn the_file_of_a_text_can_neither_be_written_nor_resized() {
    let server = TestServer::start(with_memory());
    let connection = server.connection();
    connection.send(1, &Request::Attribute { path: "map" });
    let (message, files) = connection.receive_with_descriptors().unwrap();
    let Ok((1, Answer::Text(text))) = message.as_answer() else { panic!("{message:?}") };
    assert_eq!((text.bytes, text.is_folder, files.len()), (16, false, 1));
    let seals = fcntl_get_seals(&files[0]).unwrap();
    assert!(
        seals.contains(SealFlags::SEAL | SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW)
    );
    assert_eq!(pwrite(&files[0], b"x", 0), Err(Errno::PERM));
}
