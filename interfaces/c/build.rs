//! The name that programs linked with the library ask the dynamic linker for. It changes with the
//! binary interface, not with the version.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcma.so.1");
}
