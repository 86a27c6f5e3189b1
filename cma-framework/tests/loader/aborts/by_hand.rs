//! A plug-in that is exported without the macro, so that it compiles whatever a panic does.

use cma_api::AllocatorInfo;
use cma_api::abi_stable::library::{
    __call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
};
use cma_api::v1::{AllocatorModuleRef, module_of};
use cma_fixture_first_fit::{FirstFit, Named, cma_api};

struct Me;

impl Named for Me {
    const INFO: AllocatorInfo = AllocatorInfo { name: "by-hand", version: "1.0.0", description: "exported by hand" };
}

extern "C" fn root_module() -> RootModuleResult {
    __call_root_module_loader(module_of::<FirstFit<Me>>)
}

// SAFETY: no other symbol of this library has this name, which is abi_stable's own.
#[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
static LIB_HEADER: LibHeader =
    // SAFETY: `root_module` answers with the prefix of an `AllocatorModuleRef`, by its return type.
    unsafe { LibHeader::from_constructor::<AllocatorModuleRef>(root_module, CheckTypeLayout::Yes) };
