//! Finding and loading the plug-in that the same cargo run has built.

use cma_api::abi_stable::library::{LibHeader, lib_header_from_path};
use cma_api::v1::AllocatorModuleRef;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};

/// The file of the plug-in library `name` (as `cma_best_fit_plugin`), built by the cargo run that built this test.
///
/// Cargo puts the library of a path dependency, also a dev-dependency, into the `deps` folder of the profile, where
/// tests lie too. Copies elsewhere may be of an older build and are not considered.
///
/// # Panics
///
/// It isn't there: the test's package has no (dev-)dependency on the plug-in's.
pub fn built_library(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process can name its own file");
    let file = format!("{DLL_PREFIX}{name}{DLL_SUFFIX}");
    let deps = test.ancestors().skip(1).find_map(|folder| {
        let deps = if folder.ends_with("deps") { folder.to_path_buf() } else { folder.join("deps") };
        deps.is_dir().then_some(deps)
    });
    let deps = deps.unwrap_or_else(|| panic!("{} lies in no target folder of cargo", test.display()));
    let library = deps.join(&file);
    assert!(
        library.is_file(),
        "{file} is not in {}: the package of this test needs the package of the plug-in, which \
         must be a cdylib, among its [dev-dependencies], by path",
        deps.display()
    );
    library
}

/// Loads the plug-in library at `path`.
///
/// # Panics
///
/// It is no allocator plug-in, or one of another version of the interface.
pub fn load(path: &Path) -> AllocatorModuleRef {
    let module = lib_header_from_path(path).and_then(LibHeader::init_root_module::<AllocatorModuleRef>);
    module.unwrap_or_else(|error| panic!("{} can't be loaded: {error}", path.display()))
}
