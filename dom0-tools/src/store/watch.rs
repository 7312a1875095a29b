//! Who hears of what.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::change::Event;
use super::path::Path;
use super::wire::XENSTORE_REL_PATH_MAX;
use crate::sys::DomId;

/// What can be watched: a path, or an event that the server makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// `/...` or `@...`.
    node: Arc<str>,
    /// Bytes that events leave out, for paths said relative to a domain's home.
    skip: usize,
}

impl Target {
    /// What a domain asks to watch; `None` if it cannot be.
    #[must_use]
    pub fn said_by(domain: DomId, text: &str) -> Option<Self> {
        if text.starts_with('@') {
            let node = (text.len() <= XENSTORE_REL_PATH_MAX).then(|| text.into())?;
            return Some(Self { node, skip: 0 });
        }
        let node: Arc<str> = Path::said_by(domain, text)?.as_str().into();
        let skip = if text.starts_with('/') {
            0
        } else {
            node.len() - text.len()
        };
        Some(Self { node, skip })
    }

    /// As it was said.
    #[must_use]
    pub fn as_said(&self) -> &str {
        &self.node[self.skip..]
    }
}

/// A watch of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Watch<Id> {
    owner: Id,
    token: Arc<[u8]>,
    skip: usize,
}

/// All watches; `Id` says whose.
#[derive(Clone, Debug)]
pub struct Watches<Id> {
    by_node: BTreeMap<Arc<str>, Vec<Watch<Id>>>,
}

impl<Id> Default for Watches<Id> {
    fn default() -> Self {
        let by_node = BTreeMap::new();
        Self { by_node }
    }
}

impl<Id: Copy + PartialEq> Watches<Id> {
    /// Adds one; says whether it was not there.
    pub fn add(&mut self, owner: Id, target: &Target, token: &[u8]) -> bool {
        let at = self.by_node.entry(target.node.clone()).or_default();
        if at.iter().any(|w| w.owner == owner && &*w.token == token) {
            return false;
        }
        at.push(Watch {
            owner,
            token: token.into(),
            skip: target.skip,
        });
        true
    }

    /// Takes one away; says whether it was there.
    pub fn remove(&mut self, owner: Id, target: &Target, token: &[u8]) -> bool {
        let Some(at) = self.by_node.get_mut(&target.node) else {
            return false;
        };
        let before = at.len();
        at.retain(|w| w.owner != owner || &*w.token != token);
        let found = at.len() < before;
        if at.is_empty() {
            self.by_node.remove(&target.node);
        }
        found
    }

    /// Takes all of somebody away.
    pub fn remove_all(&mut self, owner: Id) {
        self.by_node.retain(|_, at| {
            at.retain(|w| w.owner != owner);
            !at.is_empty()
        });
    }

    /// How many somebody has, and their bytes.
    #[must_use]
    pub fn usage(&self, owner: Id) -> (usize, usize) {
        let mut usage = (0, 0);
        for (target, token) in self.of(owner) {
            usage.0 += 1;
            usage.1 += target.node.len() + token.len();
        }
        usage
    }

    /// All of somebody.
    pub fn of(&self, owner: Id) -> impl Iterator<Item = (Target, &Arc<[u8]>)> {
        self.by_node.iter().flat_map(move |(node, at)| {
            let own = at.iter().filter(move |w| w.owner == owner);
            own.map(|w| {
                let (node, skip) = (node.clone(), w.skip);
                (Target { node, skip }, &w.token)
            })
        })
    }

    /// Who hears of an event: owner, the path as that one says it, token.
    pub fn hearing<'a>(
        &'a self,
        event: &'a Event,
    ) -> impl Iterator<Item = (Id, &'a str, &'a Arc<[u8]>)> {
        let reach = if event.upwards { usize::MAX } else { 1 };
        let nodes = event.path.upwards().take(reach);
        nodes
            .filter_map(|node| self.by_node.get(node))
            .flatten()
            .map(|w| (w.owner, said(event.path.as_str(), w.skip), &w.token))
    }

    /// Who hears of an event that the server makes.
    pub fn hearing_special<'a>(&'a self, name: &str) -> impl Iterator<Item = (Id, &'a Arc<[u8]>)> {
        let at = self.by_node.get(name).into_iter().flatten();
        at.map(|w| (w.owner, &w.token))
    }
}

/// A path without what its watcher left out. All that a relative watch hears of is below it.
fn said(path: &str, skip: usize) -> &str {
    path.get(skip..).unwrap_or(path)
}
