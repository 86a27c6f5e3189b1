//! Orders and verdicts come out as they went in.

use super::*;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

#[test]
fn an_order_is_read_back_and_nothing_else_is_one() {
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

/// Whoever could connect to a program that is started with the connection as its standard input
/// could have it run a library.
#[test]
fn an_order_from_somebody_who_has_connected_to_this_program_is_none() {
    let order = Order::TryOut { memory: 1 << 30, supervisor: 1 };
    let (ours, theirs) = pair().unwrap();
    order.send(&ours, &[ours.as_fd()]).unwrap();
    assert_eq!(Order::waiting(&theirs), Some(order));
    let folder = tempfile::tempdir().unwrap();
    let by_path = SocketAddr::from_pathname(folder.path().join("socket")).unwrap();
    let by_name =
        SocketAddr::from_abstract_name(folder.path().as_os_str().as_encoded_bytes()).unwrap();
    for address in [by_path, by_name] {
        let listener = UnixListener::bind_addr(&address).unwrap();
        let stranger = UnixStream::connect_addr(&address).unwrap();
        let (connection, _) = listener.accept().unwrap();
        order.send(&stranger, &[stranger.as_fd()]).unwrap();
        assert_eq!(Order::waiting(&connection), None, "{address:?}");
    }
}

#[test]
fn a_verdict_is_read_back_in_the_same_words() {
    let limit = Duration::from_secs(3);
    let said = || "it said".to_string();
    for reason in [
        LoadFailure::Crashed { signal: "SIGBUS".to_string(), said: String::new() },
        LoadFailure::Ended { code: -1, said: said() },
        LoadFailure::Endless { limit, said: said() },
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
fn who_is_closed_without_a_verdict_has_none() {
    let (ours, theirs) = pair().unwrap();
    answer(&theirs, &Verdict::Sound).unwrap();
    drop(theirs);
    assert!(matches!(answered(&ours, Duration::ZERO), Ok(Some(Verdict::Sound))));
    assert!(matches!(answered(&ours, Duration::ZERO), Ok(None)));
}
