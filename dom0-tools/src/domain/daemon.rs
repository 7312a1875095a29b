//! What all of `oxd`'s threads share, and what concerns more than one domain: creation, names,
//! recovery, and the watch for domains that end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::create::{self, Progress, Source};
use super::events::Events;
use super::keeping;
use super::link::Link;
use super::machine::{Machine, StepError};
use super::persist::{Known, Persist};
use super::protocol::{DomainEventKind, Failure, FailureCode};
use super::registry::Registry;
use super::worker::{self, Task};
use crate::config::{DomainConfig, DomainName, Uuid};
use crate::ctl::{DomainInfo, Xen};
use crate::device::console::service::Consoles;
use crate::device::nodes::{Nodes, StoreFailure, domain_path};
use crate::stream::partial;
use crate::sys::{DomId, GntDev};

/// How long the watch for ended domains sleeps at most: what it might miss is seen then.
const WATCH_LIMIT: Duration = Duration::from_secs(60);

/// What all threads share.
pub struct Daemon {
    /// The hypervisor.
    pub xen: Xen,
    /// xenstore.
    pub store: Link,
    /// Who serves consoles; none if another daemon does.
    pub consoles: Option<Consoles>,
    /// Mappings of granted pages.
    pub gntdev: Arc<dyn GntDev>,
    /// What happened.
    pub events: Events,
    /// Who is there.
    pub registry: Registry,
    /// What is on disk.
    pub persist: Persist,
    /// Folder of the dumps of domains that have crashed.
    pub dumps: PathBuf,
    /// Since when.
    pub started: Instant,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").finish_non_exhaustive()
    }
}

impl Daemon {
    /// A way to the machine.
    pub fn machine(&self) -> Machine {
        Machine {
            xen: self.xen.clone(),
            store: self.store.clone(),
            consoles: self.consoles.clone(),
            gntdev: Arc::clone(&self.gntdev),
            backings: Default::default(),
        }
    }

    /// Makes a domain and has it looked after.
    ///
    /// # Errors
    /// The name is taken, the configuration wrong, a step failed; nothing is left then.
    pub fn create(
        self: &Arc<Self>,
        config: DomainConfig,
        paused: bool,
        progress: Progress<'_>,
    ) -> Result<DomId, Failure> {
        self.make(config, paused, Source::Kernel, progress)
    }

