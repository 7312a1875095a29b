//! A store in memory for tests, which can be told to fail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use super::nodes::{Node, Nodes, StoreFailure};
use crate::store::wire::Errno;

/// A store.
#[derive(Debug, Default)]
pub struct FakeStore {
    nodes: RefCell<BTreeMap<String, String>>,
    /// How many more changes succeed; `None`: all.
    pub changes_left: Cell<Option<u32>>,
    /// What somebody else does to the store while one waits for a path.
    pub while_waiting: RefCell<Vec<(String, String)>>,
}

impl FakeStore {
    /// All paths.
    pub fn paths(&self) -> Vec<String> {
        self.nodes.borrow().keys().cloned().collect()
    }

    fn change(&self, path: &str) -> Result<(), StoreFailure> {
        match self.changes_left.get() {
            Some(0) => {
                // Once: undoing succeeds.
                self.changes_left.set(None);
                Err(StoreFailure::Refused {
                    what: path.into(),
                    errno: Errno::ENOSPC,
                })
            }
            Some(left) => {
                self.changes_left.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Nodes for FakeStore {
    fn read(&self, path: &str) -> Result<Option<String>, StoreFailure> {
        Ok(self.nodes.borrow().get(path).cloned())
    }

    fn list(&self, path: &str) -> Result<Vec<String>, StoreFailure> {
        let prefix = format!("{path}/");
        let mut names: Vec<String> = self
            .nodes
            .borrow()
            .keys()
            .filter_map(|key| key.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('/').next())
            .map(ToOwned::to_owned)
            .collect();
        names.dedup();
        Ok(names)
    }

    fn write(&self, nodes: &[Node]) -> Result<(), StoreFailure> {
        if let Some(first) = nodes.first() {
            self.change(&first.path)?;
        }
        for node in nodes {
            self.nodes
                .borrow_mut()
                .insert(node.path.clone(), node.value.clone());
        }
        Ok(())
    }

    fn update(&self, path: &str, value: &str) -> Result<bool, StoreFailure> {
        self.change(path)?;
        Ok(self
            .nodes
            .borrow_mut()
            .get_mut(path)
            .map(|node| *node = value.to_owned())
            .is_some())
    }

    fn remove(&self, path: &str) -> Result<(), StoreFailure> {
        self.change(path)?;
        let prefix = format!("{path}/");
        self.nodes
            .borrow_mut()
            .retain(|key, _| key != path && !key.starts_with(&prefix));
        Ok(())
    }

    fn wait<T>(
        &self,
        _: &str,
        _: Duration,
        mut done: impl FnMut(&Self) -> Result<Option<T>, StoreFailure>,
    ) -> Result<Option<T>, StoreFailure> {
        loop {
            if let Some(value) = done(self)? {
                return Ok(Some(value));
            }
            let next = {
                let mut waiting = self.while_waiting.borrow_mut();
                if waiting.is_empty() {
                    return Ok(None);
                }
                waiting.remove(0)
            };
            self.nodes.borrow_mut().insert(next.0, next.1);
        }
    }
}
