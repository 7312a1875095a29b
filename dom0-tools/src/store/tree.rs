//! All nodes, at one moment.
//!
//! Nodes are shared between trees and copied where they change, so a copy of a tree costs
//! nothing, and one that is kept costs what has changed since. This room knows no rights.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::path::Path;
use super::permissions::Permissions;
use crate::sys::DomId;

/// A moment of one tree: every change has a later one.
pub type Generation = u64;

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    value: Arc<[u8]>,
    permissions: Arc<Permissions>,
    children: BTreeMap<Arc<str>, Arc<Self>>,
    /// Bytes of the children's names, each with its zero.
    names_bytes: usize,
    changed: Generation,
    children_changed: Generation,
}

/// Bytes that a node is counted beside its contents.
const NODE_OVERHEAD: usize = 24;
/// Bytes of an entry of permissions.
const PERMISSION_BYTES: usize = 8;

impl Node {
    fn new(value: Arc<[u8]>, permissions: Arc<Permissions>, now: Generation) -> Self {
        Self {
            value,
            permissions,
            children: BTreeMap::new(),
            names_bytes: 0,
            changed: now,
            children_changed: now,
        }
    }

    /// What it says.
    #[must_use]
    pub const fn value(&self) -> &Arc<[u8]> {
        &self.value
    }

    /// Who may do what.
    #[must_use]
    pub const fn permissions(&self) -> &Arc<Permissions> {
        &self.permissions
    }

    /// Names of its children, and they themselves.
    pub fn children(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.children.iter().map(|(name, node)| (&**name, &**node))
    }

    /// When it, its value or its permissions changed last.
    #[must_use]
    pub const fn changed(&self) -> Generation {
        self.changed
    }

    /// When a child came or went last.
    #[must_use]
    pub const fn children_changed(&self) -> Generation {
        self.children_changed
    }

    /// Bytes it is counted, if it had these contents.
    #[must_use]
    pub const fn bytes_with(value: usize, entries: usize, names: usize) -> usize {
        NODE_OVERHEAD + value + entries * PERMISSION_BYTES + names
    }

    /// Bytes it is counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let entries = 1 + self.permissions.named.len();
        Self::bytes_with(self.value.len(), entries, self.names_bytes)
    }

    /// Bytes of the children's names.
    #[must_use]
    pub const fn names_bytes(&self) -> usize {
        self.names_bytes
    }
}

/// What a domain owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nodes.
    pub nodes: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// A tree of nodes; always has a root.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Arc<Node>,
    usage: Arc<BTreeMap<DomId, Usage>>,
    now: Generation,
}

impl Default for Tree {
    fn default() -> Self {
        let permissions = Arc::new(Permissions::only(DomId::DOM0));
        let root = Node::new(Arc::default(), permissions, 0);
        let usage = Usage {
            nodes: 1,
            bytes: root.bytes(),
        };
        Self {
            root: Arc::new(root),
            usage: Arc::new(BTreeMap::from([(DomId::DOM0, usage)])),
            now: 0,
        }
    }
}

impl Tree {
    /// A node.
    #[must_use]
    pub fn get(&self, path: &Path) -> Option<&Node> {
        path.names()
            .try_fold(&*self.root, |node, name| Some(&**node.children.get(name)?))
    }

    /// The node above all.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// What a domain owns.
    #[must_use]
    pub fn usage(&self, domain: DomId) -> Usage {
        self.usage.get(&domain).copied().unwrap_or_default()
    }

    /// Gives a node another value; says whether there is such a node.
    pub fn set_value(&mut self, path: &Path, value: &[u8]) -> bool {
        self.change(path, |node| node.value = value.into())
    }

    /// Gives a node other permissions; says whether there is such a node.
    pub fn set_permissions(&mut self, path: &Path, permissions: Arc<Permissions>) -> bool {
        self.change(path, |node| node.permissions = permissions)
    }

