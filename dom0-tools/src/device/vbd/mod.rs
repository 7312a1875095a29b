//! Disks: what backs them, their nodes.
//!
//! Linux's block backend serves block devices only. A file becomes one by a loop device, an
//! image of QEMU's by `qemu-nbd` ([`backing`]). Either way the backend is told the device's
//! numbers in `physical-device` (hexadecimal), as Xen's script `block` does. What stands behind a
//! disk that another domain serves is that domain's affair.

pub mod backing;
mod claim;
mod nbd;

use std::time::Duration;

use super::backend::{self, BackendError};
use super::handshake::{self, HandshakeError};
use super::nodes::{Device, Kind, Node, Nodes, StoreFailure, devices};
use super::script::{self, ScriptError};
use crate::config::{Access, Disk};
use crate::sys::DomId;
use backing::{Backing, BackingError};

/// Kernel module of the backend.
const MODULE: &str = "xen-blkback";

/// The script this toolstack does the work of.
const OWN_SCRIPT: &str = "block";

/// How long a script's device may take to be named.
const SCRIPT_LIMIT: Duration = Duration::from_secs(10);

/// Why a disk was not attached.
#[derive(Debug, thiserror::Error)]
pub enum VbdError {
    /// xenstore.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// The target.
    #[error(transparent)]
    Backing(#[from] BackingError),
    /// Its script.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The backend.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The backend's domain.
    #[error("disk {vdev}: {error}")]
    Backend {
        /// Name of the disk.
        vdev: String,
        /// What is wrong with it.
        error: BackendError,
    },
    /// What it still held could not be written down.
    #[error("{device}: {node}: {error}")]
    Flush {
        /// Which.
        device: Device,
        /// The block device behind it.
        node: String,
        /// The kernel's reason.
        error: std::io::Error,
    },
    /// There is one of that number.
    #[error("{0} is there already: choose another vdev, or detach it first")]
    Exists(Device),
}

/// A disk whose nodes are written, not yet served. Given up unless it is finished.
#[must_use]
#[derive(Debug)]
pub struct Begun {
    device: Device,
    script: Option<String>,
    backing: Backing,
}

impl Begun {
    /// The device.
    pub const fn device(&self) -> Device {
        self.device
    }
}

/// The device of a configured disk, which another domain may serve.
fn device_of(domain: DomId, disk: &Disk, served_by: DomId) -> Device {
    Device {
        domain,
        kind: Kind::Vbd,
        id: disk.vdev.number(),
        served_by,
    }
}

/// Opens what stands behind a disk and writes its nodes. If it fails, nothing is left.
///
/// # Errors
/// See [`VbdError`].
pub fn begin(store: &impl Nodes, domain: DomId, disk: &Disk) -> Result<Begun, VbdError> {
    let refused = |error| VbdError::Backend {
        vdev: disk.vdev.to_string(),
        error,
    };
    let served_by = backend::find(store, domain, disk.backend.as_deref()).map_err(refused)?;
    let device = device_of(domain, disk, served_by);
    if store
        .read(&format!("{}/backend", device.record()))?
        .is_some()
    {
        return Err(VbdError::Exists(device));
    }
    let script = disk
        .script
        .as_deref()
        .filter(|name| *name != OWN_SCRIPT)
        .map(ToOwned::to_owned);
    // From the check to the nodes that the next check reads.
    let claims = claim::lock();
    let mut backing = match script {
        // The script makes the device; the target's meaning is its own.
        Some(_) => Backing::none(),
        None if !device.is_local() => Backing::none(),
        None => {
            // First, for who has it is better to know than that it is locked.
            claims.check(store, disk)?;
            Backing::open(disk)?
        }
    };
    store.write(&nodes(device, disk, &backing))?;
    backing.recorded();
    drop(claims);
    Ok(Begun {
        device,
        script,
        backing,
    })
}

/// Waits for the backend and tells it the device; then the disk works as soon as the guest
/// wants. The backing lives until it is dropped, and longer while the backend has it open.
///
/// # Errors
/// See [`VbdError`]; the nodes are still there.
pub fn finish(store: &impl Nodes, begun: Begun) -> Result<Backing, VbdError> {
    let Begun {
        device,
        script,
        backing,
    } = begun;
    handshake::await_backend(store, device, MODULE)?;
    if !device.is_local() {
        return Ok(backing);
    }
    let back = device.backend();
    if let Some(script) = script {
        script::run(store, &script, "add", device, None)?;
        let named = store.wait(&back, SCRIPT_LIMIT, |store| {
            store.read(&format!("{back}/physical-device"))
        })?;
        if named.is_none() {
            return Err(VbdError::Script(ScriptError::Failed {
                path: script::path_of(&script),
                device,
                reason: "it wrote no physical-device".into(),
            }));
        }
        return Ok(backing);
    }
    if let Some(device) = backing.device() {
        store.write(&[
            Node::new(format!("{back}/physical-device-path"), device.path()),
            Node::new(
                format!("{back}/physical-device"),
                format!("{:x}:{:x}", device.major(), device.minor()),
            ),
            Node::new(format!("{back}/hotplug-status"), "connected"),
        ])?;
    }
    Ok(backing)
}

/// Has what stands behind a disk write down what it still holds (an image's tables, say).
///
/// # Errors
/// xenstore; the device.
pub fn flush(store: &impl Nodes, device: Device) -> Result<(), VbdError> {
    if !device.is_local() {
        return Ok(());
    }
    let path = format!("{}/physical-device-path", device.backend());
    let Some(node) = store.read(&path)?.filter(|node| !node.is_empty()) else {
        return Ok(());
    };
    let flushed = std::fs::File::open(&node).and_then(|file| file.sync_all());
    flushed.map_err(|error| VbdError::Flush {
        device,
        node,
        error,
    })
}

/// Ends a disk and removes its nodes.
///
/// # Errors
/// See [`HandshakeError`]; unless forced the disk stays if the guest keeps it.
pub fn detach(store: &impl Nodes, device: Device, force: bool) -> Result<(), VbdError> {
    handshake::close(store, device, force)?;
    let record = device.record();
    if device.is_local()
        && let Some(script) = store.read(&format!("{record}/script"))?
        && script::path_of(OWN_SCRIPT) != std::path::Path::new(&script)
    {
        // Whatever it says, the device is gone.
        let _ = script::run(store, &script, "remove", device, None);
    }
    let nbd = store.read(&format!("{record}/{}", backing::NBD_KEY))?;
    // Before the record goes: who is killed in between leaves nothing that nobody knows of.
    if let Some(server) = nbd.and_then(|nbd| nbd.parse::<nbd::Server>().ok()) {
        server.end();
    }
    Ok(handshake::forget(store, device)?)
}

/// Ends what serves images to no disk, for a daemon that was killed before it named it in the store.
///
/// # Errors
/// The store's.
pub fn end_strays(store: &impl Nodes) -> Result<(), StoreFailure> {
    let _claims = claim::lock();
    let mut known = Vec::new();
    for domain in store.list("/libxl")? {
        let Some(domain) = domain.parse().ok().map(DomId) else {
            continue;
        };
        for device in devices(store, domain, Kind::Vbd)? {
            let path = format!("{}/{}", device.record(), backing::NBD_KEY);
            known.extend(store.read(&path)?.and_then(|text| text.parse().ok()));
        }
    }
    nbd::end_others(&known);
    Ok(())
}

/// A disk's nodes.
fn nodes(device: Device, disk: &Disk, backing: &Backing) -> Vec<Node> {
    let mode = match disk.access {
        Access::ReadWrite => "w",
        Access::ReadOnly => "r",
    };
    let device_type = if disk.cdrom { "cdrom" } else { "disk" };
    let script = disk.script.as_deref().unwrap_or(OWN_SCRIPT);
    let flag = |on: bool| if on { "1" } else { "0" }.to_owned();
    let mut backend = vec![
        ("params", disk.target.clone().unwrap_or_default()),
        ("script", script::path_of(script).display().to_string()),
        ("removable", flag(disk.cdrom)),
        ("bootable", "1".into()),
        ("dev", disk.vdev.to_string()),
        ("type", "phy".into()),
        ("mode", mode.into()),
        ("device-type", device_type.into()),
        ("discard-enable", flag(disk.discard.unwrap_or(true))),
    ];
    if disk.direct_io_safe {
        backend.push(("direct-io-safe", flag(true)));
    }
    let frontend = [
        ("virtual-device", device.id.to_string()),
        ("device-type", device_type.into()),
    ];
    let mut nodes = device.nodes(&frontend, &backend);
    if let Some(nbd) = backing.nbd() {
        let path = format!("{}/{}", device.record(), backing::NBD_KEY);
        nodes.push(Node::new(path, nbd.to_string()));
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::FakeStore;

    fn value<'a>(nodes: &'a [Node], path: &str) -> Option<&'a str> {
        nodes
            .iter()
            .find(|node| node.path == path)
            .map(|node| node.value.as_str())
    }

