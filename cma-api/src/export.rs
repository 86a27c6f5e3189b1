//! The macro that makes a library a plug-in.

/// Exports `$allocator`, a type that implements [`Allocator`](crate::Allocator), as this library's
/// allocator plug-in.
///
/// For a crate with `crate-type = ["cdylib"]` whose library is named `cma_<name>_plugin`: hosts
/// look for files called `libcma_<name>_plugin.so`. Panics in the allocator are caught inside the
/// plug-in. The macro therefore compiles only with the default `panic = "unwind"`. The plug-in must
/// not set a global allocator.
///
/// ```ignore
/// cma_api::export_allocator!(my_crate::MyAllocator);
/// ```
#[macro_export]
macro_rules! export_allocator {
    ($allocator:ty) => {
        // Compiled with the flags of the crate that uses the macro.
        #[cfg(not(panic = "unwind"))]
        ::core::compile_error!(
            "an allocator plug-in must be built with panic = \"unwind\": with \"abort\" its first panic ends the host. \
             Remove `panic = \"abort\"` from the profile, or `-C panic=abort` from the flags, that this plug-in is built with"
        );

        // The expansion of abi_stable's `#[export_root_module]`, which can't be used: edition 2024
        // no longer accepts its `#[no_mangle]`, and it requires every plug-in to depend on
        // abi_stable itself.
        const _: () = {
            extern "C" fn root_module() -> $crate::abi_stable::library::RootModuleResult {
                $crate::abi_stable::library::__call_root_module_loader(
                    $crate::v1::module_of::<$allocator>,
                )
            }

            // SAFETY: no other symbol of a plug-in has this name, which is abi_stable's own.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static LIB_HEADER: $crate::abi_stable::library::LibHeader = {
                // SAFETY: `root_module` returns the prefix of an `AllocatorModuleRef`, by its
                // return type.
                unsafe {
                    $crate::abi_stable::library::LibHeader::from_constructor::<
                        $crate::v1::AllocatorModuleRef,
                    >(root_module, $crate::abi_stable::library::CheckTypeLayout::Yes)
                }
            };
        };
    };
}
