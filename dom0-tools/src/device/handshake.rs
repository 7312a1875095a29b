//! Waiting for backends, and their orderly end.
//!
//! ```text
//! attach:  nodes written (1,1) ─► backend 2 ─► hot-plug ─► hotplug-status connected
//!          ─► guest 3 or 4 ─► backend 4 (nobody waits for the guest)
//! detach:  backend online=0, state=5 ─► guest 5, 6 ─► backend 6 ─► nodes removed
//! forced:  backend online=0, state=5, frontend removed ─► backend 6 ─► nodes removed
//! ```

use std::path::Path;
use std::time::Duration;

use super::backend;
use super::nodes::{Device, Node, Nodes, State, StoreFailure, backends, domain_path, state};

/// How long a backend in dom0's kernel may take to appear.
pub const BACKEND_LIMIT: Duration = Duration::from_secs(40);

/// How long a guest may take to let go of a device. Xen's toolstack waits as long.
pub const DETACH_LIMIT: Duration = Duration::from_secs(10);

/// Why a device did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// xenstore.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// No backend driver took the device.
    #[error(
        "{device}: no backend in dom0 took it within {} s{reason}; is the module {module} loaded?",
        BACKEND_LIMIT.as_secs()
    )]
    NoBackend {
        /// Which.
        device: Device,
        /// What the backend wrote, if it did.
        reason: String,
        /// Which driver serves such devices.
        module: &'static str,
    },
    /// The domain that is to serve it does not.
    #[error(
        "{device}: domain {} did not take it within {} s{reason}; does it serve such devices?",
        device.served_by,
        BACKEND_LIMIT.as_secs()
    )]
    NotServed {
        /// Which.
        device: Device,
        /// What the backend wrote, if it did.
        reason: String,
    },
    /// The domain that was to serve it has ended.
    #[error("{device}: domain {}, which was to serve it, has ended", device.served_by)]
    Ended {
        /// Which.
        device: Device,
    },
    /// The guest keeps it.
    #[error(
        "{device}: the guest did not let go of it within {} s; detach it with --force",
        DETACH_LIMIT.as_secs()
    )]
    Kept {
        /// Which.
        device: Device,
    },
}

/// Waits until the backend has seen the device (`InitWait`).
///
/// # Errors
/// It does not come, or it refuses.
pub fn await_backend(
    store: &impl Nodes,
    device: Device,
    module: &'static str,
) -> Result<(), HandshakeError> {
    let backend = device.backend();
    let reached = store.wait(&backend, BACKEND_LIMIT, |store| {
        Ok(match state(store, &backend)? {
            State::InitWait | State::Initialised | State::Connected => Some(Reached::Ready),
            State::Closing | State::Closed => Some(Reached::Refused),
            _ if !is_expected(store, device)? => Some(Reached::Ended),
            _ => None,
        })
    })?;
    match reached {
        Some(Reached::Ready) => Ok(()),
        Some(Reached::Ended) => Err(HandshakeError::Ended { device }),
        Some(Reached::Refused) | None => {
            let reason = backend_error(store, device)?;
            Err(if device.is_local() {
                HandshakeError::NoBackend {
                    device,
                    reason,
                    module,
                }
            } else {
                HandshakeError::NotServed { device, reason }
            })
        }
    }
}

/// Whether the domain that serves a device is there, and has not taken the nodes with it.
fn is_expected(store: &impl Nodes, device: Device) -> Result<bool, StoreFailure> {
    let there = || store.read(&format!("{}/frontend", device.backend()));
    Ok(device.is_local() || (backend::is_there(store, device.served_by)? && there()?.is_some()))
}

/// How the wait for a backend ended.
#[derive(Clone, Copy)]
enum Reached {
    /// It has seen the device.
    Ready,
    /// It does not want it.
    Refused,
    /// Its domain is no more.
    Ended,
}

/// What the backend's driver said about its failure, as ` (text)`.
fn backend_error(store: &impl Nodes, device: Device) -> Result<String, StoreFailure> {
    let path = device.backend().replacen("/backend/", "/error/backend/", 1);
    let text = store.read(&format!("{path}/error"))?;
    Ok(text.map_or_else(String::new, |text| format!(" ({text})")))
}

/// Tells both halves to end and waits for the backend to have ended. Unless forced, the
/// guest is given its time and may refuse by not answering.
///
/// # Errors
/// The store's; [`HandshakeError::Kept`].
pub fn close(store: &impl Nodes, device: Device, force: bool) -> Result<(), HandshakeError> {
    let (front, back) = (device.frontend(), device.backend());
    if state(store, &back)? == State::Unknown {
        return Ok(());
    }
    store.update(&format!("{back}/online"), "0")?;
    let ended = state(store, &back)? == State::Closed;
    if !ended {
        store.write(&[Node::new(
            format!("{back}/state"),
            State::Closing.to_string(),
        )])?;
    }
    if force {
        // Linux's backends end when their frontend's state is gone.
        store.remove(&front)?;
    }
    let closed = store.wait(&back, DETACH_LIMIT, |store| {
        let ended = matches!(state(store, &back)?, State::Closed | State::Unknown);
        // A backend whose frontend went first has ended without a word.
        let left = force && !served(store, device)?;
        Ok((ended || left).then_some(()))
    })?;
    tracing::debug!(%device, force, closed = closed.is_some(), now = %state(store, &back)?, "close");
    if closed.is_none() && !force {
        // As before, as far as we can: the guest still uses it.
        store.update(&format!("{back}/online"), "1")?;
        return Err(HandshakeError::Kept { device });
    }
    Ok(())
}

