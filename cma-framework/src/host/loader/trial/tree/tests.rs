//! Both ways to find children find them.

use super::*;
use std::process::{Command, Stdio};

#[test]
fn a_child_is_found_with_and_without_the_kernels_list() {
    // It waits for the end of its input.
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let pid = child.id().cast_signed();
    assert!(children_as_found().contains(&pid));
    match children_as_told() {
        Ok(told) => assert!(told.contains(&pid)),
        Err(error) => println!("skipped: this kernel lists no children: {error}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
