//! The choice of a port for each region, and the outcomes that a program can report.

mod machine;

use cma_framework::config::parse_regions;
use cma_framework::memory::Contiguity;
use cma_framework::{Cma, MemoryError};
use cma_memory::{Choice, ChoiceError, Port, Ports};
use machine::{Machine, banks, boot, refusal};

fn choice(text: &str) -> Choice {
    text.parse().unwrap()
}

#[test]
fn a_choice_is_one_port_or_a_list_with_one_for_the_rest() {
    assert_eq!(choice("hugetlb"), Choice::from(Port::Hugetlb));
    let list = choice("fw=memfd, b1=hugetlb ,auto");
    assert_eq!(list.port(Some("fw")), Port::Memfd);
    assert_eq!(list.port(Some("b1")), Port::Hugetlb);
    assert_eq!((list.port(Some("b2")), list.port(None)), (Port::Auto, Port::Auto));
    assert_eq!(choice("memfd,fw=simulated").port(Some("other")), Port::Memfd);
    assert_eq!(choice("fw=memfd").port(Some("other")), Port::Simulated);
    assert_eq!(Choice::default().port(None), Port::Simulated);
}

#[test]
fn a_choice_is_written_as_it_is_read() {
    for port in Port::ALL {
        assert_eq!(choice(port.name()), Choice::from(port));
    }
    for text in ["simulated", "fw=memfd,b1=hugetlb,auto"] {
        assert_eq!(choice(text).to_string(), text);
    }
}

#[test]
fn an_invalid_choice_is_refused_with_the_reason() {
    let error = |text: &str| text.parse::<Choice>().unwrap_err();
    assert!(matches!(error("hugepages"), ChoiceError::NoPort { word } if word == "hugepages"));
    assert!(matches!(error("fw="), ChoiceError::NoPort { word } if word.is_empty()));
    assert!(matches!(error("memfd,"), ChoiceError::NoPort { .. }));
    assert!(matches!(error("=memfd"), ChoiceError::NoRegion { .. }));
    assert!(matches!(error("memfd,hugetlb"), ChoiceError::Twice { .. }));
    assert!(matches!(error("fw=memfd,fw=auto"), ChoiceError::Twice { .. }));
    assert_eq!(
        error("fw=ram").to_string(),
        "\"ram\" is no kind of memory: expected simulated, memfd, hugetlb or auto, or a list such as fw=memfd,b1=hugetlb,auto"
    );
    assert_eq!(error("a=memfd,a=memfd").to_string(), "the memory of region a is given twice");
    for text in ["r\tm", "a\tb=memfd,a\tb=auto"] {
        let message = error(text).to_string();
        assert!(message.contains("\\t") && !message.contains('\t'), "{message}");
    }
}

#[test]
fn each_region_gets_its_chosen_memory() {
    let Some(_machine) = Machine::with_huge_pages(2) else { return };
    let mut ports = Ports::new(banks(), choice("fw=memfd,b1=hugetlb"));
    let cma = boot("fw=1M;b1=4M;b2=4M", &mut ports);
    let kind = |name: &str| cma.region(name).unwrap().backing().map(|backing| backing.kind);
    assert_eq!((kind("fw"), kind("b1"), kind("b2")), (Some("memfd"), Some("hugetlb"), None));
    let from = |name: &str| cma.alloc_from(name, 4096, 0).unwrap();
    assert!(from("fw").map().is_ok() && from("b1").map().is_ok());
    assert!(matches!(from("b2").map().unwrap_err().error, MemoryError::Simulated { .. }));
}

