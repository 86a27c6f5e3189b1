//! `parse_regions`, the text of `cma=`, with its numbers and allocators; linting and reserving the
//! regions; and `Bank::parse_list`, the banks of a board.

use super::{grammar, is_one_line, names_its_place, text, variant};
use crate::{Form, Outcome, Target};
use cma_framework::config::lint::{Source, lint};
use cma_framework::config::{
    Bank, Bytes, Growth, Map, ParsedRegion, Place, RegionSpec, parse_allocator, parse_regions,
    parse_size,
};
use cma_framework::reserve::Banks;
use cma_framework::{Cma, PageRange, Region};
use proptest::prelude::*;

pub(super) const TARGET: Target = Target {
    name: "regions",
    about: "regions (cma=), sizes, allocators with parameters, banks, and reserving the regions",
    form: Form::Text,
    generate,
    dictionary: include_str!("../../dictionary/regions.dict"),
    check,
};

fn generate() -> BoxedStrategy<Vec<u8>> {
    const REGION: &str = "[a-z\u{fc}]{2,4}[ ]?=[ ]?((0x)?[1-9][0-9]{0,5}|0[1-7]{1,4})[KM]?\
        (@0x[345][0-9a-f]{7}(-0x[6-9][0-9a-f]{7})?|@0-[1-3]G)?(/(1|2|4|8|16|64)[KM]?)?(:([a-z-]{1,8}([(][^)]{0,6}[)])?)?)?";
    const NEARLY: &str = "[a-e\u{fc}]{1,2}[ ]?=[ ]?((0x)?[0-9a-f]{1,6}|[0-9]{1,20})[KMGTPE]?(iB|B)?\
        (@((0x[0-9a-f]{1,16}|[0-9]{1,8})[KMG]?)(-(0x[0-9a-f]{1,17}|[0-9]{1,8})[KMGE]?)?)?(/(0x)?[0-9]{1,5}[KM]?)?\
        (:([a-z-]{1,8}([(][^)]{0,6}[)]?)?)?)?";
    let region = prop_oneof![6 => grammar(REGION), 1 => grammar(NEARLY)];
    let regions = prop::collection::vec(region, 0..5);
    (regions, grammar("[; \\n]{0,2}"))
        .prop_map(|(regions, end)| (regions.join(";") + &end).into_bytes())
        .boxed()
}

fn check(input: &[u8]) -> Outcome {
    let text = text(input);
    size(&text);
    allocator(&text);
    list_of_banks(&text);
    let regions = match parse_regions(&text) {
        Ok(regions) => regions,
        Err(error) => {
            assert_eq!(error.text, text);
            names_its_place(&text, &error.span, &error.to_string());
            return Outcome::refused(variant(&error.kind));
        }
    };
    for region in &regions {
        parts_stand_at_their_spans(&text, region);
    }
    let specs: Vec<RegionSpec<'_>> = regions.iter().map(|region| region.spec).collect();
    let printed = specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(";");
    let again = parse_regions(&printed).unwrap_or_else(|error| panic!("{printed:?}: {error}"));
    assert_eq!(again.iter().map(|region| region.spec).collect::<Vec<_>>(), specs, "{printed:?}");
    let findings = findings_have_positions(&text, &regions);
    let reserved = reserve(&text, &specs);
    Outcome::accepted(format!("{} regions, {reserved} reserved, {findings} findings", specs.len()))
}

/// A number that is read is read again from its own text and from its printed form.
fn size(text: &str) {
    match parse_size(text) {
        Ok((value, bytes)) => {
            assert_eq!(parse_size(&text[..bytes]), Ok((value, bytes)));
            let printed = Bytes(value).to_string();
            assert_eq!(parse_size(&printed), Ok((value, printed.len())), "{printed}");
        }
        Err((error, bytes)) => {
            assert!(text.get(..bytes).is_some(), "{error} at {bytes} of {text:?}");
        }
    }
}

fn allocator(text: &str) {
    match parse_allocator(text) {
        Ok(None) => assert_eq!(text.trim(), ""),
        Ok(Some(spec)) => {
            let params =
                if spec.params.is_empty() { String::new() } else { format!("({})", spec.params) };
            assert_eq!(parse_allocator(&format!(" {}{params}\n", spec.name)), Ok(Some(spec)));
        }
        Err(error) => names_its_place(text, &error.span, &error.to_string()),
    }
}