    /// Makes a domain that begins with this, and has it looked after.
    ///
    /// # Errors
    /// As [`Daemon::create`].
    pub fn make<'a>(
        self: &Arc<Self>,
        mut config: DomainConfig,
        paused: bool,
        source: Source<'a>,
        progress: Progress<'a>,
    ) -> Result<DomId, Failure> {
        let uuid = match config.uuid {
            Some(uuid) => uuid,
            None => random_uuid()?,
        };
        create::complete(&mut config, uuid);
        let machine = self.machine();
        self.check_name(&machine.store, &config.name)?;
        let reserved = self
            .registry
            .reserve(&config.name, uuid)
            .map_err(|text| Failure::new(FailureCode::InUse, text))?;
        let disk = |error: std::io::Error| {
            let text = format!("{}: {error}", super::persist::FOLDER);
            Failure::new(FailureCode::Failed, text)
        };
        self.persist.begin(uuid, &config).map_err(disk)?;
        let event = match source {
            Source::Kernel => DomainEventKind::Created,
            Source::Stream(_) => DomainEventKind::Restored,
        };
        // Paused until it is known to everybody: what it does can then be seen.
        let how = worker::how(uuid, true, source, progress);
        let domain = match create::create(&machine, &machine.store, &config, how) {
            Ok(domain) => domain,
            Err(error) => {
                self.persist.forget(uuid);
                return Err(error.into());
            }
        };
        let name = config.name.to_string();
        let finished = match paused {
            true => self.persist.finish(uuid),
            false => self.persist.finish_to_run(uuid),
        };
        let begun = finished.map_err(disk).and_then(|()| {
            self.events.tell(domain, &name, event);
            worker::start(self, machine, domain, config)
                .map_err(|error| Failure::new(FailureCode::Failed, error.to_string()))
        });
        drop(reserved);
        let unpaused = begun.and_then(|_| {
            if paused {
                Ok(())
            } else {
                self.xen.unpause(domain)?;
                self.persist.mark_running(uuid);
                Ok(())
            }
        });
        if let Err(failure) = unpaused {
            self.drop_domain(domain);
            self.persist.forget(uuid);
            return Err(failure);
        }
        Ok(domain)
    }

    /// Refuses a name that a domain has, whoever made that.
    ///
    /// # Errors
    /// [`FailureCode::InUse`]; the store's.
    pub fn check_name(&self, store: &impl Nodes, name: &str) -> Result<(), Failure> {
        if let Some(entry) = self.registry.named(name) {
            return Err(taken(name, entry.domain));
        }
        for info in self.xen.domains()? {
            let path = format!("{}/name", domain_path(info.domain));
            if store.read(&path)?.as_deref() == Some(name) {
                return Err(taken(name, info.domain));
            }
        }
        Ok(())
    }

    /// Destroys a domain that nobody looks after, and all that belongs to it.
    fn drop_domain(&self, domain: DomId) {
        self.registry.remove(domain);
        let machine = self.machine();
        if let Err(error) = machine.destroy(domain) {
            tracing::error!(domain = domain.0, %error, "not destroyed");
        }
        machine.clean(domain);
    }

    /// Takes over what a former daemon left: adopts its domains, destroys those that it had
    /// not completed or begun to destroy, and removes what belongs to none.
    ///
    /// # Errors
    /// The hypervisor or xenstore does not answer. What fails for one domain is told and does
    /// not stop the rest.
    pub fn recover(self: &Arc<Self>) -> Result<(), StepError> {
        let domains: Vec<DomainInfo> = self
            .xen
            .domains()?
            .into_iter()
            .filter(|info| info.domain != DomId::DOM0)
            .collect();
        for file in self.persist.unfinished() {
            partial::remove_left(&file);
        }
        self.persist.snapshots().sweep();
        let living: Vec<Uuid> = domains
            .iter()
            .filter(|info| self.lives(info))
            .map(|info| Uuid(info.handle))
            .collect();
        // Before one that is adopted can owe another.
        let due = self.due(&living);
        for info in &domains {
            match self.persist.known(Uuid(info.handle)) {
                Known::Making => {
                    tracing::warn!(domain = info.domain.0, "was not complete: destroyed");
                    self.drop_domain(info.domain);
                }
                Known::Complete(config) if self.lives(info) => {
                    self.let_run(info);
                    if let Err(error) = self.adopt(info, *config) {
                        tracing::error!(domain = info.domain.0, %error, "not adopted");
                    }
                }
                Known::Complete(_) => self.drop_domain(info.domain),
                Known::Nothing => self.serve_stranger(info.domain),
            }
        }
        self.persist.retain(&living);
        self.sweep(&domains)?;
        self.start_due(due);
        Ok(())
    }

    /// What its maker would have done next.
    fn let_run(&self, info: &DomainInfo) {
        let uuid = Uuid(info.handle);
        if !self.persist.is_to_run(uuid) {
            return;
        }
        if info.paused
            && let Err(error) = self.xen.unpause(info.domain)
        {
            tracing::error!(domain = info.domain.0, %error, "not let run");
        }
        self.persist.mark_running(uuid);
    }

    /// Whether a domain is complete, and not about to end.
    fn lives(&self, info: &DomainInfo) -> bool {
        let uuid = Uuid(info.handle);
        let complete = matches!(self.persist.known(uuid), Known::Complete(_));
        complete && !info.dying && !self.persist.is_ending(uuid)
    }

    /// The successors that a former daemon owed, but those whose predecessors live.
    fn due(&self, living: &[Uuid]) -> Vec<(Uuid, DomainConfig)> {
        for uuid in living {
            self.persist.unmark_start(*uuid);
        }
        let due = self.persist.due().into_iter();
        due.filter_map(|config| Some((config.uuid?, config)))
            .collect()
    }

    /// Starts successors, each in a thread of its own.
    fn start_due(self: &Arc<Self>, due: Vec<(Uuid, DomainConfig)>) {
        for (uuid, config) in due {
            let daemon = Arc::clone(self);
            let spawned = std::thread::Builder::new()
                .name("successor".into())
                .spawn(move || {
                    let name = config.name.to_string();
                    if let Err(failure) = daemon.create(config, false, &mut |_, _, _| {}) {
                        tracing::error!(name, error = failure.text, "not started anew");
                    }
                    daemon.persist.unmark_start(uuid);
                });
            if let Err(error) = spawned {
                tracing::error!(%error, "no thread for a successor");
            }
        }
    }

    fn adopt(self: &Arc<Self>, info: &DomainInfo, config: DomainConfig) -> Result<(), StepError> {
        let (machine, domain) = (self.machine(), info.domain);
        // A rename may have come to the configuration and not to the store.
        keeping::introduce(&machine.store, domain, Uuid(info.handle), &config)?;
        if let Err(error) = machine.serve_console(domain, &config.name) {
            tracing::warn!(domain = domain.0, %error, "console");
        }
        let name = config.name.to_string();
        self.events.tell(domain, &name, DomainEventKind::Adopted);
        worker::start(self, machine, domain, config)
            .map_err(|error| StepError::Thread { domain, error })?;
        Ok(())
    }

    /// Another toolstack's domain: it gets its console, and is left alone.
    fn serve_stranger(&self, domain: DomId) {
        let path = format!("{}/name", domain_path(domain));
        let name = self.store.read(&path).ok().flatten().unwrap_or_default();
        let Ok(name) = name.parse::<DomainName>() else {
            return;
        };
        if let Err(error) = self.machine().serve_console(domain, &name) {
            tracing::info!(domain = domain.0, %error, "another toolstack's domain has no console");
        }
    }

    /// Removes nodes and devices of domains that are none.
    fn sweep(&self, domains: &[DomainInfo]) -> Result<(), StepError> {
        let machine = self.machine();
        let mut numbers = machine.store.list("/local/domain")?;
        numbers.extend(machine.store.list("/libxl")?);
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let Some(domain) = number.parse().ok().map(DomId) else {
                continue;
            };
            let there = domain == DomId::DOM0 || domains.iter().any(|info| info.domain == domain);
            if !there {
                tracing::info!(domain = domain.0, "nodes of a domain that is no more");
                machine.clean(domain);
            }
        }
        Ok(())
    }

    /// Tells each domain's thread when something may have happened to it. Returns only when
    /// xenstore is no more.
    pub fn watch(&self) -> StoreFailure {
        loop {
            let woken = self.store.wait("@releaseDomain", WATCH_LIMIT, |_| {
                self.look();
                Ok(None::<()>)
            });
            if let Err(error) = woken {
                return error;
            }
        }
    }

    fn look(&self) {
        let domains = match self.xen.domains() {
            Ok(domains) => domains,
            Err(error) => {
                tracing::warn!(%error, "domains cannot be listed");
                return;
            }
        };
        for entry in self.registry.all() {
            let info = domains.iter().find(|info| info.domain == entry.domain);
            if info.is_none_or(|info| info.dying || info.shutdown.is_some()) {
                // If its queue is full it looks anyway.
                let _ = entry.give(Task::Look);
            }
        }
    }
}

fn taken(name: &str, domain: DomId) -> Failure {
    Failure::new(
        FailureCode::InUse,
        format!("the name {name} belongs to domain {domain}: choose another, or destroy that one"),
    )
}

/// A random UUID.
pub fn random_uuid() -> Result<Uuid, Failure> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let got =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|error| Failure::new(FailureCode::Failed, error.to_string()))?;
        filled += got;
    }
    Ok(Uuid::from_random(bytes))
}

#[cfg(test)]
#[path = "daemon_tests.rs"]
mod tests;