    #[test]
    fn nodes_as_xens_toolstack_writes_them() {
        let disk = Disk::from_toml("vdev = \"xvda\"\ntarget = \"/images/a.img\"\n").unwrap();
        let device = device_of(DomId(7), &disk, DomId::DOM0);
        let nodes = nodes(device, &disk, &Backing::none());
        let front = "/local/domain/7/device/vbd/51712";
        let back = "/local/domain/0/backend/vbd/7/51712";
        assert_eq!(value(&nodes, &format!("{front}/backend")), Some(back));
        assert_eq!(value(&nodes, &format!("{front}/backend-id")), Some("0"));
        assert_eq!(value(&nodes, &format!("{front}/state")), Some("1"));
        assert_eq!(
            value(&nodes, &format!("{front}/virtual-device")),
            Some("51712")
        );
        assert_eq!(value(&nodes, &format!("{back}/frontend")), Some(front));
        assert_eq!(
            value(&nodes, &format!("{back}/params")),
            Some("/images/a.img")
        );
        assert_eq!(value(&nodes, &format!("{back}/mode")), Some("w"));
        assert_eq!(value(&nodes, &format!("{back}/dev")), Some("xvda"));
        assert_eq!(value(&nodes, &format!("{back}/type")), Some("phy"));
        assert_eq!(
            value(&nodes, "/libxl/7/device/vbd/51712/params"),
            Some("/images/a.img")
        );
    }

