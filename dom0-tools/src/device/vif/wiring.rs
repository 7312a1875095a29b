//! What a card's interface in dom0 is connected to.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{DEFAULT_BRIDGE, ROUTE_SCRIPT};
use crate::config::Vif;
use crate::device::nodes::Device;
use crate::sys::NetControl;

/// Address of every backend's interface: the highest, so that no bridge takes it for its own.
const INTERFACE_MAC: [u8; 6] = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Why an interface was not connected.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// No such bridge.
    #[error(
        "{device}: dom0 has no bridge {bridge}; make it (`ip link add {bridge} type bridge`), or name another"
    )]
    NoBridge {
        /// Which card.
        device: Device,
        /// What it names.
        bridge: String,
    },
    /// The bridge knows no VLANs.
    #[error("bridge {0} does not tell VLANs apart: `ip link set {0} type bridge vlan_filtering 1`")]
    NoVlans(String),
    /// The backend made no interface.
    #[error("{device}: the backend made no interface {interface}")]
    NoInterface {
        /// Which card.
        device: Device,
        /// What was expected.
        interface: String,
    },
    /// One step of it.
    #[error("interface {interface}: {step}: {error}")]
    Step {
        /// Whose.
        interface: String,
        /// What was attempted.
        step: String,
        /// The kernel's reason.
        error: io::Error,
    },
}

/// What an interface is connected to, and how.
#[derive(Debug)]
pub struct Wiring<'a> {
    vif: &'a Vif,
}

impl<'a> Wiring<'a> {
    /// As a card's configuration has it.
    pub const fn of(vif: &'a Vif) -> Self {
        Self { vif }
    }

    fn routed(&self) -> bool {
        self.vif
            .script
            .as_deref()
            .is_some_and(|script| script.ends_with(ROUTE_SCRIPT))
            || (self.vif.bridge.is_none() && self.vif.gatewaydev.is_some())
    }

    /// The bridge it is a port of; none if it is routed.
    pub fn bridge(&self) -> Option<&'a str> {
        (!self.routed()).then(|| self.vif.bridge.as_deref().unwrap_or(DEFAULT_BRIDGE))
    }

    /// Whether dom0 has what it needs.
    ///
    /// # Errors
    /// [`WiringError::NoBridge`], [`WiringError::NoVlans`].
    pub fn check(&self, device: Device) -> Result<(), WiringError> {
        let Some(bridge) = self.bridge() else {
            return Ok(());
        };
        let folder = format!("/sys/class/net/{bridge}/bridge");
        if !Path::new(&folder).exists() {
            return Err(WiringError::NoBridge {
                device,
                bridge: bridge.to_owned(),
            });
        }
        let filtering = std::fs::read_to_string(format!("{folder}/vlan_filtering"));
        if self.vif.vlan.is_some() && filtering.is_ok_and(|text| text.trim() == "0") {
            return Err(WiringError::NoVlans(bridge.to_owned()));
        }
        Ok(())
    }

    /// Connects the interface `own`, which is then called `name`, and lets it work.
    ///
    /// # Errors
    /// [`WiringError::Step`].
    pub fn apply(&self, own: &str, name: &str) -> Result<(), WiringError> {
        let step = |step: &str| {
            let (interface, step) = (name.to_owned(), step.to_owned());
            move |error| WiringError::Step {
                interface,
                step,
                error,
            }
        };
        let net = NetControl::open().map_err(step("socket"))?;
        if own != name {
            net.rename(own, name)
                .map_err(step(&format!("cannot be called so instead of {own}")))?;
        }
        net.set_mac(name, INTERFACE_MAC).map_err(step("address"))?;
        let mtu = match (self.vif.mtu, self.bridge()) {
            (Some(mtu), _) => Some(i32::from(mtu)),
            (None, Some(bridge)) => net.mtu(bridge).ok(),
            (None, None) => None,
        };
        if let Some(mtu) = mtu {
            net.set_mtu(name, mtu)
                .map_err(step(&format!("MTU of {mtu}")))?;
        }
        match self.bridge() {
            Some(bridge) => {
                net.bridge_add(bridge, name)
                    .map_err(step(&format!("as port of bridge {bridge}")))?;
                if let Some(vlan) = self.vif.vlan {
                    net.set_port_vlan(name, vlan)
                        .map_err(step(&format!("VLAN {vlan}")))?;
                }
                net.set_up(name, true).map_err(step("up"))
            }
            None => {
                net.set_up(name, true).map_err(step("up"))?;
                self.route(name)
            }
        }
    }

    /// Addresses that the guest may use.
    fn addresses(&self) -> impl Iterator<Item = &'a str> {
        self.vif.ip.iter().flat_map(|ip| ip.split_whitespace())
    }

    /// Routes to the guest's addresses, as Xen's script `vif-route` sets them.
    fn route(&self, name: &str) -> Result<(), WiringError> {
        let set = |path: &str| std::fs::write(path, "1\n");
        let step = |step: String, error| WiringError::Step {
            interface: name.to_owned(),
            step,
            error,
        };
        let conf = format!("/proc/sys/net/ipv4/conf/{name}");
        set("/proc/sys/net/ipv4/ip_forward")
            .and_then(|()| set(&format!("{conf}/proxy_arp")))
            .map_err(|error| step("forwarding".into(), error))?;
        for address in self.addresses() {
            match route_to(address, name).output() {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    let error = io::Error::other(text);
                    return Err(step(format!("route to {address}"), error));
                }
                Err(error) => return Err(step(format!("route to {address} by `ip`"), error)),
            }
        }
        Ok(())
    }
}

