//! Changes that happen together or not.
//!
//! A transaction works on a copy of the tree. At its end its changes are made anew on the tree as
//! it is then, if all it looked at is as it was: a node's value, permissions or absence, and the
//! list of children where it was read. Two transactions that add different children to one node
//! do not disturb each other.

use super::change::{Caller, Change, Event, Footprint, Outcome};
use super::quota::Quota;
use super::tree::Tree;
use super::wire::Errno;

/// A transaction under way.
#[derive(Clone, Debug)]
pub struct Transaction {
    base: Tree,
    view: Tree,
    changes: Vec<Change>,
    footprint: Footprint,
    bytes: usize,
    lost: bool,
}

impl Transaction {
    /// Begins on a tree as it is now.
    #[must_use]
    pub fn new(tree: &Tree) -> Self {
        Self {
            base: tree.clone(),
            view: tree.clone(),
            changes: Vec::new(),
            footprint: Footprint::default(),
            bytes: 0,
            lost: false,
        }
    }

    /// One whose beginning was lost with the server before: it goes on as if begun now, and ends
    /// in `EAGAIN`.
    #[must_use]
    pub fn lost(tree: &Tree) -> Self {
        let lost = true;
        Self {
            lost,
            ..Self::new(tree)
        }
    }

    /// The tree as it sees it, and what it has looked at.
    pub const fn view(&mut self) -> (&Tree, &mut Footprint) {
        (&self.view, &mut self.footprint)
    }

    /// Bytes it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a guest's transaction has looked at as much as it may.
    #[must_use]
    pub fn is_full(&self, quota: &Quota) -> bool {
        self.footprint.len().max(self.changes.len()) >= quota.transaction_nodes
    }

    /// Makes a change, which others do not see yet.
    ///
    /// # Errors
    /// As [`Change::apply`].
    pub fn apply(&mut self, caller: Caller, quota: &Quota, change: Change) -> Result<(), Errno> {
        change.apply(&mut self.view, caller, quota, &mut self.footprint)?;
        self.bytes += change.bytes();
        self.changes.push(change);
        Ok(())
    }

    /// Makes all changes at once.
    ///
    /// # Errors
    /// `EAGAIN`: what it used has changed. Or as [`Change::apply`]. Nothing has changed then.
    pub fn commit(self, tree: &mut Tree, caller: Caller, quota: &Quota) -> Result<Outcome, Errno> {
        if self.lost {
            return Err(Errno::EAGAIN);
        }
        // Who only read has seen one moment.
        if self.changes.is_empty() {
            return Ok(Outcome::default());
        }
        if !self.footprint.same_in(&self.base, tree) {
            return Err(Errno::EAGAIN);
        }
        let before = tree.clone();
        let mut all = Outcome::default();
        for change in &self.changes {
            match change.apply(tree, caller, quota, &mut Footprint::default()) {
                Ok(outcome) => {
                    all.events.extend(outcome.events);
                    all.touched.extend(outcome.touched);
                }
                Err(e) => {
                    *tree = before;
                    return Err(e);
                }
            }
        }
        all.events = once_each(all.events);
        Ok(all)
    }
}

/// One event a node: the first one's place, the widest one's reach.
fn once_each(events: Vec<Event>) -> Vec<Event> {
    let mut index = std::collections::HashMap::new();
    let mut kept: Vec<Event> = Vec::new();
    for event in events {
        match index.get(&event.path) {
            None => {
                index.insert(event.path.clone(), kept.len());
                kept.push(event);
            }
            Some(&at) => {
                let known: &mut Event = &mut kept[at];
                known.upwards |= event.upwards;
                for permissions in event.readable {
                    if !known.readable.contains(&permissions) {
                        known.readable.push(permissions);
                    }
                }
            }
        }
    }
    kept
}