#[test]
fn the_outcome_of_each_region_is_reported() {
    let Some(_machine) = Machine::with_huge_pages(2) else { return };
    let mut ports = Ports::new(banks(), choice("fw=simulated,b1=hugetlb,misspelt=memfd,auto"));
    boot("fw=1M;b1=2M;b2=2M;b3=3M", &mut ports);
    let outcomes: Vec<String> = ports.outcomes().iter().map(ToString::to_string).collect();
    let [fw, b1, b2, b3] = <[String; 4]>::try_from(outcomes).unwrap();
    assert_eq!(fw, "fw: 0x40000000+0x100000, addresses alone");
    assert!(b1.ends_with("+0x200000, hugetlb, physically contiguous, verified"), "{b1}");
    assert!(b2.ends_with("+0x200000, hugetlb, physically contiguous, verified"), "{b2}");
    assert_eq!(
        b3,
        "b3: 0x40100000+0x300000, memfd, not physically contiguous (no huge pages: 3M is not whole huge pages of 2M: make it 4M)"
    );
    assert_eq!(ports.unrequested().collect::<Vec<_>>(), ["misspelt"]);
    let (range, backing) = ports.outcomes()[1].result.clone().unwrap();
    assert_eq!((range.bytes(), backing.unwrap().contiguity), (2 << 20, Contiguity::Verified));
}

#[test]
fn without_huge_pages_auto_takes_ordinary_memory_and_hugetlb_fails() {
    let Some(_machine) = Machine::with_huge_pages(1) else { return };
    let mut ports = Ports::new(banks(), choice("b1=auto,hugetlb"));
    let cma = boot("b1=64M", &mut ports);
    assert_eq!(cma.region("b1").unwrap().backing().unwrap().kind, "memfd");
    let remark = ports.outcomes()[0].remark.clone().unwrap();
    assert!(
        remark.starts_with(
            "no huge pages: it takes 32 huge pages of 2M and the pool has 1 free; as root: echo "
        ),
        "{remark}"
    );
    let why = refusal("b2=64M", &mut ports);
    assert!(
        ports.outcomes()[1].to_string().starts_with("b2: no memory: it takes 32 huge pages"),
        "{why}"
    );
}

#[test]
fn regions_of_one_choice_are_disjoint() {
    let cma = Cma::new();
    let mut ports = Ports::new(banks(), choice("a=memfd,c=memfd,simulated"));
    cma.command_line(Some("a=1M;b=1M;c=1M;d=1M"), None).unwrap();
    cma.early_regions_reserve(&mut ports);
    let mut ranges: Vec<_> =
        ports.outcomes().iter().map(|outcome| outcome.result.clone().unwrap().0).collect();
    ranges.sort();
    assert!(ranges.windows(2).all(|two| !two[0].overlaps(two[1])));
}

/// `check` accepted `--memory` and ignored it.
#[test]
fn an_unsuitable_choice_is_found_without_reserving_anything() {
    let check = |choice: &str, regions: &str, page| {
        let parsed = parse_regions(regions).unwrap();
        let found =
            choice.parse::<Choice>().unwrap().check(parsed.iter().map(|region| region.spec), page);
        found.iter().map(|unfit| (unfit.is_error(), unfit.to_string())).collect::<Vec<_>>()
    };
    let page = Some(2 << 20);
    let unknown =
        (true, "memory is chosen for region \"nosuch\", which is not configured".to_string());
    assert_eq!(check("nosuch=memfd,auto", "r=4M", page), [unknown]);
    let three = "3M is not whole huge pages of 2M: make it 4M";
    assert_eq!(
        check("hugetlb", "r=3M;s=4M", page),
        [(true, format!("region r gets no memory: {three}"))]
    );
    assert_eq!(
        check("auto", "r=3M", page),
        [(false, format!("region r gets ordinary memory: {three}"))]
    );
    let start = &check("hugetlb", "r=4M@0x40001000", page)[0].1;
    assert!(
        start.contains("0x40001000 is not whole huge pages of 2M: align it to that"),
        "{start}"
    );
    let none = &check("hugetlb", "r=4M", None)[0].1;
    assert!(none.contains("this machine has no huge pages"), "{none}");
    let largest = &check("hugetlb", "r=17592186044415M", page)[0].1;
    assert!(
        largest.ends_with("is not whole huge pages of 2M: make it 17592186044414M"),
        "{largest}"
    );
    // Rounding up comes before the check.
    for (choice, regions) in [
        ("hugetlb", "r=4M@0x40001000/2M"),
        ("hugetlb", "r=2097151;s=1G"),
        ("memfd", "r=3M"),
        ("r=simulated,hugetlb", "r=3M"),
        ("r=memfd", "r=1;s=3M"),
    ] {
        assert!(check(choice, regions, page).is_empty(), "{choice} {regions}");
    }
}