fn list_of_banks(text: &str) {
    match Bank::parse_list(text) {
        Ok(banks) => {
            let printed = banks.iter().map(Bank::to_string).collect::<Vec<_>>().join(";");
            assert_eq!(Bank::parse_list(&printed), Ok(banks), "{printed:?}");
        }
        Err(error) => names_its_place(text, &error.span, &error.to_string()),
    }
}

fn parts_stand_at_their_spans(text: &str, region: &ParsedRegion<'_>) {
    let RegionSpec { name, size, place, alignment, allocator } = region.spec;
    let number = |span: &std::ops::Range<usize>| match parse_size(&text[span.clone()]) {
        Ok((value, length)) if length == span.len() => value,
        other => panic!("{:?} is no number: {other:?}", &text[span.clone()]),
    };
    let spans = &region.spans;
    assert_eq!(&text[spans.name.clone()], name);
    assert_eq!(number(&spans.size), size);
    let written = spans.place.as_ref().map(|span| &text[span.clone()]);
    match (place, written) {
        (Place::Anywhere, None) => {}
        (Place::At(start), Some(_)) => {
            assert_eq!(spans.place.as_ref().map(number), Some(start.get()));
            assert!(start.get() > 0);
        }
        (Place::Within(window), Some(written)) => {
            let (start, length) = parse_size(written).unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(start, window.start().get());
            assert!(written[length..].starts_with('-') && window.start() <= window.last());
            assert!(window.pages().bytes() >= size, "{written} has no room for {size}");
        }
        (place, written) => panic!("{place:?} at {written:?}"),
    }
    assert_eq!(spans.alignment.as_ref().map(number), alignment);
    let allocator_text = spans.allocator.as_ref().map(|span| &text[span.clone()]);
    assert_eq!(allocator_text, allocator.map(|allocator| allocator.name));
    assert!(size > 0);
    assert!(alignment.is_none_or(u64::is_power_of_two), "{alignment:?}");
}

fn banks() -> [Bank; 2] {
    [Bank::new(0x3000_0000, 80 << 20), Bank::new(0x4000_0000, 256 << 20)]
}

/// Each finding has a position in its text. Returns the number of findings.
fn findings_have_positions(text: &str, regions: &[ParsedRegion<'_>]) -> usize {
    let Ok(map) = Map::parse("a=a,b;*=c,a") else { return 0 };
    let findings = lint(regions, &map, &banks(), Growth::Up, &["best-fit"]);
    for finding in &findings {
        let source = match finding.source {
            Source::Regions => text,
            _ => map.text(),
        };
        let message = finding.problem.to_string();
        assert!(source.get(finding.span.clone()).is_some(), "{:?}: {message}", finding.span);
        is_one_line(&message);
        is_one_line(&finding.problem.remedy());
    }
    findings.len()
}

/// Reserved regions lie in the banks, have the requested starts and sizes, and are disjoint.
/// Returns their number.
fn reserve(text: &str, specs: &[RegionSpec<'_>]) -> usize {
    let cma = Cma::new();
    if let Err(error) = cma.command_line(Some(text), None) {
        panic!("the parser accepts the text, the command line refuses it: {error}");
    }
    cma.early_regions_reserve(&mut Banks::new(&banks(), Growth::Up));
    cma.initialise();
    let regions = cma.regions();
    let mut ranges: Vec<PageRange> = regions.iter().map(Region::range).collect();
    ranges.sort();
    assert!(ranges.is_sorted_by(|a, b| a.end_page() <= b.first_page()), "{ranges:?} overlap");
    for region in &regions {
        let (range, name) = (region.range(), region.name().unwrap_or_default());
        assert!(banks().iter().any(|bank| range.within(bank.0)), "{range} lies in no bank");
        let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
            panic!("no description has the name {name:?}");
        };
        assert_eq!(range.bytes(), spec.size.next_multiple_of(4096), "{spec} got {range}");
        let alignment = spec.alignment.unwrap_or(1).max(4096);
        assert!(range.start().get().is_multiple_of(alignment), "{spec} got {range}");
        match spec.place {
            Place::Anywhere => {}
            Place::At(start) => {
                let start = start.get().next_multiple_of(alignment);
                assert_eq!(range.start().get(), start, "{spec} got {range}");
            }
            Place::Within(window) => {
                assert!(range.within(window.pages()), "{spec} got {range}");
            }
        }
    }
    regions.len()
}
