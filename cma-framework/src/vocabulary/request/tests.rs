use super::*;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn address(bytes: u64) -> DmaAddr {
    DmaAddr::new(bytes)
}

/// The message of the error in `text`, which points to `found`.
fn error(text: &str, found: &str) -> String {
    let error = ChunkRequest::parse(text).unwrap_err();
    assert_eq!(error.found(), found, "{text}: {error}");
    error.kind.to_string()
}

#[test]
fn the_text_of_a_request_is_read_in_any_order_and_spacing() {
    let request = ChunkRequest::new(Bytes::mib(3))
        .aligned(Bytes::kib(64))
        .above(address(GIB))
        .below(address(4 * GIB))
        .boundary(Bytes::mib(16))
        .wait(Duration::from_secs(2));
    for text in [
        "3M/64K above=1G below=4G boundary=16M wait=2s",
        " 3M / 0x10000\twait=2000ms below=0x100000000 boundary=16M above=1G ",
        "3145728/64K wait=2000000us boundary=0x1000000 below=4G above=1G",
    ] {
        assert_eq!(ChunkRequest::parse(text).unwrap(), request, "{text}");
    }
    let placed = ChunkRequest::parse("1 at=0x40000000").unwrap();
    assert_eq!(placed, ChunkRequest::new(Bytes(1)).at(address(GIB)));
    assert_eq!(ChunkRequest::parse("1 wait=3m").unwrap().wait, Some(Duration::from_secs(180)));
}

#[test]
fn an_error_in_the_text_has_its_position_and_what_was_expected() {
    for (text, found, message) in [
        ("", "", "expected a size"),
        ("  ", "", "expected a size"),
        ("below=4G", "", "expected a number"),
        ("3M/", "", "expected a number"),
        ("3MB", "3MB", "KB, MB and so on"),
        ("3M below", "below", "expected a limit"),
        ("3M under=4G", "under=4G", "expected a limit"),
        ("3M below=", "", "expected a number"),
        ("3M below=x", "", "expected a number"),
        ("3M below=4G,above=1G", ",above=1G", "expected white space"),
        ("3M below=4G below=3G", "below=3G", "given already"),
        ("3M wait=2", "2", "expected a time"),
        ("3M wait=s", "s", "expected a time"),
        ("3M wait=-2s", "-2s", "expected a time"),
        ("3M wait=99999999999999999999s", "99999999999999999999s", "too long"),
        ("0", "0", "the size is 0"),
        ("1M/3", "3", "no power of two"),
    ] {
        let shown = error(text, found);
        assert!(shown.contains(message), "{text}: {shown}");
    }
    let shown = ChunkRequest::parse("3M undér=1 x").unwrap_err().to_string();
    assert!(shown.ends_with("at column 4: \"undér=1\""), "{shown}");
}

#[test]
fn contradicting_limits_name_the_limit() {
    for (text, found, message) in [
        ("1M above=4G below=4G", "below=4G", "below=0x100000000 contradicts above=0x100000000"),
        ("1M above=5G below=4G", "below=4G", "contradicts above"),
        ("1M below=0", "below=0", "below=0x0 leaves no address"),
        ("8K above=1 below=12287", "below=12287", "leaves 4K of whole pages"),
        ("8K above=1 below=4095", "below=4095", "leaves 0 of whole pages"),
        ("1M above=0xfffffffffffff000", "above=0xfffffffffffff000", "leaves 4K"),
        ("1M/1G above=1M below=1G", "below=1G", "contradicts the alignment"),
        ("4K boundary=2K", "boundary=2K", "power of two of at least 4K"),
        ("4K boundary=12K", "boundary=12K", "power of two of at least 4K"),
        ("12K boundary=8K", "boundary=8K", "contradicts the size"),
        ("8K boundary=8K above=4K below=12K", "boundary=8K", "contradicts the window"),
        ("4K at=1", "at=1", "no multiple of the alignment, 4K"),
        ("4K/1M at=4K", "at=4K", "no multiple of the alignment, 1M"),
        ("8K at=0xfffffffffffff000", "at=0xfffffffffffff000", "passes the top"),
        ("8K at=4K below=8K", "at=4K", "does not lie within"),
        ("8K at=4K above=8K", "at=4K", "does not lie within"),
        ("8K at=4K boundary=8K", "at=4K", "crosses a multiple of boundary=8K"),
    ] {
        let shown = error(text, found);
        assert!(shown.contains(message), "{text}: {shown}");
    }
}

