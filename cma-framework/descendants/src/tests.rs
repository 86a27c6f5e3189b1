//! Both ways to list the children.

use super::*;
use std::process::{Command, Stdio};

#[test]
fn a_child_is_found_with_and_without_the_kernels_list() {
    // `cat` runs until its standard input is closed.
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let pid = child.id().cast_signed();
    assert!(children_from_all_processes().contains(&pid));
    match children_from_task_lists() {
        Ok(pids) => assert!(pids.contains(&pid)),
        Err(error) => println!("skipped: this kernel lists no children: {error}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
