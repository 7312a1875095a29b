//! A target that one domain writes is nobody else's.
//!
//! The store's records of all domains' disks say what is in use, so that disks attached by
//! another process count too. From the look at them to the new disk's own record a lock is
//! held.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::backing::{BackingError, Identity};
use crate::config::{Access, Disk};
use crate::device::nodes::{Device, Kind, Nodes, StoreFailure, devices};
use crate::sys::DomId;

static CLAIMS: Mutex<()> = Mutex::new(());

/// Nobody else attaches a disk while this is held.
pub struct Claims {
    _held: MutexGuard<'static, ()>,
}

/// Waits until nobody else attaches a disk.
pub fn lock() -> Claims {
    Claims {
        // There is nothing that could be half changed.
        _held: CLAIMS.lock().unwrap_or_else(PoisonError::into_inner),
    }
}

impl Claims {
    /// Refuses a disk that somebody else writes, or reads while this one would write.
    ///
    /// # Errors
    /// [`BackingError::InUse`]; the store's as [`BackingError::Target`].
    pub fn check(&self, store: &impl Nodes, disk: &Disk) -> Result<(), BackingError> {
        let path = disk.target.clone().unwrap_or_default();
        let Some(identity) = Identity::of(Path::new(&path)) else {
            return Ok(());
        };
        let in_use = |user| BackingError::InUse {
            vdev: disk.vdev.to_string(),
            path: path.clone(),
            user,
        };
        let writes = disk.access == Access::ReadWrite;
        let user = user(store, identity, writes).map_err(|error| BackingError::Target {
            vdev: disk.vdev.to_string(),
            path: path.clone(),
            error: std::io::Error::other(error),
        })?;
        match user {
            Some(device) => Err(in_use(device.to_string())),
            None if writes && mounted(identity) => Err(in_use("a mount in dom0".into())),
            None => Ok(()),
        }
    }
}

/// The disk whose use of the same target does not go together with this one.
fn user(
    store: &impl Nodes,
    identity: Identity,
    writes: bool,
) -> Result<Option<Device>, StoreFailure> {
    for domain in store.list("/libxl")? {
        let Some(domain) = domain.parse().ok().map(DomId) else {
            continue;
        };
        // What another domain serves is none of dom0's files.
        let local = devices(store, domain, Kind::Vbd)?
            .into_iter()
            .filter(Device::is_local);
        for device in local {
            let record = device.record();
            let other_writes = store
                .read(&format!("{record}/mode"))?
                .is_none_or(|mode| mode.starts_with('w'));
            if !writes && !other_writes {
                continue;
            }
            let target = store.read(&format!("{record}/params"))?.unwrap_or_default();
            if Identity::of(Path::new(&target)) == Some(identity) {
                return Ok(Some(device));
            }
        }
    }
    Ok(None)
}

/// Whether a block device carries a file system that dom0 has mounted.
fn mounted(identity: Identity) -> bool {
    let Identity::Device(_) = identity else {
        return false;
    };
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|source| source.starts_with('/'))
        .any(|source| Identity::of(Path::new(source)) == Some(identity))
}
