//! Which domains there are, and whom to ask for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::worker::Task;
use crate::config::{DomainConfig, Uuid};
use crate::sys::DomId;

/// Tasks that may wait for one domain.
pub const MOST_TASKS: usize = 16;

/// A domain that somebody looks after.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub domain: DomId,
    tasks: SyncSender<Task>,
    config: Mutex<DomainConfig>,
}

/// Why a task was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Too many wait.
    Busy,
    /// The domain is gone.
    Gone,
}

impl Entry {
    /// A domain and where its tasks go.
    pub fn new(domain: DomId, config: DomainConfig, tasks: SyncSender<Task>) -> Self {
        Self {
            domain,
            tasks,
            config: Mutex::new(config),
        }
    }

    /// Its configuration as it is now.
    pub fn config(&self) -> DomainConfig {
        self.lock().clone()
    }

    /// Its name as it is now.
    pub fn name(&self) -> String {
        self.lock().name.to_string()
    }

    /// Its UUID as it is now. A complete configuration has one.
    pub fn uuid(&self) -> Uuid {
        self.lock().uuid.unwrap_or(Uuid([0; 16]))
    }

    /// Changes its configuration, and returns the new one.
    pub fn change(&self, change: impl FnOnce(&mut DomainConfig)) -> DomainConfig {
        let mut config = self.lock();
        change(&mut config);
        config.clone()
    }

    fn lock(&self) -> MutexGuard<'_, DomainConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it something to do; never waits.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub fn give(&self, task: Task) -> Result<(), NotTaken> {
        self.tasks.try_send(task).map_err(|error| match error {
            TrySendError::Full(_) => NotTaken::Busy,
            TrySendError::Disconnected(_) => NotTaken::Gone,
        })
    }
}

/// All of them, and the names and UUIDs of those that are being made.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    domains: BTreeMap<DomId, Arc<Entry>>,
    names: BTreeSet<String>,
    uuids: BTreeSet<Uuid>,
}

/// A name and a UUID that nobody else can have meanwhile.
#[must_use = "they are free again when this is dropped"]
#[derive(Debug)]
pub struct Reserved<'a> {
    registry: &'a Registry,
    name: String,
    uuid: Uuid,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        inner.names.remove(&self.name);
        inner.uuids.remove(&self.uuid);
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a name and a UUID; the error says who has them.
    ///
    /// # Errors
    /// A domain has one of them, or is being made with it.
    pub fn reserve(&self, name: &str, uuid: Uuid) -> Result<Reserved<'_>, String> {
        let mut inner = self.lock();
        if let Some(other) = inner.domains.values().find(|entry| entry.name() == name) {
            return Err(format!(
                "the name {name} belongs to domain {}: choose another, or destroy that one",
                other.domain
            ));
        }
        if let Some(other) = inner.domains.values().find(|entry| entry.uuid() == uuid) {
            return Err(format!(
                "the UUID {uuid} belongs to domain {}: leave it out to get a new one",
                other.domain
            ));
        }
        if inner.names.contains(name) || inner.uuids.contains(&uuid) {
            return Err(format!("a domain {name} is being made just now"));
        }
        inner.names.insert(name.to_owned());
        inner.uuids.insert(uuid);
        Ok(Reserved {
            registry: self,
            name: name.to_owned(),
            uuid,
        })
    }

    /// A complete domain.
    pub fn add(&self, entry: Arc<Entry>) {
        self.lock().domains.insert(entry.domain, entry);
    }

    /// It is gone.
    pub fn remove(&self, domain: DomId) {
        self.lock().domains.remove(&domain);
    }

    /// One of them.
    pub fn get(&self, domain: DomId) -> Option<Arc<Entry>> {
        self.lock().domains.get(&domain).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.lock().domains.values().cloned().collect()
    }

    /// By name.
    pub fn named(&self, name: &str) -> Option<Arc<Entry>> {
        self.all().into_iter().find(|entry| entry.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_name_has_one_owner() {
        let registry = Registry::default();
        let (first, second) = (Uuid([1; 16]), Uuid([2; 16]));
        let reserved = registry.reserve("web", first).unwrap();
        assert!(registry.reserve("web", second).is_err());
        assert!(registry.reserve("db", first).is_err());
        drop(reserved);
        drop(registry.reserve("web", second).unwrap());

        let text = "name = \"web\"\nkernel = \"/k\"\nmemory = \"64M\"\n";
        let mut config = DomainConfig::from_toml(text, "test").unwrap();
        config.uuid = Some(first);
        let (tasks, _receiver) = sync_channel(MOST_TASKS);
        registry.add(Arc::new(Entry::new(DomId(3), config, tasks)));
        let error = registry.reserve("web", second).unwrap_err();
        assert!(error.contains("domain 3"), "{error}");
        assert!(registry.reserve("db", first).is_err());
        registry.remove(DomId(3));
        assert!(registry.reserve("web", first).is_ok());
    }
}
