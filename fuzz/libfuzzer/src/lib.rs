//! The entry of each target under libFuzzer.

#[doc(hidden)]
pub use cma_fuzz::Target;
#[doc(hidden)]
pub use libfuzzer_sys::fuzz_target;

/// The entry that runs the target of that name.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::fuzz_target!(|input: &[u8]| {
            let target = $crate::Target::named($name).expect("a target of this name");
            target.check(input);
        });
    };
}