    /// Adds a node without children; says whether its parent is there and it was not.
    pub fn insert(&mut self, path: &Path, value: &[u8], permissions: Arc<Permissions>) -> bool {
        let now = self.tick();
        let Some(parent_path) = path.parent() else {
            return false;
        };
        let Some(parent) = self.get_mut(&parent_path) else {
            return false;
        };
        if parent.children.contains_key(path.name()) {
            return false;
        }
        let node = Node::new(value.into(), permissions, now);
        let new = (node.permissions.owner, node.bytes());
        let name_bytes = path.name().len() + 1;
        parent.children.insert(path.name().into(), Arc::new(node));
        parent.names_bytes += name_bytes;
        parent.children_changed = now;
        let owner = parent.permissions.owner;
        self.count(owner, 0, name_bytes as isize);
        self.count(new.0, 1, new.1 as isize);
        true
    }

    /// Takes a node away with all below it; the root stays.
    pub fn remove(&mut self, path: &Path) -> Option<Arc<Node>> {
        let now = self.tick();
        let parent = self.get_mut(&path.parent()?)?;
        let node = parent.children.remove(path.name())?;
        let name_bytes = path.name().len() + 1;
        parent.names_bytes -= name_bytes;
        parent.children_changed = now;
        let owner = parent.permissions.owner;
        self.count(owner, 0, -(name_bytes as isize));
        self.discount(&node);
        Some(node)
    }

    fn change(&mut self, path: &Path, how: impl FnOnce(&mut Node)) -> bool {
        let now = self.tick();
        let Some(node) = self.get_mut(path) else {
            return false;
        };
        let before = (node.permissions.owner, node.bytes());
        how(node);
        node.changed = now;
        let after = (node.permissions.owner, node.bytes());
        self.count(before.0, -1, -(before.1 as isize));
        self.count(after.0, 1, after.1 as isize);
        true
    }

    fn tick(&mut self) -> Generation {
        self.now += 1;
        self.now
    }

    fn get_mut(&mut self, path: &Path) -> Option<&mut Node> {
        // Nothing is copied for a path that is not there.
        self.get(path)?;
        let mut node = Arc::make_mut(&mut self.root);
        for name in path.names() {
            node = Arc::make_mut(node.children.get_mut(name)?);
        }
        Some(node)
    }

    fn count(&mut self, domain: DomId, nodes: isize, bytes: isize) {
        let usage = Arc::make_mut(&mut self.usage).entry(domain).or_default();
        usage.nodes = usage.nodes.saturating_add_signed(nodes);
        usage.bytes = usage.bytes.saturating_add_signed(bytes);
        if *usage == Usage::default() {
            Arc::make_mut(&mut self.usage).remove(&domain);
        }
    }

    fn discount(&mut self, node: &Node) {
        self.count(node.permissions.owner, -1, -(node.bytes() as isize));
        for child in node.children.values() {
            self.discount(child);
        }
    }

    /// Every node with its path, parents first.
    pub fn walk(&self, mut see: impl FnMut(&Path, &Node)) {
        walk(&Path::root(), &self.root, &mut |path, node| {
            see(path, node);
            true
        });
    }
}

/// Sees a node and then all below it, except below those for which `see` says no.
pub fn walk(path: &Path, node: &Node, see: &mut impl FnMut(&Path, &Node) -> bool) {
    if see(path, node) {
        for (name, child) in node.children() {
            walk(&path.child(name), child, see);
        }
    }
}

