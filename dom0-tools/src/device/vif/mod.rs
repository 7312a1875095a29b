//! Network cards: their nodes, and their interface in dom0.
//!
//! Linux's network backend makes an interface `vifDOMID.N` when it sees the nodes. It is then
//! a port of a bridge, with or without a VLAN, or routed ([`wiring`]). What a card is connected to
//! that another domain serves is that domain's affair.

pub mod wiring;

use std::time::Duration;

use super::backend::{self, BackendError};
use super::handshake::{self, HandshakeError};
use super::nodes::{Device, Kind, Node, Nodes, StoreFailure};
use super::script::{self, ScriptError};
use crate::config::{Mac, Uuid, Vif};
use crate::sys::DomId;
use wiring::{Wiring, WiringError};

/// Kernel module of the backend.
const MODULE: &str = "xen-netback";

/// Bridge of a card that names none; Xen's default.
pub const DEFAULT_BRIDGE: &str = "xenbr0";

/// Scripts that this toolstack does the work of.
const BRIDGE_SCRIPT: &str = "vif-bridge";
const ROUTE_SCRIPT: &str = "vif-route";

/// How long the backend may take to make its interface.
const INTERFACE_LIMIT: Duration = Duration::from_secs(20);

/// Why a card was not attached.
#[derive(Debug, thiserror::Error)]
pub enum VifError {
    /// xenstore.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// The interface in dom0.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// Its script.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The backend.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// There is one of that number.
    #[error("{0} is there already: choose another devid, or detach it first")]
    Exists(Device),
    /// The backend's domain.
    #[error("vif {id}: {error}")]
    Backend {
        /// Number of the card.
        id: u32,
        /// What is wrong with it.
        error: BackendError,
    },
}

/// A card whose nodes are written, not yet wired.
#[must_use]
#[derive(Debug)]
pub struct Begun {
    device: Device,
    vif: Vif,
}

/// Fills in what a configuration left open about the card with the place `index` in it, so
/// that the guest finds the same card each time: number and address.
pub fn complete(vif: &mut Vif, index: u32, uuid: Uuid) {
    let id = *vif.devid.get_or_insert(index);
    vif.mac.get_or_insert_with(|| stable_mac(uuid, id));
}

