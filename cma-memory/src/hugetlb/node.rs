//! The node of memory that a page comes from, on machines with several.
//!
//! Each node has its own free pages of the pool, and the kernel takes from the node of the running
//! thread first. So a page that is to come out again has to be requested from its node
//! (`set_mempolicy(2)`). Where that is not permitted, such a page is lost.

use std::ffi::{c_int, c_ulong};
use std::ptr;

/// The nodes that the kernel can name, at most.
const MAX_NODES: usize = 1024;

const WORD: usize = c_ulong::BITS as usize;

/// `get_mempolicy` looks up the node of an address (`linux/mempolicy.h`).
const MPOL_F_NODE: c_int = 1 << 0;
const MPOL_F_ADDR: c_int = 1 << 1;

/// A set of nodes, a bit for each.
type Nodes = [c_ulong; MAX_NODES / WORD];

/// The number of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node(usize);

/// Makes this thread take memory from one node as long as that has some, until it is dropped.
#[derive(Debug)]
pub(super) struct FromNode {
    /// The policy of the thread before.
    mode: c_int,
    nodes: Nodes,
}

impl Node {
    /// The node of the page that is mapped at `address`; `None` where the kernel doesn't say.
    pub(super) fn of(address: usize) -> Option<Node> {
        let (mut node, flags) = (0, MPOL_F_NODE | MPOL_F_ADDR);
        // SAFETY: the call writes the node's number; it only looks up the address.
        let looked_up = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                ptr::from_mut::<c_int>(&mut node),
                ptr::null::<c_ulong>(),
                0_usize,
                address,
                flags,
            )
        };
        let node = usize::try_from(node).ok().filter(|node| *node < MAX_NODES);
        node.filter(|_| looked_up == 0).map(Node)
    }

    /// Makes this thread take memory from the node first; `None` where that is not permitted.
    pub(super) fn take_from(self) -> Option<FromNode> {
        let (mut mode, mut nodes): (c_int, Nodes) = (0, Default::default());
        // SAFETY: the call writes the mode, and as many bits as the set has.
        let saved = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                ptr::from_mut(&mut mode),
                nodes.as_mut_ptr(),
                MAX_NODES,
                ptr::null::<u8>(),
                0,
            )
        };
        let mut one = Nodes::default();
        one[self.0 / WORD] = 1 << (self.0 % WORD);
        (saved == 0 && set_policy(libc::MPOL_PREFERRED, &one)).then_some(FromNode { mode, nodes })
    }
}

impl Drop for FromNode {
    fn drop(&mut self) {
        set_policy(self.mode, &self.nodes);
    }
}

fn set_policy(mode: c_int, nodes: &Nodes) -> bool {
    // The kernel reads one bit less than this number.
    let bits = MAX_NODES + 1;
    // SAFETY: the call reads as many bits as the set has.
    unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The policy of this thread.
    fn policy() -> String {
        let numa_maps = std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap();
        let own = numa_maps.lines().find(|line| line.contains("heap")).unwrap_or(&numa_maps);
        own.split_whitespace().nth(1).unwrap_or("?").to_string()
    }

    #[test]
    fn a_thread_takes_from_the_node_of_a_page_as_long_as_it_is_told_to() {
        let local = 1_u8;
        let Some(node) = Node::of((&raw const local).addr()) else {
            writeln!(std::io::stderr(), "skipped: the kernel does not say the nodes of pages")
                .unwrap();
            return;
        };
        let before = policy();
        let Some(from) = node.take_from() else {
            writeln!(std::io::stderr(), "skipped: memory policies are not permitted").unwrap();
            return;
        };
        assert_eq!(policy(), format!("prefer:{}", node.0));
        drop(from);
        assert_eq!(policy(), before);
    }
}
