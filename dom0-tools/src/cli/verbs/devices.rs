//! `block-*` and `network-*`.

use std::fmt::Write;

use serde::Serialize;

use super::create::unexpected;
use super::life::ask;
use crate::cli::args::{BlockAttach, BlockDetach, NetworkAttach, NetworkDetach, Several};
use crate::cli::exit::{Exit, Fail};
use crate::cli::out::{Out, note};
use crate::cli::world::{World, find, find_guest};
use crate::config::{DomainConfig, Mac, Vdev, xl};
use crate::domain::protocol::{Request, Response};
use crate::sys::DomId;

/// A device that was added.
#[derive(Debug, Serialize)]
struct Attached {
    domid: u16,
    device: u32,
}

/// One disk or card, as xenstore has it.
#[derive(Debug, Serialize)]
struct Device {
    domid: u16,
    /// Number in xenstore.
    device: u32,
    /// A disk's name; absent for cards.
    #[serde(skip_serializing_if = "Option::is_none")]
    vdev: Option<String>,
    /// A card's address; absent for disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    backend_domid: u32,
    handle: Option<u32>,
    /// `XenbusState`: 4 is connected.
    state: Option<u32>,
    event_channel: Option<u32>,
    /// Grants of its rings.
    ring_refs: Vec<u32>,
    backend: String,
}

/// `block-attach`
///
/// # Errors
/// The disk is wrong, there is no such guest, or `oxd`'s.
pub fn block_attach(world: &dyn World, args: &BlockAttach, out: &mut Out<'_>) -> Result<(), Fail> {
    let spec = args.spec.join(",");
    let disk = xl::disk::read(&spec, &mut warn).map_err(|bad| wrong("disk", &bad))?;
    let mut holder = only_devices()?;
    holder.disk.push(disk);
    let here = std::env::current_dir().map_err(|error| Fail::file("current folder", &error))?;
    let holder = holder.with_paths_from(&here);
    let disk = holder.disk[0].to_toml();
    // Checked as `oxd` will, for an error that needs no `oxd`.
    crate::config::Disk::from_toml(&disk)?;
    let domain = find_guest(world, &args.domain, "block-attach")?.id.0;
    attached(world, domain, &Request::BlockAttach { domain, disk }, out)
}

/// A configuration for nothing but its devices' paths.
fn only_devices() -> Result<DomainConfig, Fail> {
    Ok(DomainConfig::from_toml(
        "name = \"x\"\nkernel = \"/\"\nmemory = 1\n",
        "spec",
    )?)
}

/// `network-attach`
///
/// # Errors
/// The card is wrong, there is no such guest, or `oxd`'s.
pub fn network_attach(
    world: &dyn World,
    args: &NetworkAttach,
    out: &mut Out<'_>,
) -> Result<(), Fail> {
    let spec = args.spec.join(",");
    let vif = xl::vif::read(&spec, &mut warn).map_err(|bad| wrong("vif", &bad))?;
    let vif = vif.to_toml();
    crate::config::Vif::from_toml(&vif)?;
    let domain = find_guest(world, &args.domain, "network-attach")?.id.0;
    attached(world, domain, &Request::NetworkAttach { domain, vif }, out)
}

fn warn(text: String) {
    note(&format!("warning: {text}"));
}

fn wrong(key: &str, text: &str) -> Fail {
    Fail::new(Exit::Usage, format!("{key}: {text}"))
}