/// An address that follows from the domain's UUID and the card's number.
fn stable_mac(uuid: Uuid, id: u32) -> Mac {
    // FNV-1a, 64 bits.
    let hash = uuid
        .0
        .iter()
        .chain(&id.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let [a, b, c, d, e, g, ..] = hash.to_le_bytes();
    Mac::of_xen([a ^ d, b ^ e, c ^ g])
}

impl Begun {
    /// The device.
    pub const fn device(&self) -> Device {
        self.device
    }
}

/// The device of a complete card, which another domain may serve.
fn device_of(domain: DomId, vif: &Vif, served_by: DomId) -> Device {
    Device {
        domain,
        kind: Kind::Vif,
        id: vif.devid.unwrap_or(0),
        served_by,
    }
}

/// Writes the nodes of a complete card. If it fails, nothing is left.
///
/// # Errors
/// See [`VifError`].
pub fn begin(store: &impl Nodes, domain: DomId, vif: &Vif) -> Result<Begun, VifError> {
    let id = vif.devid.unwrap_or(0);
    let served_by = backend::find(store, domain, vif.backend.as_deref())
        .map_err(|error| VifError::Backend { id, error })?;
    let device = device_of(domain, vif, served_by);
    if store
        .read(&format!("{}/backend", device.record()))?
        .is_some()
    {
        return Err(VifError::Exists(device));
    }
    if device.is_local() && own_script(vif).is_some() {
        // Before the guest sees a card that will not work.
        Wiring::of(vif).check(device)?;
    }
    store.write(&nodes(device, vif))?;
    Ok(Begun {
        device,
        vif: vif.clone(),
    })
}

/// Waits for the backend's interface and wires it.
///
/// # Errors
/// See [`VifError`]; the nodes are still there.
pub fn finish(store: &impl Nodes, begun: &Begun) -> Result<(), VifError> {
    let Begun { device, vif } = begun;
    handshake::await_backend(store, *device, MODULE)?;
    if !device.is_local() {
        return Ok(());
    }
    let own = default_interface(*device);
    let name = vif.vifname.as_deref().unwrap_or(&own);
    wiring::await_interface(*device, &own, INTERFACE_LIMIT)?;
    match own_script(vif) {
        Some(_) => Wiring::of(vif).apply(&own, name)?,
        None => {
            let script = vif.script.as_deref().unwrap_or(BRIDGE_SCRIPT);
            script::run(store, script, "online", *device, Some(&own))?;
        }
    }
    store.write(&[Node::new(
        format!("{}/hotplug-status", device.backend()),
        "connected",
    )])?;
    Ok(())
}

/// Ends a card and removes its nodes; its interface goes with the backend.
///
/// # Errors
/// See [`HandshakeError`]; unless forced the card stays if the guest keeps it.
pub fn detach(store: &impl Nodes, device: Device, force: bool) -> Result<(), VifError> {
    let record = device.record();
    let script = store.read(&format!("{record}/script"))?;
    let named = store.read(&format!("{record}/vifname"))?;
    handshake::close(store, device, force)?;
    if device.is_local()
        && let Some(script) = script
        && ![BRIDGE_SCRIPT, ROUTE_SCRIPT]
            .iter()
            .any(|own| script::path_of(own).as_os_str() == script.as_str())
    {
        let name = named.unwrap_or_else(|| default_interface(device));
        // Whatever it says, the card is gone.
        let _ = script::run(store, &script, "offline", device, Some(&name));
    }
    Ok(handshake::forget(store, device)?)
}

/// Name of the interface that the backend makes.
pub fn default_interface(device: Device) -> String {
    format!("vif{}.{}", device.domain, device.id)
}

/// The script whose work is done here, unless the card has another one.
fn own_script(vif: &Vif) -> Option<&str> {
    match vif.script.as_deref() {
        None => Some(BRIDGE_SCRIPT),
        Some(name) => [BRIDGE_SCRIPT, ROUTE_SCRIPT]
            .into_iter()
            .find(|own| *own == name || script::path_of(own).as_os_str() == name),
    }
}

/// A card's nodes.
fn nodes(device: Device, vif: &Vif) -> Vec<Node> {
    let mac = vif.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let script = script::path_of(vif.script.as_deref().unwrap_or(BRIDGE_SCRIPT));
    let mut frontend = vec![("handle", device.id.to_string()), ("mac", mac.clone())];
    let mut backend = vec![
        // Linux's backend takes no card without it.
        ("script", script.display().to_string()),
        ("mac", mac),
        ("handle", device.id.to_string()),
        ("type", "vif".into()),
    ];
    let optional = [
        ("bridge", Wiring::of(vif).bridge().map(ToOwned::to_owned)),
        ("ip", vif.ip.clone()),
        ("vifname", vif.vifname.as_ref().map(ToString::to_string)),
        (
            "gatewaydev",
            vif.gatewaydev.as_ref().map(ToString::to_string),
        ),
        ("vlan", vif.vlan.map(|vlan| vlan.to_string())),
        (
            "rate",
            vif.rate
                .map(|rate| format!("{},{}", rate.bytes_per_interval(), rate.interval_us())),
        ),
        ("mtu", vif.mtu.map(|mtu| mtu.to_string())),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            if key == "mtu" {
                frontend.push((key, value.clone()));
            }
            backend.push((key, value));
        }
    }
    backend.push(("hotplug-status", String::new()));
    device.nodes(&frontend, &backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: Uuid = Uuid([7; 16]);

    #[test]
    fn a_card_keeps_its_address() {
        let (mut first, mut second, mut other) = Default::default();
        complete(&mut first, 0, UUID);
        complete(&mut second, 0, UUID);
        complete(&mut other, 1, UUID);
        assert_eq!(first, second);
        assert_ne!(first.mac, other.mac);
        let text = first.mac.unwrap().to_string();
        assert!(text.starts_with("00:16:3e:"), "{text}");
        let mut named = Vif {
            mac: "02:00:00:00:00:01".parse().ok(),
            ..Vif::default()
        };
        complete(&mut named, 3, UUID);
        assert_eq!(named.mac.unwrap().to_string(), "02:00:00:00:00:01");
        assert_eq!(named.devid, Some(3));
    }

    #[test]
    fn nodes_that_linux_needs() {
        let mut vif = Vif {
            rate: "10Mb/s".parse().ok(),
            ..Vif::default()
        };
        complete(&mut vif, 0, UUID);
        let device = Device {
            domain: DomId(4),
            kind: Kind::Vif,
            id: 0,
            served_by: DomId::DOM0,
        };
        let nodes = nodes(device, &vif);
        let back = "/local/domain/0/backend/vif/4/0";
        for (key, value) in [
            ("script", "/etc/xen/scripts/vif-bridge"),
            ("handle", "0"),
            ("bridge", DEFAULT_BRIDGE),
            ("rate", "62500,50000"),
            ("online", "1"),
        ] {
            let path = format!("{back}/{key}");
            let node = nodes.iter().find(|node| node.path == path);
            assert_eq!(node.map(|node| node.value.as_str()), Some(value), "{key}");
        }
    }

    #[test]
    fn names_vlans_routes_and_scripts_reach_the_nodes() {
        let device = Device {
            domain: DomId(4),
            kind: Kind::Vif,
            id: 0,
            served_by: DomId::DOM0,
        };
        for (text, present, absent) in [
            (
                "vifname = \"web0\"\nvlan = 7\nmtu = 1400\nbridge = \"br1\"",
                &[
                    ("vifname", "web0"),
                    ("vlan", "7"),
                    ("mtu", "1400"),
                    ("bridge", "br1"),
                ][..],
                "gatewaydev",
            ),
            (
                "script = \"vif-route\"\ngatewaydev = \"eth0\"\nip = \"10.0.0.2\"",
                &[
                    ("script", "/etc/xen/scripts/vif-route"),
                    ("gatewaydev", "eth0"),
                    ("ip", "10.0.0.2"),
                ],
                "bridge",
            ),
            (
                "script = \"/opt/vif-mine\"",
                &[("script", "/opt/vif-mine"), ("bridge", DEFAULT_BRIDGE)],
                "vlan",
            ),
        ] {
            let mut vif = Vif::from_toml(text).unwrap();
            complete(&mut vif, 0, UUID);
            let nodes = nodes(device, &vif);
            let value = |key: &str| {
                let path = format!("/local/domain/0/backend/vif/4/0/{key}");
                let node = nodes.iter().find(|node| node.path == path);
                node.map(|node| node.value.as_str())
            };
            for &(key, wanted) in present {
                assert_eq!(value(key), Some(wanted), "{text}");
            }
            assert_eq!(value(absent), None, "{text}");
        }
    }

    #[test]
    fn only_xens_two_scripts_are_done_here() {
        let own = |script: &str| {
            let vif = Vif::from_toml(&format!("script = \"{script}\"")).unwrap();
            own_script(&vif).map(ToOwned::to_owned)
        };
        assert_eq!(own("vif-route").as_deref(), Some(ROUTE_SCRIPT));
        let path = "/etc/xen/scripts/vif-bridge";
        assert_eq!(own(path).as_deref(), Some(BRIDGE_SCRIPT));
        assert_eq!(own("vif-openvswitch"), None);
        assert_eq!(own("/opt/vif-bridge"), None);
    }
}