    #[test]
    fn the_guest_may_change_its_half_only() {
        let disk = Disk::from_toml("vdev = \"xvdb\"\ntarget = \"/a\"\n").unwrap();
        let nodes = nodes(
            device_of(DomId(3), &disk, DomId::DOM0),
            &disk,
            &Backing::none(),
        );
        for node in nodes.iter().filter(|node| node.access.is_some()) {
            let access = node.access.as_ref().unwrap();
            let owned = access.owner == DomId(3);
            assert_eq!(owned, node.path.starts_with("/local/domain/3/"), "{node:?}");
            assert_eq!(access.others, super::super::nodes::Right::None);
        }
    }

    #[test]
    fn a_disk_of_a_driver_domain_is_that_domains() {
        let store = FakeStore::default();
        let driver = Node::new("/local/domain/9/name", "driver");
        store.write(&[driver]).unwrap();
        let text = "vdev = \"xvda\"\ntarget = \"ram8\"\nbackend = \"driver\"\n";
        let disk = Disk::from_toml(text).unwrap();
        // There is no file `ram8` in dom0, and nobody asks for one.
        let begun = begin(&store, DomId(3), &disk).unwrap();
        let read = |path: &str| store.read(path).unwrap();
        let front = "/local/domain/3/device/vbd/51712";
        let back = "/local/domain/9/backend/vbd/3/51712";
        assert_eq!(read(&format!("{front}/backend-id")).as_deref(), Some("9"));
        assert_eq!(read(&format!("{front}/backend")).as_deref(), Some(back));
        assert_eq!(read(&format!("{back}/params")).as_deref(), Some("ram8"));
        let ready = (format!("{back}/state"), "2".into());
        store.while_waiting.borrow_mut().push(ready);
        let backing = finish(&store, begun).unwrap();
        assert!(backing.device().is_none());
        // dom0 neither says nor believes anything of what is behind it.
        assert_eq!(read(&format!("{back}/physical-device")), None);
        let lie = format!("{back}/physical-device-path");
        store.write(&[Node::new(lie, "/no/such/device")]).unwrap();
        flush(&store, begun_device()).unwrap();
        let access: Vec<_> = begun_device()
            .nodes(&[], &[])
            .into_iter()
            .filter_map(|node| node.access)
            .map(|access| (access.owner.0, access.named))
            .collect();
        let reader = |domain| vec![(DomId(domain), super::super::nodes::Right::Read)];
        assert_eq!(access, [(0, vec![]), (3, reader(9)), (9, reader(3))]);
    }

    fn begun_device() -> Device {
        Device {
            domain: DomId(3),
            kind: Kind::Vbd,
            id: 51712,
            served_by: DomId(9),
        }
    }
}