/// Nodes nest as deep as a path is long; a tree that ends gives its nodes back one by one.
impl Drop for Node {
    fn drop(&mut self) {
        let mut rest: Vec<Arc<Self>> = mem::take(&mut self.children).into_values().collect();
        while let Some(node) = rest.pop() {
            if let Ok(mut node) = Arc::try_unwrap(node) {
                rest.extend(mem::take(&mut node.children).into_values());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> Path {
        Path::absolute(text).unwrap()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(String, u8),
        Insert(String, u16),
        Remove(String),
        Give(String, u16),
        Keep,
    }

    fn some_path() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("cd")], 1..4)
            .prop_map(|names| format!("/{}", names.join("/")))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (some_path(), any::<u8>()).prop_map(|(p, v)| Step::Set(p, v)),
            (some_path(), 0_u16..3).prop_map(|(p, d)| Step::Insert(p, d)),
            (some_path(), 0_u16..3).prop_map(|(p, d)| Step::Insert(p, d)),
            some_path().prop_map(Step::Remove),
            (some_path(), 0_u16..3).prop_map(|(p, d)| Step::Give(p, d)),
            Just(Step::Keep),
        ]
    }

    type Model = BTreeMap<String, (Vec<u8>, u16)>;

    fn contents(tree: &Tree) -> Model {
        let mut model = Model::new();
        tree.walk(|path, node| {
            let value = (node.value().to_vec(), node.permissions().owner.0);
            model.insert(path.to_string(), value);
        });
        model
    }

    fn usage(tree: &Tree) -> BTreeMap<DomId, Usage> {
        let mut usage = BTreeMap::<DomId, Usage>::new();
        tree.walk(|_, node| {
            let of = usage.entry(node.permissions().owner).or_default();
            of.nodes += 1;
            of.bytes += node.bytes();
        });
        usage
    }

    fn run(model: &mut Model, tree: &mut Tree, step: Step) {
        match step {
            Step::Set(at, value) => {
                let there = model.get_mut(&at).map(|node| node.0 = vec![value]);
                assert_eq!(tree.set_value(&path(&at), &[value]), there.is_some());
            }
            Step::Insert(at, owner) => {
                let parent = path(&at).parent().unwrap();
                let fits = model.contains_key(parent.as_str()) && !model.contains_key(&at);
                let permissions = Arc::new(Permissions::only(DomId(owner)));
                assert_eq!(tree.insert(&path(&at), b"", permissions), fits);
                if fits {
                    model.insert(at, (Vec::new(), owner));
                }
            }
            Step::Remove(at) => {
                let there = model.contains_key(&at);
                let below = format!("{at}/");
                model.retain(|path, _| *path != at && !path.starts_with(&below));
                assert_eq!(tree.remove(&path(&at)).is_some(), there);
            }
            Step::Give(at, owner) => {
                let there = model.get_mut(&at).map(|node| node.1 = owner);
                let permissions = Arc::new(Permissions::only(DomId(owner)));
                assert_eq!(
                    tree.set_permissions(&path(&at), permissions),
                    there.is_some()
                );
            }
            Step::Keep => {}
        }
    }

    proptest! {
        #[test]
        fn a_tree_is_a_map_of_paths(steps in proptest::collection::vec(step(), 1..60)) {
            let mut tree = Tree::default();
            let mut model = Model::from([("/".to_owned(), (Vec::new(), 0))]);
            let mut kept = vec![(tree.clone(), model.clone())];
            for step in steps {
                if matches!(step, Step::Keep) {
                    kept.push((tree.clone(), model.clone()));
                }
                run(&mut model, &mut tree, step);
                prop_assert_eq!(&contents(&tree), &model);
                prop_assert_eq!(&*tree.usage, &usage(&tree));
            }
            // Copies saw nothing of what came later.
            for (tree, model) in kept {
                prop_assert_eq!(contents(&tree), model);
            }
        }
    }

    #[test]
    fn the_deepest_tree_ends_without_exhausting_the_stack() {
        let mut tree = Tree::default();
        let mut at = Path::root();
        let permissions = Arc::new(Permissions::only(DomId(1)));
        for _ in 0..1024 {
            at = at.child("a");
            assert!(tree.insert(&at, b"", permissions.clone()));
        }
        drop(tree);
    }
}
