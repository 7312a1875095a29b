//! How much of the server one guest may have. Dom0 and sockets have no limits.
//!
//! Source of most numbers: what C `xenstored` of 4.17 does by default.

/// Limits of one guest.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Nodes it owns.
    pub nodes: usize,
    /// Bytes of one node: value, permissions, names of children.
    pub node_bytes: usize,
    /// Entries of a node's permissions.
    pub permissions: usize,
    /// Watches.
    pub watches: usize,
    /// Transactions under way.
    pub transactions: usize,
    /// Nodes that one transaction touches.
    pub transaction_nodes: usize,
    /// Replies that it has not taken; no request is read beyond.
    pub outstanding: usize,
    /// Bytes of all it has: nodes, watches, transactions, messages that wait. Beyond, what would
    /// take more is refused, and events are lost.
    pub bytes: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            nodes: 1000,
            node_bytes: 2048,
            permissions: 5,
            watches: 128,
            transactions: 10,
            transaction_nodes: 1024,
            outstanding: 20,
            bytes: 2 << 20,
        }
    }
}
