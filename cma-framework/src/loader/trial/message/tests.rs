//! Orders and verdicts come out as they went in.

use super::*;

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
        let words = |reason: &LoadFailure| [reason.kind(), &reason.to_string(), reason.remedy()].join("|");
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
