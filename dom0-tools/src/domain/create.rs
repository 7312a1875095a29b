//! From a configuration to a running domain, or to nothing.
//!
//! ```text
//!  make ─► nodes ─► build ─► ring nodes ─► introduce ─► console ─► disks ─► cards ─► run
//! ```
//!
//! Each step leaves behind how to undo it; a failure undoes all steps before it, last first.
//! What the steps do to the machine stands behind [`Maker`], so that every failure can be
//! tried.

use std::fmt;
use std::io::Read;

use super::layout::{self, Rings};
use super::undo::Undo;
use crate::config::{Disk, DomainConfig, Uuid, Vif};
use crate::device::nodes::{Nodes, StoreFailure};
use crate::sys::DomId;

/// What making a domain asks of the machine. Whatever undoes is called at most once, and for
/// what was done only.
pub trait Maker {
    /// Why a step failed.
    type Error: fmt::Display;

    /// A domain in the making; it ends when this is dropped.
    type New;

    /// A domain, paused, without vCPUs and memory.
    ///
    /// # Errors
    /// Files, hypervisor.
    fn make(&self, uuid: Uuid, config: &DomainConfig) -> Result<Self::New, Self::Error>;

    /// Its number.
    fn id(&self, new: &Self::New) -> DomId;

    /// vCPUs, memory and what is in it, vCPUs' states, and all limits.
    ///
    /// # Errors
    /// Files, memory, hypervisor; the domain may be half built.
    fn build(
        &self,
        new: &Self::New,
        config: &DomainConfig,
        source: Source<'_>,
        progress: Progress<'_>,
    ) -> Result<Rings, Self::Error>;

    /// It is complete, and lives on its own.
    fn keep(&self, new: Self::New);

    /// Has xenstore serve the domain.
    ///
    /// # Errors
    /// The store's.
    fn introduce(&self, domain: DomId, rings: &Rings) -> Result<(), Self::Error>;

    /// Undoes [`Maker::introduce`].
    ///
    /// # Errors
    /// The store's.
    fn release(&self, domain: DomId) -> Result<(), Self::Error>;

    /// Serves the domain's console.
    ///
    /// # Errors
    /// Its ring cannot be mapped.
    fn open_console(&self, domain: DomId, config: &DomainConfig) -> Result<(), Self::Error>;

    /// Undoes [`Maker::open_console`].
    fn close_console(&self, domain: DomId);

    /// Attaches a disk. On failure nothing of it is left.
    ///
    /// # Errors
    /// Target, backend.
    fn attach_disk(&self, domain: DomId, disk: &Disk) -> Result<(), Self::Error>;

    /// Undoes [`Maker::attach_disk`].
    ///
    /// # Errors
    /// The backend's.
    fn detach_disk(&self, domain: DomId, disk: &Disk) -> Result<(), Self::Error>;

    /// Attaches a card. On failure nothing of it is left.
    ///
    /// # Errors
    /// Bridge, backend.
    fn attach_vif(&self, domain: DomId, vif: &Vif) -> Result<(), Self::Error>;

    /// Undoes [`Maker::attach_vif`].
    ///
    /// # Errors
    /// The backend's.
    fn detach_vif(&self, domain: DomId, vif: &Vif) -> Result<(), Self::Error>;

    /// Lets it run.
    ///
    /// # Errors
    /// The hypervisor's.
    fn unpause(&self, domain: DomId) -> Result<(), Self::Error>;
}

/// What a new domain begins with.
pub enum Source<'a> {
    /// The kernel that its configuration names.
    Kernel,
    /// The stream of a saved domain.
    Stream(Saved<'a>),
}

/// The stream of a saved domain.
pub struct Saved<'a> {
    /// The stream.
    pub stream: &'a mut dyn Read,
    /// Where it begins in its file, bytes.
    pub begins: u64,
}

/// Told what comes next, and how far it is: bytes, of how many; 0 if that is not known.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// Why there is no new domain.
#[derive(Debug, thiserror::Error)]
pub enum CreateError<E: fmt::Display> {
    /// A step of the maker's.
    #[error("{0}")]
    Step(E),
    /// xenstore.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Fills in what a configuration may leave open, so that the domain is the same whenever it
/// is started: the cards' numbers and addresses.
pub fn complete(config: &mut DomainConfig, uuid: Uuid) {
    config.uuid = Some(uuid);
    for (index, vif) in config.vif.iter_mut().enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        crate::device::vif::complete(vif, index, uuid);
    }
}

/// Makes a domain of a complete configuration.
///
/// # Errors
/// See [`CreateError`]; nothing is left then.
pub fn create<M: Maker>(
    maker: &M,
    store: &impl Nodes,
    config: &DomainConfig,
    how: How<'_>,
) -> Result<DomId, CreateError<M::Error>> {
    let How {
        uuid,
        now,
        paused,
        source,
        progress,
    } = how;
    let text = |error: M::Error| error.to_string();
    progress("making the domain", 0, 0);
    let new = maker.make(uuid, config).map_err(CreateError::Step)?;
    let domain = maker.id(&new);
    // Behind the domain, so that it is undone before the domain ends.
    let mut undo = Undo::new();

    let vm = layout::vm_path(uuid);
    undo.push("store nodes", move || {
        forget_nodes(store, domain, Some(&vm)).map_err(|error| error.to_string())
    });
    store.write(&layout::skeleton(domain, uuid, config, now))?;

    progress("building memory", 0, 0);
    let rings = maker.build(&new, config, source, progress);
    let rings = rings.map_err(CreateError::Step)?;
    store.write(&layout::rings(domain, &rings))?;

    maker.introduce(domain, &rings).map_err(CreateError::Step)?;
    undo.push("introduction", move || maker.release(domain).map_err(text));

    maker
        .open_console(domain, config)
        .map_err(CreateError::Step)?;
    undo.push("console", move || {
        maker.close_console(domain);
        Ok(())
    });

    progress("attaching devices", 0, 0);
    for disk in &config.disk {
        maker.attach_disk(domain, disk).map_err(CreateError::Step)?;
        undo.push("disk", move || {
            maker.detach_disk(domain, disk).map_err(text)
        });
    }
    for vif in &config.vif {
        maker.attach_vif(domain, vif).map_err(CreateError::Step)?;
        undo.push("card", move || maker.detach_vif(domain, vif).map_err(text));
    }
    if !paused {
        maker.unpause(domain).map_err(CreateError::Step)?;
    }
    undo.keep();
    maker.keep(new);
    Ok(domain)
}

/// Circumstances of a creation.
pub struct How<'a> {
    /// The domain's UUID.
    pub uuid: Uuid,
    /// Seconds since 1970.
    pub now: u64,
    /// Leave it paused.
    pub paused: bool,
    /// What it begins with.
    pub source: Source<'a>,
    /// Told what comes next.
    pub progress: Progress<'a>,
}

impl fmt::Debug for How<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "How({}, paused {})", self.uuid, self.paused)
    }
}

/// Removes all nodes of a domain that are not a device's.
///
/// # Errors
/// The store's; the rest is removed all the same.
pub fn forget_nodes(
    store: &impl Nodes,
    domain: DomId,
    vm: Option<&str>,
) -> Result<(), StoreFailure> {
    let mut result = Ok(());
    for path in layout::remains(domain, vm) {
        result = result.and(store.remove(&path));
    }
    result
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
