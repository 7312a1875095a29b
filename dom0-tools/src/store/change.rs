//! What requests do to a tree, and what watchers hear of it.
//!
//! Rights are checked here, and quotas, before anything changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::path::Path;
use super::permissions::{Permissions, Right};
use super::quota::Quota;
use super::tree::{Node, Tree, walk};
use super::wire::Errno;
use crate::sys::DomId;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The domain; programs in dom0 that use a socket are domain 0.
    pub domain: DomId,
    /// The domain as which it acts too.
    pub target: Option<DomId>,
}

impl Caller {
    /// A domain for itself.
    #[must_use]
    pub const fn new(domain: DomId) -> Self {
        let target = None;
        Self { domain, target }
    }

    /// Whether everything is permitted, without limit.
    #[must_use]
    pub fn is_privileged(self) -> bool {
        self.domain == DomId::DOM0
    }

    fn is(self, domain: DomId) -> bool {
        domain == self.domain || Some(domain) == self.target
    }

    /// Whether it may do all an owner may.
    #[must_use]
    pub fn owns(self, permissions: &Permissions) -> bool {
        self.is_privileged() || self.is(permissions.owner)
    }

    /// What it may do.
    #[must_use]
    pub fn right(self, permissions: &Permissions) -> Right {
        if self.owns(permissions) {
            return Right::Both;
        }
        let named = permissions.named.iter().find(|(d, _)| self.is(*d));
        named.map_or(permissions.others, |&(_, right)| right)
    }

    fn may(self, need: Need, permissions: &Permissions) -> bool {
        let right = self.right(permissions);
        match need {
            Need::Read => right.reads(),
            Need::Write => right.writes(),
            Need::Own => right.writes() && self.owns(permissions),
        }
    }
}

/// What an operation must be permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To change permissions.
    Own,
}

/// A request that changes the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Value of a node, which is made with all above it if it is missing.
    Write(Path, Arc<[u8]>),
    /// A node that is there after.
    Mkdir(Path),
    /// A node that is not there after.
    Remove(Path),
    /// A node's permissions.
    SetPermissions(Path, Arc<Permissions>),
}

impl Change {
    /// The node it is about.
    #[must_use]
    pub const fn path(&self) -> &Path {
        match self {
            Self::Write(path, _)
            | Self::Mkdir(path)
            | Self::Remove(path)
            | Self::SetPermissions(path, _) => path,
        }
    }

    /// Bytes it takes while it waits in a transaction.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let value = match self {
            Self::Write(_, value) => value.len(),
            Self::SetPermissions(_, permissions) => 4 * permissions.named.len(),
            Self::Mkdir(_) | Self::Remove(_) => 0,
        };
        size_of::<Self>() + self.path().as_str().len() + value
    }
}

/// Something that watchers may hear of.
#[derive(Clone, Debug)]
pub struct Event {
    /// What changed.
    pub path: Path,
    /// Whether watchers of nodes above hear it too; not so for what went with its parent.
    pub upwards: bool,
    /// Who may read one of these may hear it.
    pub readable: Vec<Arc<Permissions>>,
}

/// What a change did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What watchers hear.
    pub events: Vec<Event>,
    /// Nodes that were made, changed, or removed with all below: parents first.
    pub touched: Vec<Path>,
}

/// What a transaction has looked at.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// Nodes, there or not, and whether their children were listed.
    seen: BTreeMap<Path, bool>,
}

impl Footprint {
    fn see(&mut self, path: &Path, children: bool) {
        *self.seen.entry(path.clone()).or_default() |= children;
    }

    /// Nodes looked at.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing was looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Whether all that was looked at is the same in both trees.
    #[must_use]
    pub fn same_in(&self, one: &Tree, other: &Tree) -> bool {
        let of = |tree: &Tree, path: &Path, children: bool| {
            let node = tree.get(path)?;
            Some((
                node.changed(),
                if children { node.children_changed() } else { 0 },
            ))
        };
        let mut seen = self.seen.iter();
        seen.all(|(path, &children)| of(one, path, children) == of(other, path, children))
    }
}