/// Whether a backend driver of dom0 has the device, or the domain is there that serves it.
fn served(store: &impl Nodes, device: Device) -> Result<bool, StoreFailure> {
    if !device.is_local() {
        return backend::is_there(store, device.served_by);
    }
    let name = format!("{}-{}-{}", device.kind.word(), device.domain, device.id);
    Ok(Path::new("/sys/bus/xen-backend/devices")
        .join(name)
        .exists())
}

/// Removes all three directories of a device, and the one that another domain has of all such
/// devices of this guest, with the last of them.
///
/// # Errors
/// The store's.
pub fn forget(store: &impl Nodes, device: Device) -> Result<(), StoreFailure> {
    store.remove(&device.frontend())?;
    store.remove(&device.backend())?;
    let folder = backends(device.served_by, device.domain, device.kind);
    if !device.is_local() && store.list(&folder)?.is_empty() {
        store.remove(&folder)?;
    }
    if !backend::is_there(store, device.served_by)? {
        // It ended before the device's nodes were written.
        store.remove(&domain_path(device.served_by))?;
    }
    store.remove(&device.record())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::FakeStore;
    use crate::device::nodes::Kind;
    use crate::sys::DomId;

    const DEVICE: Device = Device {
        domain: DomId(60000),
        kind: Kind::Vbd,
        id: 51712,
        served_by: DomId::DOM0,
    };

    fn connected() -> FakeStore {
        let store = FakeStore::default();
        store.write(&DEVICE.nodes(&[], &[])).unwrap();
        let state = |half: &str| Node::new(format!("{half}/state"), "4");
        let (front, back) = (DEVICE.frontend(), DEVICE.backend());
        store.write(&[state(&front), state(&back)]).unwrap();
        store
    }

    #[test]
    fn a_guest_that_keeps_its_device_has_it_as_before() {
        let store = connected();
        let error = close(&store, DEVICE, false).unwrap_err();
        assert!(matches!(error, HandshakeError::Kept { .. }), "{error}");
        let online = format!("{}/online", DEVICE.backend());
        assert_eq!(store.read(&online).unwrap().as_deref(), Some("1"));
        assert!(store.paths().contains(&DEVICE.frontend()));
    }

    #[test]
    fn a_guest_that_lets_go_is_waited_for() {
        let store = connected();
        let closed = (format!("{}/state", DEVICE.backend()), "6".into());
        store.while_waiting.borrow_mut().push(closed);
        close(&store, DEVICE, false).unwrap();
        forget(&store, DEVICE).unwrap();
        assert!(store.paths().is_empty(), "{:?}", store.paths());
    }

    /// Linux's block backend says nothing when its frontend's nodes went before it was asked
    /// to end, as they do with a domain that died.
    #[test]
    fn a_backend_that_has_left_is_not_waited_for() {
        let store = connected();
        store.remove(&DEVICE.frontend()).unwrap();
        close(&store, DEVICE, true).unwrap();
    }

    #[test]
    fn a_backend_that_refuses_is_named_with_its_reason() {
        let store = connected();
        let back = DEVICE.backend();
        let why = back.replacen("/backend/", "/error/backend/", 1);
        store
            .write(&[
                Node::new(format!("{back}/state"), "6"),
                Node::new(format!("{why}/error"), "2 no such device"),
            ])
            .unwrap();
        let error = await_backend(&store, DEVICE, "xen-blkback").unwrap_err();
        assert!(error.to_string().contains("2 no such device"), "{error}");
    }

    /// The same disk, served by domain 9.
    const ELSEWHERE: Device = Device {
        served_by: DomId(9),
        ..DEVICE
    };

    fn elsewhere() -> FakeStore {
        let store = FakeStore::default();
        let driver = Node::new("/local/domain/9/name", "driver");
        store.write(&[driver]).unwrap();
        store.write(&ELSEWHERE.nodes(&[], &[])).unwrap();
        store
    }

    #[test]
    fn a_domain_that_ends_while_it_is_waited_for_is_named() {
        let store = elsewhere();
        let error = await_backend(&store, ELSEWHERE, "").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("domain 9 did not take it within"), "{text}");
        store.remove(&ELSEWHERE.backend()).unwrap();
        let error = await_backend(&store, ELSEWHERE, "").unwrap_err();
        assert!(matches!(error, HandshakeError::Ended { .. }), "{error}");
        // It ended between the look for it and the writing of nodes.
        store.remove("/local/domain/9").unwrap();
        store.write(&ELSEWHERE.nodes(&[], &[])).unwrap();
        let error = await_backend(&store, ELSEWHERE, "").unwrap_err();
        assert!(matches!(error, HandshakeError::Ended { .. }), "{error}");
        forget(&store, ELSEWHERE).unwrap();
        assert!(store.paths().is_empty(), "{:?}", store.paths());
    }

    #[test]
    fn a_driver_domain_keeps_no_empty_folders() {
        let store = elsewhere();
        let closed = (format!("{}/state", ELSEWHERE.backend()), "6".into());
        store.while_waiting.borrow_mut().push(closed);
        close(&store, ELSEWHERE, true).unwrap();
        forget(&store, ELSEWHERE).unwrap();
        assert_eq!(store.paths(), ["/local/domain/9/name"]);
    }
}
