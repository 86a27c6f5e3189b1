//! A plug-in that is exported without the macro, so that it compiles with any panic strategy. The
//! framework's tests use it as well.

use cma_api::AllocatorInfo;
use cma_api::abi_stable::library::{
    __call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
};
use cma_api::v1::{AllocatorModuleRef, module_of};
use cma_fixture_first_fit::{FirstFit, Named, cma_api};

struct ManualExport;

impl Named for ManualExport {
    const INFO: AllocatorInfo = AllocatorInfo {
        name: "manual-export",
        version: "1.0.0",
        description: "exported without the macro",
    };
}

extern "C" fn root_module() -> RootModuleResult {
    __call_root_module_loader(module_of::<FirstFit<ManualExport>>)
}

// SAFETY: no other symbol of this library has this name, which is abi_stable's own.
#[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
static LIB_HEADER: LibHeader =
    // SAFETY: `root_module` returns the prefix of an `AllocatorModuleRef`, by its return type.
    unsafe { LibHeader::from_constructor::<AllocatorModuleRef>(root_module, CheckTypeLayout::Yes) };