/// What makes the route to an address.
fn route_to(address: &str, interface: &str) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["route", "replace", address, "dev", interface])
        .stdin(Stdio::null());
    command
}

/// Waits until the backend's interface is there.
///
/// # Errors
/// [`WiringError::NoInterface`].
pub fn await_interface(
    device: Device,
    interface: &str,
    limit: Duration,
) -> Result<(), WiringError> {
    let path = format!("/sys/class/net/{interface}");
    let end = Instant::now() + limit;
    while !Path::new(&path).exists() {
        if Instant::now() >= end {
            return Err(WiringError::NoInterface {
                device,
                interface: interface.to_owned(),
            });
        }
        // sysfs tells nobody of new directories; the backend makes it before it says that it
        // is ready, so this is the exception.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::nodes::Kind;
    use crate::sys::DomId;

    const CARD: Device = Device {
        domain: DomId(4),
        kind: Kind::Vif,
        id: 1,
        served_by: DomId::DOM0,
    };

    fn vif(text: &str) -> Vif {
        Vif::from_toml(text).unwrap()
    }

    #[test]
    fn a_card_is_bridged_unless_it_asks_to_be_routed() {
        for (text, bridge) in [
            ("", Some(DEFAULT_BRIDGE)),
            ("bridge = \"br1\"", Some("br1")),
            ("bridge = \"br1\"\ngatewaydev = \"eth0\"", Some("br1")),
            ("script = \"vif-bridge\"\nvlan = 7", Some(DEFAULT_BRIDGE)),
            ("gatewaydev = \"eth0\"", None),
            ("script = \"vif-route\"", None),
            (
                "script = \"/etc/xen/scripts/vif-route\"\nbridge = \"br1\"",
                None,
            ),
        ] {
            assert_eq!(Wiring::of(&vif(text)).bridge(), bridge, "{text}");
        }
    }

    #[test]
    fn a_bridge_that_is_not_there_is_named_and_a_routed_card_needs_none() {
        let missing = vif("bridge = \"no-such-br\"");
        let text = Wiring::of(&missing).check(CARD).unwrap_err().to_string();
        assert!(
            text.contains("dom0 has no bridge no-such-br; make it"),
            "{text}"
        );
        let routed = vif("script = \"vif-route\"\nip = \"10.0.0.2\"");
        assert!(Wiring::of(&routed).check(CARD).is_ok());
    }

    #[test]
    fn each_address_of_a_routed_card_gets_its_route() {
        let card = vif("script = \"vif-route\"\nip = \"10.0.0.2  10.1.0.0/24\"");
        let routes: Vec<String> = Wiring::of(&card)
            .addresses()
            .map(|address| {
                let command = route_to(address, "vif4.1");
                let args = command.get_args().map(|arg| arg.to_string_lossy());
                args.collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(
            routes,
            [
                "route replace 10.0.0.2 dev vif4.1",
                "route replace 10.1.0.0/24 dev vif4.1"
            ]
        );
    }
}
