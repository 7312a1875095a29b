//! What can be asked of a running domain.

use std::path::Path;
use std::time::Duration;

use super::protocol::{
    DomainEventKind, Event, Failure, FailureCode, Request, Response, ShutdownHow,
};
use super::worker::Worker;
use super::{balloon, saving};
use crate::config::{Disk, DomainConfig, Memory, Vif};
use crate::device::nodes::{Kind, Node, Nodes, device, devices, domain_path};
use crate::device::vif;
use crate::domain::create::Maker;
use crate::domain::layout::vm_path;
use crate::sys::DomId;

/// How long a guest may take to take note of `control/shutdown`. Xen's toolstack waits as
/// long.
const ACK_LIMIT: Duration = Duration::from_secs(60);

/// Answers one request; `tell` is told how far it is.
///
/// # Errors
/// Each with its kind; then nothing has changed.
pub fn answer(
    worker: &mut Worker,
    request: Request,
    tell: &dyn Fn(Event),
) -> Result<Response, Failure> {
    match request {
        Request::Rename { name, .. } => rename(worker, &name),
        Request::VcpuSet { online, .. } => set_vcpus(worker, online),
        Request::MemSet { kib, .. } => set_memory(worker, kib),
        Request::MemMax { kib, .. } => set_most_memory(worker, kib),
        Request::BlockAttach { disk, .. } => {
            let disk = Disk::from_toml(&disk).map_err(bad_config)?;
            attach_disk(worker, disk)
        }
        Request::NetworkAttach { vif, .. } => {
            let vif = Vif::from_toml(&vif).map_err(bad_config)?;
            attach_vif(worker, vif)
        }
        Request::BlockDetach { device, force, .. } => detach(worker, Kind::Vbd, device, force),
        Request::NetworkDetach { device, force, .. } => detach(worker, Kind::Vif, device, force),
        Request::Config { .. } => Ok(Response::Config(worker.entry.config().to_toml())),
        Request::Save { file, then, .. } => saving::save(worker, &file, then, tell),
        Request::DumpCore { file, .. } => saving::dump(worker, Path::new(&file), tell),
        Request::SnapshotCreate { name, .. } => saving::snapshot(worker, &name, tell),
        other => Err(Failure::new(
            FailureCode::Unsupported,
            format!("{other:?} is not supported yet"),
        )),
    }
}

fn bad_config(error: impl ToString) -> Failure {
    Failure::new(FailureCode::BadConfig, error.to_string())
}

/// Keeps the configuration, so that a restart and a new daemon find it.
fn change(worker: &Worker, change: impl FnOnce(&mut DomainConfig)) {
    let config = worker.entry.change(change);
    let uuid = worker.entry.uuid();
    if let Err(error) = worker.daemon.persist.change(uuid, &config) {
        tracing::warn!(domain = worker.entry.domain.0, %error, "configuration not kept");
    }
}

/// Asks a domain to end, and waits until its kernel has taken note. Changes nothing that the
/// domain's thread looks at, so whoever asks does it himself, and that thread stays free.
///
/// # Errors
/// [`FailureCode::TimedOut`]: nobody listens. The store's.
pub fn shutdown(store: &impl Nodes, domain: DomId, how: ShutdownHow) -> Result<Response, Failure> {
    order(store, domain, how.word()).map(|()| Response::Done)
}

/// Writes a word into `control/shutdown`, and waits until the domain's kernel has taken note.
///
/// # Errors
/// [`FailureCode::TimedOut`]: nobody listens, and the word is no longer there. The store's.
pub fn order(store: &impl Nodes, domain: DomId, word: &str) -> Result<(), Failure> {
    let path = format!("{}/control/shutdown", domain_path(domain));
    store.write(&[Node::new(&path, word)])?;
    let taken = store.wait(&path, ACK_LIMIT, |store| {
        // Empty: taken note of. Gone, or gone with its domain: so much the better.
        let now = store.read(&path)?;
        Ok(now.is_none_or(|now| now != word).then_some(()))
    })?;
    if taken.is_some() {
        return Ok(());
    }
    // It might read it much later.
    store.update(&path, "")?;
    Err(Failure::new(
        FailureCode::TimedOut,
        format!(
            "domain {domain} took no note of `{}` in {} s: its kernel does not listen; end it with `ox destroy`",
            word,
            ACK_LIMIT.as_secs()
        ),
    ))
}

fn rename(worker: &Worker, name: &str) -> Result<Response, Failure> {
    let name: crate::config::DomainName = name.parse().map_err(|error| {
        let error: crate::config::BadValue = error;
        bad_config(error)
    })?;
    let old = worker.entry.name();
    if *name == *old {
        return Ok(Response::Done);
    }
    worker.daemon.check_name(&worker.machine.store, &name)?;
    let domain = worker.entry.domain;
    let home = domain_path(domain);
    worker.machine.store.write(&[
        Node::new(format!("{home}/name"), &*name),
        Node::new(format!("{}/name", vm_path(worker.entry.uuid())), &*name),
    ])?;
    change(worker, |config| config.name = name);
    worker.tell(DomainEventKind::Renamed(old));
    Ok(Response::Done)
}

