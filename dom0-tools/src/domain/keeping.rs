//! A domain that has stopped and is kept for looking at, beside its successor, which has its name and its
//! UUID. The kept one gets others, so that a daemon that comes later can tell the two apart, and loses its
//! disks and cards, which the successor needs.

use super::daemon::random_uuid;
use super::layout::{identity, is_vm_path, vm_path};
use super::protocol::{Failure, FailureCode};
use super::worker::Worker;
use crate::config::{Action, BadValue, DomainConfig, Uuid};
use crate::device::nodes::{Nodes, StoreFailure, domain_path};
use crate::sys::DomId;

/// Calls a domain `NAME-DOMID` from now on, and returns the configuration of its successor.
///
/// A daemon that is killed meanwhile leaves either the domain as it was, and what befell it is seen
/// once more; or a kept one, and a note that a successor is due.
///
/// # Errors
/// The name would be too long; the disk's, the hypervisor's, the store's.
pub fn make_room(worker: &Worker) -> Result<DomainConfig, Failure> {
    let (daemon, entry) = (&worker.daemon, &worker.entry);
    let owed = entry.config();
    let (old, new) = (entry.uuid(), random_uuid()?);
    let kept = kept(&owed, entry.domain, new)?;
    daemon.check_name(&worker.machine.store, &kept.name)?;
    let disk = |error: std::io::Error| {
        let text = format!("{}: {error}", super::persist::FOLDER);
        Failure::new(FailureCode::Failed, text)
    };
    worker.machine.end_devices(entry.domain);
    daemon.persist.mark_start(old, &owed).map_err(disk)?;
    daemon.persist.change(new, &kept).map_err(disk)?;
    daemon.xen.set_handle(entry.domain, new.0)?;
    entry.change(|config| *config = kept.clone());
    daemon.persist.forget(old);
    introduce(&worker.machine.store, entry.domain, new, &kept)?;
    Ok(owed)
}

/// The configuration of a domain that is kept: whatever befalls it, it stays.
fn kept(config: &DomainConfig, domain: DomId, uuid: Uuid) -> Result<DomainConfig, Failure> {
    let name = format!("{}-{domain}", config.name);
    Ok(DomainConfig {
        name: name
            .parse()
            .map_err(|error: BadValue| Failure::new(FailureCode::BadConfig, error.to_string()))?,
        uuid: Some(uuid),
        disk: Vec::new(),
        vif: Vec::new(),
        on_poweroff: Action::Preserve,
        on_reboot: Action::Preserve,
        on_crash: Action::Preserve,
        on_watchdog: Action::Preserve,
        on_soft_reset: Action::Preserve,
        ..config.clone()
    })
}

/// Has the store say who a domain is, if it says something else.
///
/// # Errors
/// The store's.
pub fn introduce(
    store: &impl Nodes,
    domain: DomId,
    uuid: Uuid,
    config: &DomainConfig,
) -> Result<(), StoreFailure> {
    let home = domain_path(domain);
    let told = store.read(&format!("{home}/vm"))?;
    let name = store.read(&format!("{home}/name"))?;
    if told.as_deref() == Some(&*vm_path(uuid)) && name.as_deref() == Some(&*config.name) {
        return Ok(());
    }
    let told = told.unwrap_or_default();
    let start = store.read(&format!("{told}/start_time"))?;
    store.write(&identity(domain, uuid, config, &start.unwrap_or_default()))?;
    if is_vm_path(&told) && told != vm_path(uuid) {
        store.remove(&told)?;
    }
    Ok(())
}