/// The node of a path, if the caller may do what it needs.
///
/// # Errors
/// `ENOENT`: none there. `EACCES`: not permitted, or not permitted to know.
pub fn find<'a>(
    tree: &'a Tree,
    caller: Caller,
    path: &Path,
    need: Need,
    footprint: &mut Footprint,
) -> Result<&'a Node, Errno> {
    footprint.see(path, false);
    if let Some(node) = tree.get(path) {
        let may = caller.may(need, node.permissions());
        return if may { Ok(node) } else { Err(Errno::EACCES) };
    }
    let (_, above) = nearest(tree, path, footprint);
    // Owning is asked of nodes that are there; above a missing one, writing is what counts.
    let need = if need == Need::Own { Need::Write } else { need };
    let may = caller.may(need, above.permissions());
    Err(if may { Errno::ENOENT } else { Errno::EACCES })
}

/// As [`find`], for its children.
///
/// # Errors
/// As [`find`].
pub fn find_children<'a>(
    tree: &'a Tree,
    caller: Caller,
    path: &Path,
    footprint: &mut Footprint,
) -> Result<&'a Node, Errno> {
    let node = find(tree, caller, path, Need::Read, footprint)?;
    footprint.see(path, true);
    Ok(node)
}

/// The nearest node that is there above a path.
fn nearest<'a>(tree: &'a Tree, path: &Path, footprint: &mut Footprint) -> (Path, &'a Node) {
    let mut at = path.clone();
    while let Some(parent) = at.parent() {
        footprint.see(&parent, false);
        if let Some(node) = tree.get(&parent) {
            return (parent, node);
        }
        at = parent;
    }
    (Path::root(), tree.root())
}

impl Change {
    /// Does it.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES` as [`find`]. `EINVAL`: the root cannot be removed. `EPERM`: a guest
    /// cannot give nodes away. `ENOSPC`: a quota. Nothing has changed then.
    pub fn apply(
        &self,
        tree: &mut Tree,
        caller: Caller,
        quota: &Quota,
        footprint: &mut Footprint,
    ) -> Result<Outcome, Errno> {
        let quota = (!caller.is_privileged()).then_some(quota);
        match self {
            Self::Write(path, value) => write(tree, caller, quota, path, value, footprint),
            Self::Mkdir(path) => match find(tree, caller, path, Need::Write, footprint) {
                Ok(_) => Ok(Outcome::default()),
                Err(Errno::ENOENT) => create(tree, caller, quota, path, &[], footprint),
                Err(e) => Err(e),
            },
            Self::Remove(path) => remove(tree, caller, path, footprint),
            Self::SetPermissions(path, to) => {
                set_permissions(tree, caller, quota, path, to, footprint)
            }
        }
    }
}

fn write(
    tree: &mut Tree,
    caller: Caller,
    quota: Option<&Quota>,
    path: &Path,
    value: &[u8],
    footprint: &mut Footprint,
) -> Result<Outcome, Errno> {
    let node = match find(tree, caller, path, Need::Write, footprint) {
        Ok(node) => node,
        Err(Errno::ENOENT) => return create(tree, caller, quota, path, value, footprint),
        Err(e) => return Err(e),
    };
    let bytes = node.bytes() - node.value().len() + value.len();
    check_bytes(quota, bytes)?;
    tree.set_value(path, value);
    Ok(changed(tree, path, None))
}

/// Makes a node and what is missing above it.
fn create(
    tree: &mut Tree,
    caller: Caller,
    quota: Option<&Quota>,
    path: &Path,
    value: &[u8],
    footprint: &mut Footprint,
) -> Result<Outcome, Errno> {
    let (above, parent) = nearest(tree, path, footprint);
    let mut permissions = Permissions::clone(parent.permissions());
    if !caller.is_privileged() {
        permissions.owner = caller.domain;
    }
    let depth = above.names().count();
    let names: Vec<&str> = path.names().skip(depth).collect();
    if let (Some(quota), Some(first)) = (quota, names.first()) {
        let entries = 1 + permissions.named.len();
        check_bytes(Some(quota), parent.bytes() + first.len() + 1)?;
        for name in &names[1..] {
            check_bytes(Some(quota), Node::bytes_with(0, entries, name.len() + 1))?;
        }
        check_bytes(Some(quota), Node::bytes_with(value.len(), entries, 0))?;
        if tree.usage(caller.domain).nodes + names.len() > quota.nodes {
            return Err(Errno::ENOSPC);
        }
    }
    let permissions = Arc::new(permissions);
    let mut touched = Vec::new();
    let mut at = above;
    for (n, name) in names.iter().enumerate() {
        at = at.child(name);
        let value = if n + 1 == names.len() { value } else { &[] };
        tree.insert(&at, value, permissions.clone());
        touched.push(at.clone());
    }
    let events = changed(tree, path, None).events;
    Ok(Outcome { events, touched })
}