#[test]
fn a_request_without_limits_is_not_limited() {
    let plain = ChunkRequest::parse("3M/64K wait=1s").unwrap().normalised(Asker(7)).unwrap();
    assert!(!plain.is_limited());
    assert_eq!(plain, normalise(3 << 20, 64 << 10, Asker(7)).unwrap());
    assert_eq!(exact_place(&plain), None);
}

#[test]
fn a_request_at_an_address_has_one_place() {
    let request = ChunkRequest::parse("5K at=0x40000000 below=4G boundary=8K").unwrap();
    let request = request.normalised(Asker::NOBODY).unwrap();
    assert_eq!(exact_place(&request), Some(PageRange::from_pages(0x40000, 2)));
}

/// Small values around pages, and some of any size.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..40_000_u64, (0..64_u32).prop_map(|n| 1 << n), any::<u64>()]
}

fn requests() -> impl Strategy<Value = ChunkRequest> {
    let limits = (
        prop::option::of(number()),
        prop::option::of(number()),
        prop::option::of(number()),
        prop::option::of(number()),
        prop::option::of(any::<u64>()),
    );
    (number(), number(), limits).prop_map(|(size, alignment, limits)| {
        let (above, below, boundary, at, wait) = limits;
        ChunkRequest {
            size: Bytes(size),
            alignment: Bytes(alignment),
            above: above.map(DmaAddr::new),
            below: below.map(DmaAddr::new),
            boundary: boundary.map(Bytes),
            at: at.map(DmaAddr::new),
            wait: wait.map(Duration::from_micros),
        }
    })
}

proptest! {
    #[test]
    fn the_text_of_a_valid_request_reads_as_that_request(request in requests()) {
        let text = request.to_string();
        match request.check() {
            Ok(()) => prop_assert_eq!(ChunkRequest::parse(&text).unwrap(), request, "{}", text),
            Err(invalid) => {
                let kind = ChunkRequest::parse(&text).unwrap_err().kind;
                prop_assert_eq!(kind, RequestSyntax::Invalid(invalid), "{}", text);
            }
        }
    }

    #[test]
    fn a_request_is_stated_from_its_normal_form_as_the_same_request(request in requests()) {
        if let Ok(normal) = request.normalised(Asker(7)) {
            let stated = ChunkRequest::of(&normal);
            prop_assert_eq!(stated.normalised(Asker(7)).unwrap(), normal, "{}", stated);
        }
    }

    #[test]
    fn a_request_is_invalid_only_if_no_place_satisfies_it(
        pages in 1..6_u64,
        shift in 0..4_u32,
        above in prop::option::of(0..20 * PAGE_SIZE),
        below in prop::option::of(0..20 * PAGE_SIZE),
        boundary in prop::option::of(0..4_u32),
        at in prop::option::of(0..20_u64),
    ) {
        let request = ChunkRequest {
            above: above.map(DmaAddr::new),
            below: below.map(DmaAddr::new),
            boundary: boundary.map(|shift| Bytes(PAGE_SIZE << shift)),
            at: at.map(|page| DmaAddr::new(page * PAGE_SIZE)),
            ..ChunkRequest::new(Bytes(pages * PAGE_SIZE)).aligned(Bytes(PAGE_SIZE << shift))
        };
        let accepts = |first: &u64| {
            let (start, end) = (first * PAGE_SIZE, (first + pages) * PAGE_SIZE);
            first.is_multiple_of(1 << shift)
                && above.is_none_or(|above| above <= start)
                && below.is_none_or(|below| end <= below)
                && boundary.is_none_or(|shift| first >> shift == (first + pages - 1) >> shift)
                && at.is_none_or(|at| at == *first)
        };
        let places: Vec<u64> = (0..64).filter(accepts).collect();
        match request.normalised(Asker::NOBODY) {
            Err(invalid) => prop_assert!(places.is_empty(), "{invalid}: {places:?}"),
            Ok(found) => {
                let allowed = |first: &u64| found.accepts(PageRange::from_pages(*first, pages));
                prop_assert_eq!((0..64).filter(allowed).collect::<Vec<_>>(), places);
            }
        }
    }
}

#[test]
fn no_text_makes_the_parser_panic() {
    proptest!(|(text in "[0-9KMGx/ =a-z]{0,40}|.{0,40}")| {
        if let Ok(request) = ChunkRequest::parse(&text) {
            prop_assert_eq!(ChunkRequest::parse(&request.to_string()).unwrap(), request);
        }
    });
}