fn attached(
    world: &dyn World,
    domid: u16,
    request: &Request,
    out: &mut Out<'_>,
) -> Result<(), Fail> {
    match ask(world, request)? {
        Response::Attached { device } if out.json() => {
            out.show(&Attached { domid, device }, |_| String::new())
        }
        // Like xl: nothing to say.
        Response::Attached { .. } => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// `block-detach`
///
/// # Errors
/// There is no such guest or disk, or `oxd`'s.
pub fn block_detach(world: &dyn World, args: &BlockDetach) -> Result<(), Fail> {
    let guest = find_guest(world, &args.domain, "block-detach")?;
    let vdev: Vdev = args
        .device
        .parse()
        .map_err(|bad| wrong("disk", &format!("{bad}")))?;
    let devices = devices(world, guest.id, "vbd")?;
    if !devices.iter().any(|d| d.device == vdev.number()) {
        return Err(none(&guest.name, "disk", &args.device, "block-list"));
    }
    let request = Request::BlockDetach {
        domain: guest.id.0,
        device: vdev.number(),
        force: args.force,
    };
    ask(world, &request).map(drop)
}

/// `network-detach`
///
/// # Errors
/// There is no such guest or card, or `oxd`'s.
pub fn network_detach(world: &dyn World, args: &NetworkDetach) -> Result<(), Fail> {
    let guest = find_guest(world, &args.domain, "network-detach")?;
    let devices = devices(world, guest.id, "vif")?;
    let mac = args.device.parse::<Mac>().ok().map(|mac| mac.to_string());
    let number = args.device.parse::<u32>().ok();
    let wanted = |d: &&Device| Some(d.device) == number || (mac.is_some() && d.mac == mac);
    let Some(device) = devices.iter().find(wanted).map(|d| d.device) else {
        return Err(none(
            &guest.name,
            "network card",
            &args.device,
            "network-list",
        ));
    };
    let request = Request::NetworkDetach {
        domain: guest.id.0,
        device,
        force: args.force,
    };
    ask(world, &request).map(drop)
}

fn none(name: &str, kind: &str, device: &str, list: &str) -> Fail {
    Fail::new(
        Exit::NotFound,
        format!("{name} has no {kind} `{device}`: `ox {list} {name}` shows what it has"),
    )
}

/// `block-list` and `network-list`
///
/// # Errors
/// There is no such domain, or xenstore cannot be read.
pub fn list(world: &dyn World, args: &Several, kind: &str, out: &mut Out<'_>) -> Result<(), Fail> {
    let mut all = Vec::new();
    for domain in &args.domains {
        let found = find(world, domain)?;
        all.extend(devices(world, found.id, kind)?);
    }
    out.show(&all, |all| match kind {
        "vbd" => disks(all),
        _ => cards(all),
    })
}

/// Devices of a kind, by the tools' own record of them (`/libxl`), which no guest can write.
fn devices(world: &dyn World, domain: DomId, kind: &str) -> Result<Vec<Device>, Fail> {
    let folder = format!("/libxl/{domain}/device/{kind}");
    let mut numbers: Vec<u32> = world
        .list(&folder)?
        .iter()
        .filter_map(|number| number.parse().ok())
        .collect();
    numbers.sort_unstable();
    let mut devices = Vec::new();
    for device in numbers {
        let record = |key: &str| world.read(&format!("{folder}/{device}/{key}"));
        let Some(backend) = record("backend")? else {
            continue;
        };
        let frontend = format!("/local/domain/{domain}/device/{kind}/{device}");
        let at = |folder: &str, key: &str| world.read(&format!("{folder}/{key}"));
        let number = |text: Option<String>| text.and_then(|text| text.trim().parse::<u32>().ok());
        let rings = ["ring-ref", "tx-ring-ref", "rx-ring-ref"];
        let mut ring_refs = Vec::new();
        for key in rings {
            ring_refs.extend(number(at(&frontend, key)?));
        }
        let is_disk = kind == "vbd";
        devices.push(Device {
            domid: domain.0,
            device,
            vdev: is_disk.then(|| Vdev::from_number(device).to_string()),
            mac: if is_disk { None } else { at(&backend, "mac")? },
            backend_domid: number(record("backend-id")?)
                .or_else(|| backend.split('/').nth(3)?.parse().ok())
                .unwrap_or(0),
            handle: number(at(&backend, "handle")?).or_else(|| is_disk.then_some(device)),
            state: number(at(&frontend, "state")?),
            event_channel: number(at(&frontend, "event-channel")?),
            ring_refs,
            backend,
        });
    }
    Ok(devices)
}

/// A number, or `-1` as `xl` prints what is not there.
fn or_none(number: Option<u32>) -> String {
    number.map_or_else(|| "-1".into(), |number| number.to_string())
}

fn disks(disks: &[Device]) -> String {
    let mut text = format!(
        "{:<5} {:<3} {:<6} {:<5} {:<6} {:<8} BE-path\n",
        "Vdev", "BE", "handle", "state", "evt-ch", "ring-ref"
    );
    for disk in disks {
        let _ = writeln!(
            text,
            "{:<5} {:<3} {:<6} {:<5} {:<6} {:<8} {}",
            disk.device,
            disk.backend_domid,
            disk.domid,
            or_none(disk.state),
            or_none(disk.event_channel),
            or_none(disk.ring_refs.first().copied()),
            disk.backend
        );
    }
    text
}

fn cards(cards: &[Device]) -> String {
    let mut text = format!(
        "{:<3} {:<2} {:<17} {:<6} {:<5} {:<6} {:>5}/{:<11} BE-path\n",
        "Idx", "BE", "Mac Addr.", "handle", "state", "evt-ch", "tx-", "rx-ring-ref"
    );
    for card in cards {
        let _ = writeln!(
            text,
            "{:<3} {:<2} {:<17} {:>6} {:>5} {:>6} {:>5}/{:<11} {}",
            card.device,
            card.backend_domid,
            card.mac.as_deref().unwrap_or("-"),
            or_none(card.handle),
            or_none(card.state),
            or_none(card.event_channel),
            or_none(card.ring_refs.first().copied()),
            or_none(card.ring_refs.get(1).copied()),
            card.backend
        );
    }
    text
}