fn remove(
    tree: &mut Tree,
    caller: Caller,
    path: &Path,
    footprint: &mut Footprint,
) -> Result<Outcome, Errno> {
    let found = find(tree, caller, path, Need::Write, footprint);
    let above = path.parent();
    match found {
        Ok(_) if above.is_none() => Err(Errno::EINVAL),
        Ok(_) => Ok(remove_unasked(tree, path)),
        // Not there is what was asked, if its parent is.
        Err(Errno::ENOENT) if above.is_some_and(|above| tree.get(&above).is_some()) => {
            Ok(Outcome::default())
        }
        Err(e) => Err(e),
    }
}

/// Removes a node, whoever asks.
pub fn remove_unasked(tree: &mut Tree, path: &Path) -> Outcome {
    let parent = path.parent().and_then(|parent| tree.get(&parent));
    let Some(above) = parent.map(|node| node.permissions().clone()) else {
        return Outcome::default();
    };
    let Some(node) = tree.remove(path) else {
        return Outcome::default();
    };
    Outcome {
        events: removal_events(path, &node, &above),
        touched: vec![path.clone()],
    }
}

/// Those below first, each for itself; the removed node last, for all above it too.
fn removal_events(path: &Path, node: &Node, above: &Arc<Permissions>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut parents: Vec<(usize, Arc<Permissions>)> = Vec::new();
    walk(path, node, &mut |at, node| {
        let depth = at.names().count();
        parents.retain(|(d, _)| *d < depth);
        let parent = parents.last().map_or(above, |(_, permissions)| permissions);
        events.push(Event {
            path: at.clone(),
            upwards: at == path,
            readable: vec![node.permissions().clone(), parent.clone()],
        });
        parents.push((depth, node.permissions().clone()));
        true
    });
    events.reverse();
    events
}

fn set_permissions(
    tree: &mut Tree,
    caller: Caller,
    quota: Option<&Quota>,
    path: &Path,
    to: &Arc<Permissions>,
    footprint: &mut Footprint,
) -> Result<Outcome, Errno> {
    let entries = 1 + to.named.len();
    if quota.is_some_and(|quota| entries > quota.permissions) {
        return Err(Errno::ENOSPC);
    }
    let node = find(tree, caller, path, Need::Own, footprint)?;
    let before = node.permissions().clone();
    if !caller.is_privileged() && to.owner != before.owner {
        return Err(Errno::EPERM);
    }
    let bytes = Node::bytes_with(node.value().len(), entries, node.names_bytes());
    check_bytes(quota, bytes)?;
    tree.set_permissions(path, to.clone());
    Ok(changed(tree, path, Some(before)))
}

fn check_bytes(quota: Option<&Quota>, bytes: usize) -> Result<(), Errno> {
    match quota {
        Some(quota) if bytes >= quota.node_bytes => Err(Errno::ENOSPC),
        _ => Ok(()),
    }
}

/// The event of a node that is there.
fn changed(tree: &Tree, path: &Path, before: Option<Arc<Permissions>>) -> Outcome {
    let parent = path.parent();
    let around = [Some(path), parent.as_ref()].into_iter().flatten();
    let permissions = around.filter_map(|path| Some(tree.get(path)?.permissions().clone()));
    Outcome {
        events: vec![Event {
            path: path.clone(),
            upwards: true,
            readable: before.into_iter().chain(permissions).collect(),
        }],
        touched: vec![path.clone()],
    }
}
