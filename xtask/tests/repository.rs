//! The repository keeps the rules that ARCHITECTURE.md states of imports, and that CONTRIBUTING.md
//! states of the width of comments and prose.

use std::error::Error;
use xtask::imports::Crate;
use xtask::{columns, files, imports, root};

/// The layers of the framework. Each may import itself and those before it.
const LAYERS: [&str; 3] = ["vocabulary", "core", "host"];

#[test]
fn no_crate_has_an_import_cycle() -> Result<(), Box<dyn Error>> {
    let cycles = imports::cycles(&root()?)?;
    let lines: Vec<_> =
        cycles.iter().map(|(folder, cycle)| format!("{}: {cycle}", folder.display())).collect();
    assert!(lines.is_empty(), "import cycles:\n{}", lines.join("\n"));
    Ok(())
}

#[test]
fn a_layer_of_the_framework_imports_only_itself_and_those_before_it() -> Result<(), Box<dyn Error>>
{
    let edges = Crate::read(&root()?.join("cma-framework/src"))?.edges();
    let layer = |path: &[String]| LAYERS.iter().position(|layer| path == [*layer]);
    let between: Vec<_> = edges
        .iter()
        .filter_map(|edge| Some((edge, layer(&edge.from)?, layer(&edge.to)?)))
        .collect();
    let upward: Vec<_> = between.iter().filter(|(_, from, to)| from < to).collect();
    assert!(upward.is_empty(), "imports of a later layer: {upward:?}");
    assert!(between.iter().any(|(_, from, to)| (*from, *to) == (2, 1)), "no layers: {edges:?}");
    Ok(())
}

#[test]
fn comments_and_prose_are_at_most_100_columns_wide() -> Result<(), Box<dyn Error>> {
    let wide = columns::check(&root()?, &files(&root()?)?)?;
    let lines: Vec<_> = wide.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    Ok(())
}
