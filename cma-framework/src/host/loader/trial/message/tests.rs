//! Encoding and decoding of orders and verdicts.

use super::*;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

#[test]
fn an_order_is_decoded_and_other_bytes_are_refused() {
    for order in [
        Order::Supervise { limit: Duration::from_millis(300), memory: 1 << 40 },
        Order::TryOut { memory: u64::MAX, supervisor: u32::MAX },
    ] {
        assert_eq!(Order::from_bytes(&order.to_bytes()), Some(order));
        for length in 0..Order::BYTES {
            assert_eq!(Order::from_bytes(&order.to_bytes()[..length]), None);
        }
        assert_eq!(Order::from_bytes(&[&order.to_bytes()[..], b"!"].concat()), None);
        assert_eq!(Order::from_bytes(&[b"!", &order.to_bytes()[1..]].concat()), None);
    }
}

/// Otherwise a client could make a program that is started with the connection as its standard
/// input run a library.
#[test]
fn an_order_from_a_client_is_ignored() {
    let order = Order::TryOut { memory: 1 << 30, supervisor: 1 };
    let (ours, theirs) = pair().unwrap();
    order.send(&ours, &[ours.as_fd()]).unwrap();
    assert_eq!(Order::peek(&theirs), Some(order));
    let folder = tempfile::tempdir().unwrap();
    let by_path = SocketAddr::from_pathname(folder.path().join("socket")).unwrap();
    let by_name =
        SocketAddr::from_abstract_name(folder.path().as_os_str().as_encoded_bytes()).unwrap();
    for address in [by_path, by_name] {
        let listener = UnixListener::bind_addr(&address).unwrap();
        let client = UnixStream::connect_addr(&address).unwrap();
        let (connection, _) = listener.accept().unwrap();
        order.send(&client, &[client.as_fd()]).unwrap();
        assert_eq!(Order::peek(&connection), None, "{address:?}");
    }
}

#[test]
fn a_verdict_is_decoded_with_the_same_texts() {
    let limit = Duration::from_secs(3);
    let last_output = || "last line".to_string();
    for reason in [
        LoadFailure::Crashed { signal: "SIGBUS".to_string(), last_output: String::new() },
        LoadFailure::Ended { code: -1, last_output: last_output() },
        LoadFailure::Endless { limit, last_output: last_output() },
        LoadFailure::AbortsOnPanic,
        LoadFailure::Declined("not today".to_string()),
    ] {
        let words =
            |reason: &LoadFailure| [reason.kind(), &reason.to_string(), reason.remedy()].join("|");
        let expected = words(&reason);
        match Verdict::from_bytes(&Verdict::Refused(reason).to_bytes(), limit) {
            Ok(Verdict::Refused(read)) => assert_eq!(words(&read), expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(matches!(Verdict::from_bytes(&Verdict::Sound.to_bytes(), limit), Ok(Verdict::Sound)));
    let none = Verdict::NoTrial(io::Error::other("why"));
    let none = Verdict::from_bytes(&none.to_bytes(), limit);
    assert!(matches!(&none, Ok(Verdict::NoTrial(error)) if error.to_string() == "why"), "{none:?}");
    for bytes in [&b""[..], b"soun", b"sound\0", b"crashed\0", b"ended\0x\0", b"\xff"] {
        assert!(Verdict::from_bytes(bytes, limit).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_socket_that_is_closed_without_a_verdict_yields_none() {
    let (ours, theirs) = pair().unwrap();
    send_verdict(&theirs, &Verdict::Sound).unwrap();
    drop(theirs);
    assert!(matches!(receive_verdict(&ours, Duration::ZERO), Ok(Some(Verdict::Sound))));
    assert!(matches!(receive_verdict(&ours, Duration::ZERO), Ok(None)));
}
