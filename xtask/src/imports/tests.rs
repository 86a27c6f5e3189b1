use super::{Crate, Cycle, Edge};
use std::error::Error;
use std::fs;
use std::path::Path;

/// A crate of the files `files`, each a path below `src` and its text.
fn crate_of(files: &[(&str, &str)]) -> Result<Crate, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    for (file, text) in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(path, text)?;
    }
    Ok(Crate::read(folder.path())?)
}

fn path(text: &str) -> Vec<String> {
    text.split("::").map(String::from).collect()
}

#[test]
fn a_cycle_is_found_in_use_lines_paths_and_macros() -> Result<(), Box<dyn Error>> {
    let back = [
        "use crate::a::A;",
        "use super::a::A;",
        "use crate::{a::A as Other};",
        "fn f() { crate::a::f() }",
        "fn f() -> Option<crate::a::A> { None }",
        "fn f() { println!(\"{}\", crate::a::NAME); }",
        "mod inner { use super::super::a::A; }",
    ];
    for text in back {
        let read = crate_of(&[("a.rs", "use crate::b::B;"), ("b.rs", text), ("lib.rs", "")])?;
        assert_eq!(read.cycle(), Some(Cycle(vec![path("a"), path("b")])), "{text}");
    }
    Ok(())
}

#[test]
fn a_name_that_is_re_exported_counts_for_the_module_that_declares_it() -> Result<(), Box<dyn Error>>
{
    let read = crate_of(&[
        ("lib.rs", "mod x;"),
        ("x.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        ("x/a.rs", "use super::B; pub struct A;"),
        ("x/b.rs", "use crate::x::A; pub struct B;"),
    ])?;
    assert_eq!(read.cycle(), Some(Cycle(vec![path("x::a"), path("x::b")])));
    Ok(())
}

#[test]
fn a_parent_its_children_and_tests_make_no_cycle() -> Result<(), Box<dyn Error>> {
    let read = crate_of(&[
        ("lib.rs", "mod a; mod b; pub use a::A;"),
        ("a.rs", "mod c; use c::C; pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
        ("a/c.rs", "use super::A; pub struct C;"),
        ("a/tests.rs", "use crate::b::B;"),
        ("b.rs", "use crate::A;"),
    ])?;
    assert_eq!(read.cycle(), None);
    assert_eq!(
        read.edges().into_iter().collect::<Vec<_>>(),
        [Edge { from: path("b"), to: path("a") }]
    );
    Ok(())
}
