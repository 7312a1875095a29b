//! How much memory a domain has and may have: nodes and limits.
//!
//! A balloon driver aims at `memory/target`. The hypervisor's limit is the target and a little
//! more, so that a guest that ignores the target does not grow; the little is what Xen's
//! toolstack adds (`LIBXL_MAXMEM_CONSTANT`).

use crate::config::DomainConfig;
use crate::device::nodes::{Node, domain_path};
use crate::sys::DomId;

/// What the hypervisor's limit is above the target, KiB.
pub const SLACK_KIB: u64 = 1024;

/// The nodes of a new domain.
pub fn nodes(domain: DomId, config: &DomainConfig) -> Vec<Node> {
    let home = domain_path(domain);
    let most = config.max_memory().kib();
    vec![
        Node::new(format!("{home}/memory/static-max"), most.to_string()),
        Node::new(
            format!("{home}/memory/target"),
            config.memory.kib().to_string(),
        ),
        Node::new(format!("{home}/memory/videoram"), "0"),
    ]
}

/// The node of another target.
pub fn target(domain: DomId, kib: u64) -> Node {
    Node::new(
        format!("{}/memory/target", domain_path(domain)),
        kib.to_string(),
    )
}

/// The hypervisor's limit for a target, KiB.
pub const fn limit(target_kib: u64) -> u64 {
    target_kib.saturating_add(SLACK_KIB)
}