fn set_vcpus(worker: &Worker, online: u32) -> Result<Response, Failure> {
    let all = worker.entry.config().max_vcpus();
    if online == 0 || online > all {
        return Err(bad_config(format!(
            "domain {} has from 1 to {all} vCPUs, not {online}",
            worker.entry.domain
        )));
    }
    worker.machine.set_vcpus(worker.entry.domain, online, all)?;
    change(worker, |config| keep_online(config, online));
    Ok(Response::Done)
}

/// Fewer vCPUs online are no fewer that it has.
fn keep_online(config: &mut DomainConfig, online: u32) {
    config.maxvcpus.get_or_insert(config.vcpus);
    config.vcpus = online;
}

fn set_memory(worker: &Worker, kib: u64) -> Result<Response, Failure> {
    let domain = worker.entry.domain;
    let memory = Memory::from_kib(kib).map_err(bad_config)?;
    let most = worker.entry.config().max_memory().kib();
    if kib > most {
        return Err(bad_config(format!(
            "domain {domain} has {most} KiB at most, not {kib}: raise that with `ox mem-max`"
        )));
    }
    let now = worker.machine.xen.domain_info(domain)?.memory_kib();
    // Growing needs leave first; shrinking takes it when the guest has shrunk, or at once as
    // far as it has room.
    let limit = balloon::limit(kib.max(now));
    worker.machine.xen.set_max_memory(domain, limit)?;
    worker
        .machine
        .store
        .write(&[balloon::target(domain, kib)])?;
    change(worker, |config| {
        config.maxmem.get_or_insert(config.memory);
        config.memory = memory;
    });
    Ok(Response::Done)
}

fn set_most_memory(worker: &Worker, kib: u64) -> Result<Response, Failure> {
    let domain = worker.entry.domain;
    let memory = Memory::from_kib(kib).map_err(bad_config)?;
    let now = worker.machine.xen.domain_info(domain)?.memory_kib();
    if kib < now {
        return Err(bad_config(format!(
            "domain {domain} has {now} KiB now: first shrink it with `ox mem-set`"
        )));
    }
    worker
        .machine
        .xen
        .set_max_memory(domain, balloon::limit(kib))?;
    let path = format!("{}/memory/static-max", domain_path(domain));
    worker
        .machine
        .store
        .write(&[Node::new(path, kib.to_string())])?;
    change(worker, |config| config.maxmem = Some(memory));
    Ok(Response::Done)
}

fn attach_disk(worker: &Worker, disk: Disk) -> Result<Response, Failure> {
    let domain = worker.entry.domain;
    worker.machine.attach_disk(domain, &disk)?;
    let id = disk.vdev.number();
    change(worker, |config| config.disk.push(disk));
    worker.tell(DomainEventKind::DeviceAttached(format!("vbd {id}")));
    Ok(Response::Attached { device: id })
}

fn attach_vif(worker: &Worker, mut vif: Vif) -> Result<Response, Failure> {
    let domain = worker.entry.domain;
    let taken = devices(&worker.machine.store, domain, Kind::Vif)?;
    let free = (0..).find(|id| taken.iter().all(|device| device.id != *id));
    vif::complete(&mut vif, free.unwrap_or(0), worker.entry.uuid());
    worker.machine.attach_vif(domain, &vif)?;
    let id = vif.devid.unwrap_or(0);
    change(worker, |config| config.vif.push(vif));
    worker.tell(DomainEventKind::DeviceAttached(format!("vif {id}")));
    Ok(Response::Attached { device: id })
}

fn detach(worker: &Worker, kind: Kind, id: u32, force: bool) -> Result<Response, Failure> {
    let domain = worker.entry.domain;
    let Some(device) = device(&worker.machine.store, domain, kind, id)? else {
        return Err(Failure::new(
            FailureCode::NotFound,
            format!("there is no {} {id} of domain {domain}", kind.word()),
        ));
    };
    worker.machine.detach(device, force)?;
    change(worker, |config| match kind {
        Kind::Vbd => config.disk.retain(|disk| disk.vdev.number() != id),
        Kind::Vif => config.vif.retain(|vif| vif.devid != Some(id)),
    });
    worker.tell(DomainEventKind::DeviceDetached(format!(
        "{} {id}",
        kind.word()
    )));
    Ok(Response::Done)
}

#[cfg(test)]
mod tests {
    use super::keep_online;
    use crate::config::DomainConfig;

    #[test]
    fn vcpus_taken_away_can_come_back() {
        let text = "name = \"web\"\nkernel = \"/k\"\nmemory = \"64M\"\nvcpus = 4\n";
        let mut config = DomainConfig::from_toml(text, "test").unwrap();
        keep_online(&mut config, 2);
        assert_eq!((config.vcpus, config.max_vcpus()), (2, 4));
        keep_online(&mut config, 3);
        assert_eq!((config.vcpus, config.max_vcpus()), (3, 4));
    }
}
