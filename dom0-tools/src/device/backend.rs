//! Which domain serves a device, and what becomes of devices whose domain ends.
//!
//! A frontend learns of its backend's end by the backend's state alone. So before the nodes of a
//! domain that served devices go, they say that these are closed, and the guests are given a
//! moment to look. Their own nodes stay, until somebody detaches the device: removed under a guest
//! that waits for an answer, they would stop its kernel's device thread.

use std::time::{Duration, Instant};

use super::nodes::{
    Device, Kind, Node, Nodes, Permissions, State, StoreFailure, TOOLS_DOMAIN, devices,
    domain_path, state,
};
use crate::config;
use crate::sys::DomId;

/// How long guests may take to see that the domain of their devices has ended.
const NOTICE_LIMIT: Duration = Duration::from_secs(5);

/// Why a domain cannot serve a device.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// xenstore.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// There is none.
    #[error(
        "backend: there is no domain {0}: create it first, or leave `backend` out to have dom0 serve it"
    )]
    Absent(String),
    /// It would wait for itself.
    #[error("backend: domain {0} cannot serve its own device: name another domain")]
    Itself(String),
}

/// The domain that a device of `guest` names as its backend, by name or number; none: dom0.
///
/// # Errors
/// See [`BackendError`].
pub fn find(store: &impl Nodes, guest: DomId, named: Option<&str>) -> Result<DomId, BackendError> {
    let Some(name) = named else {
        return Ok(TOOLS_DOMAIN);
    };
    if config::is_dom0(name) {
        return Ok(TOOLS_DOMAIN);
    }
    let found = match name.parse().ok().map(DomId) {
        Some(number) => is_there(store, number)?.then_some(number),
        None => by_name(store, name)?,
    };
    match found {
        Some(domain) if domain == guest => Err(BackendError::Itself(name.to_owned())),
        Some(domain) => Ok(domain),
        None => Err(BackendError::Absent(name.to_owned())),
    }
}

fn by_name(store: &impl Nodes, wanted: &str) -> Result<Option<DomId>, StoreFailure> {
    for number in store.list("/local/domain")? {
        let Ok(number) = number.parse() else { continue };
        let domain = DomId(number);
        if name(store, domain)?.as_deref() == Some(wanted) {
            return Ok(Some(domain));
        }
    }
    Ok(None)
}

fn name(store: &impl Nodes, domain: DomId) -> Result<Option<String>, StoreFailure> {
    store.read(&format!("{}/name", domain_path(domain)))
}

/// Whether there is such a domain, as the store knows it.
///
/// # Errors
/// The store's.
pub fn is_there(store: &impl Nodes, domain: DomId) -> Result<bool, StoreFailure> {
    Ok(domain == TOOLS_DOMAIN || name(store, domain)?.is_some())
}

/// The devices that a domain serves to others.
fn served_by(store: &impl Nodes, domain: DomId) -> Result<Vec<Device>, StoreFailure> {
    let mut found = Vec::new();
    for guest in store.list("/libxl")? {
        let Ok(number) = guest.parse() else { continue };
        for kind in Kind::ALL {
            let all = devices(store, DomId(number), kind)?;
            found.extend(all.into_iter().filter(|device| device.served_by == domain));
        }
    }
    Ok(found)
}

/// Tells the guests whose devices a domain serves that these are closed, and waits a moment for
/// them. The domain must not run any more.
///
/// # Errors
/// The store's.
pub fn domain_ends(store: &impl Nodes, domain: DomId) -> Result<(), StoreFailure> {
    let mut told = Vec::new();
    for device in served_by(store, domain)? {
        if has_noticed(store, device)? {
            continue;
        }
        let back = device.backend();
        let access = Permissions::read_by(TOOLS_DOMAIN, device.domain);
        store.write(&[
            // Not there any more if the store has heard of the end first.
            Node::directory(&back, access.clone()),
            Node {
                access: Some(access),
                ..Node::new(format!("{back}/state"), State::Closed.to_string())
            },
        ])?;
        told.push(device);
    }
    let end = Instant::now() + NOTICE_LIMIT;
    for device in told {
        let left = end.saturating_duration_since(Instant::now());
        let noticed = store.wait(&device.frontend(), left, |store| {
            Ok(has_noticed(store, device)?.then_some(()))
        })?;
        let noticed = noticed.is_some();
        tracing::info!(%device, domain = domain.0, noticed, "its domain ends");
    }
    Ok(())
}

/// Whether the guest uses a device no longer.
fn has_noticed(store: &impl Nodes, device: Device) -> Result<bool, StoreFailure> {
    let now = state(store, &device.frontend())?;
    Ok(matches!(now, State::Closed | State::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::FakeStore;

    const GUEST: DomId = DomId(3);

    fn store() -> FakeStore {
        let store = FakeStore::default();
        for (domain, name) in [(0, "Domain-0"), (3, "guest"), (9, "driver")] {
            let path = format!("/local/domain/{domain}/name");
            store.write(&[Node::new(path, name)]).unwrap();
        }
        store
    }

    #[test]
    fn a_backend_is_found_by_name_and_by_number() {
        let store = store();
        let find = |named| find(&store, GUEST, named);
        for (named, domain) in [
            (None, 0),
            (Some("0"), 0),
            (Some("Domain-0"), 0),
            (Some("driver"), 9),
            (Some("9"), 9),
        ] {
            assert_eq!(find(named).unwrap(), DomId(domain), "{named:?}");
        }
        let text = |named| find(Some(named)).unwrap_err().to_string();
        assert!(text("driver2").contains("there is no domain driver2"));
        assert!(text("8").contains("there is no domain 8"));
        for own in ["guest", "3"] {
            assert!(text(own).contains("cannot serve its own device"), "{own}");
        }
    }

    #[test]
    fn guests_are_told_that_the_domain_of_their_devices_ends() {
        let store = store();
        let device = |id, by| Device {
            domain: GUEST,
            kind: Kind::Vbd,
            id,
            served_by: DomId(by),
        };
        let (gone, local) = (device(51712, 9), device(51728, 0));
        for device in [gone, local] {
            store.write(&device.nodes(&[], &[])).unwrap();
        }
        let noticed = (format!("{}/state", gone.frontend()), "6".into());
        store.while_waiting.borrow_mut().push(noticed);
        domain_ends(&store, DomId(9)).unwrap();
        let now = |half: String| state(&store, &half).unwrap();
        assert_eq!(now(gone.backend()), State::Closed);
        assert_eq!(now(local.backend()), State::Initialising);
        // The guest has it still, until it is detached.
        assert_eq!(devices(&store, GUEST, Kind::Vbd).unwrap(), [gone, local]);
        // And when the domain's nodes are gone, nobody is told twice.
        store.remove("/local/domain/9").unwrap();
        domain_ends(&store, DomId(9)).unwrap();
        assert_eq!(now(gone.backend()), State::Unknown);
    }
}
