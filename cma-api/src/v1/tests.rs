//! No panic of an algorithm crosses the ABI boundary; refusals do.

use super::*;
use crate::{Alignment, AllocatorInfo, Asker, CannotAdopt, InitError};

/// Panics in the operation that its parameter names, which may be `drop`.
struct Panics(String);

impl Panics {
    fn at(&self, operation: &str) {
        assert!(self.0 != operation, "in {operation}");
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        self.at("drop");
    }
}

impl Allocator for Panics {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "panics", version: "1.2.3", description: "panics" };

    fn new(_: PageRange, params: &str) -> Result<Self, InitError> {
        if params == "refuse" {
            return Err(InitError::new("not here"));
        }
        if params == "new" {
            std::panic::panic_any(7);
        }
        Ok(Panics(params.to_string()))
    }
    fn allocate(&mut self, _: &Request) -> Result<Placement, NoRoom> {
        self.at("allocate");
        Err(NoRoom)
    }
    fn fit(&mut self, _: &Request) -> Option<PageRange> {
        self.at("fit");
        None
    }
    fn free(&mut self, _: Placement) -> Result<(), NotMine> {
        self.at("free");
        Err(NotMine)
    }
    fn adopt(&mut self, _: PageRange) -> Result<Tag, CannotAdopt> {
        self.at("adopt");
        Err(CannotAdopt::new("never"))
    }
    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        visit(PageRange::from_pages(1, 1));
        self.at("holes");
    }
    fn largest_request(&self) -> Pages {
        self.at("largest_request");
        Pages::new(1)
    }
    fn check(&self) -> Result<(), String> {
        self.at("check");
        Ok(())
    }
}

const REGION: PageRange = PageRange::from_pages(1, 16);

fn initialise(params: &str) -> RResult<AllocatorBox, RString> {
    module_of::<Panics>().initialise()(REGION, params.into())
}

#[test]
fn a_panic_in_any_operation_ends_the_allocator_and_nothing_else() {
    let request = Request::new(Pages::new(1), Alignment::PAGE, Asker::NOBODY).unwrap();
    let chunk = Placement { range: REGION, tag: Tag(0) };
    for operation in ["allocate", "fit", "free", "adopt", "holes", "largest_request", "check"] {
        let mut a = initialise(operation).unwrap();
        assert_eq!(a.fault(), ROption::RNone);
        match operation {
            "allocate" => assert_eq!(a.allocate(&request), RResult::RErr(CallFailure::Panicked)),
            "fit" => assert_eq!(a.fit(&request), RResult::RErr(CallFailure::Panicked)),
            "free" => assert_eq!(a.free(&chunk), RResult::RErr(CallFailure::Panicked)),
            "adopt" => assert!(a.adopt(REGION).unwrap_err().contains("in adopt")),
            "holes" => assert!(a.holes().is_empty()),
            "largest_request" => assert_eq!(a.largest_request(), Pages::ZERO),
            _ => assert!(a.check().unwrap_err().contains("in check")),
        }
        assert!(a.fault().unwrap().contains(operation));
        assert_eq!(a.allocate(&request), RResult::RErr(CallFailure::Panicked));
        assert_eq!(a.fit(&request), RResult::RErr(CallFailure::Panicked));
        assert_eq!(a.free(&chunk), RResult::RErr(CallFailure::Panicked));
        assert!(a.check().is_err());
    }
}

#[test]
fn a_panic_in_drop_or_initialise_does_not_leave_the_plugin() {
    drop(initialise("drop").unwrap());
    let RResult::RErr(reason) = initialise("new") else {
        panic!("it panicked and returned an allocator")
    };
    assert!(reason.contains("panicked"), "{reason}");
    let RResult::RErr(reason) = initialise("refuse") else {
        panic!("it refused and returned an allocator")
    };
    assert_eq!(reason, "not here");
}

#[test]
fn refusals_are_not_faults() {
    let mut a = initialise("").unwrap();
    let request = Request::new(Pages::new(1), Alignment::PAGE, Asker::NOBODY).unwrap();
    assert_eq!(a.allocate(&request), RResult::RErr(CallFailure::Refused));
    assert_eq!(a.fit(&request), RResult::RErr(CallFailure::Refused));
    assert_eq!(
        a.free(&Placement { range: REGION, tag: Tag(0) }),
        RResult::RErr(CallFailure::Refused)
    );
    assert_eq!(a.adopt(REGION), RResult::RErr("never".into()));
    assert_eq!(a.fault(), ROption::RNone);
}

#[test]
fn an_operation_of_a_later_interface_is_unsupported() {
    let mut a = initialise("").unwrap();
    let answer = a.extension(1, RSlice::from_slice(&[1, 2]));
    assert_eq!(answer, RResult::RErr(ExtensionFailure::Unsupported));
    assert_eq!(a.fault(), ROption::RNone);
}

#[test]
fn the_module_has_the_name_and_version_of_the_algorithm() {
    let module = module_of::<Panics>();
    assert_eq!((module.name().as_str(), module.version().as_str()), ("panics", "1.2.3"));
}

/// `export_allocator!` must write this name as a literal.
#[test]
fn the_exported_symbol_is_the_one_that_abi_stable_looks_up() {
    let source = include_str!("../export.rs");
    let name = abi_stable::library::ROOT_MODULE_LOADER_NAME;
    assert!(source.contains(&format!("export_name = \"{name}\"")), "abi_stable looks for {name}");
}
