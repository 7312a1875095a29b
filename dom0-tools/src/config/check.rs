//! What single values cannot tell: rules between keys. For both forms.

use std::collections::BTreeSet;

use super::model::{Channel, ChannelConnection, Disk, DiskFormat, DomainConfig, Vif};
use super::problem::{Place, Report};
use super::value::{Action, check_path};

/// Most vCPUs of a PV guest here. Xen's own limit is 8192; what is beyond the structures
/// that a guest shares (`XEN_LEGACY_MAX_VCPUS`, 32) needs `VCPUOP_register_vcpu_info`.
pub const MOST_VCPUS: u32 = 512;

/// Longest kernel command line, bytes, with its NUL (`MAX_GUEST_CMDLINE` of
/// `start_info`).
pub const CMDLINE_BYTES: usize = 1024;

/// Least memory in which a PV domain can be built at all.
const LEAST_KIB: u64 = 1024;

/// Checks a whole configuration; `place` finds a key in the file.
pub(super) fn check(config: &DomainConfig, place: &dyn Fn(&str) -> Place, report: &mut Report) {
    boot(config, place, report);
    sizes(config, place, report);
    actions(config, place, report);
    for disk_ in &config.disk {
        disk(disk_, place("disk"), report);
    }
    for vif_ in &config.vif {
        vif(vif_, place("vif"), report);
    }
    for channel_ in &config.channel {
        channel(channel_, place("channel"), report);
    }
    twice(config, place, report);
}

fn boot(config: &DomainConfig, place: &dyn Fn(&str) -> Place, report: &mut Report) {
    if config.kernel.is_none() && config.bootloader.is_none() {
        report.error(
            Place::default(),
            "kernel",
            "missing: name the guest's kernel file (or a `bootloader` that finds one)",
        );
    }
    if config.bootloader.is_some() && config.disk.is_empty() {
        report.error(
            place("bootloader"),
            "bootloader",
            "it looks for a kernel on the first disk, but there is no `disk`",
        );
    }
    if config.bootloader.is_some() && config.kernel.is_some() {
        report.warn(
            place("kernel"),
            "kernel",
            "not used: `bootloader` finds the kernel",
        );
    }
    for (key, path) in [
        ("kernel", &config.kernel),
        ("ramdisk", &config.ramdisk),
        ("bootloader", &config.bootloader),
    ] {
        if let Some(Err(bad)) = path.as_deref().map(check_path) {
            report.error(place(key), key, bad.0);
        }
    }
    if config.cmdline.len() >= CMDLINE_BYTES {
        report.error(
            place("cmdline"),
            "cmdline",
            format!(
                "{} bytes, at most {} fit (`root` and `extra` count too)",
                config.cmdline.len(),
                CMDLINE_BYTES - 1
            ),
        );
    }
    if config.cmdline.contains(['\0', '\n']) {
        report.error(
            place("cmdline"),
            "cmdline",
            "it may hold neither NUL nor newline",
        );
    }
}

fn sizes(config: &DomainConfig, place: &dyn Fn(&str) -> Place, report: &mut Report) {
    if config.memory.kib() < LEAST_KIB {
        report.error(
            place("memory"),
            "memory",
            format!(
                "{} KiB is too little for any guest, 1 MiB is the least",
                config.memory.kib()
            ),
        );
    }
    if config.max_memory() < config.memory {
        report.error(
            place("maxmem"),
            "maxmem",
            format!(
                "{} MiB is less than `memory`, {} MiB",
                config.max_memory(),
                config.memory
            ),
        );
    }
    let most = match config.maxvcpus {
        Some(_) => "maxvcpus",
        None => "vcpus",
    };
    for (key, count) in [("vcpus", config.vcpus), (most, config.max_vcpus())] {
        if !(1..=MOST_VCPUS).contains(&count) {
            report.error(
                place(key),
                key,
                format!("{count}: a guest has 1 to {MOST_VCPUS} vCPUs"),
            );
            break;
        }
    }
    if config.max_vcpus() < config.vcpus {
        report.error(
            place("maxvcpus"),
            "maxvcpus",
            format!(
                "{} is less than `vcpus`, {}",
                config.max_vcpus(),
                config.vcpus
            ),
        );
    }
    if config.cpu_weight == Some(0) {
        report.error(place("cpu_weight"), "cpu_weight", "a weight is 1 to 65535");
    }
    if config.max_event_channels == Some(0) {
        report.error(
            place("max_event_channels"),
            "max_event_channels",
            "without event channels a guest has no console and no disk: at least 1",
        );
    }
    for (key, frames) in [
        ("max_grant_frames", config.max_grant_frames),
        ("max_maptrack_frames", config.max_maptrack_frames),
    ] {
        if frames.is_some_and(|frames| frames > i32::MAX as u32) {
            report.error(place(key), key, format!("at most {} pages", i32::MAX));
        }
    }
}

fn actions(config: &DomainConfig, place: &dyn Fn(&str) -> Place, report: &mut Report) {
    for (key, action) in [
        ("on_poweroff", config.on_poweroff),
        ("on_reboot", config.on_reboot),
        ("on_crash", config.on_crash),
        ("on_watchdog", config.on_watchdog),
    ] {
        if action == Action::SoftReset {
            report.error(
                place(key),
                key,
                "`soft-reset` is for `on_soft_reset` alone: PV guests start anew with `restart`",
            );
        }
    }
}

/// One disk.
pub(super) fn disk(disk: &Disk, at: Place, report: &mut Report) {
    let name = &disk.vdev;
    match &disk.target {
        Some(target) => {
            if let Err(bad) = check_path(target) {
                report.error(at, "disk", format!("{name}: target: {bad}"));
            }
            if disk.format == DiskFormat::Empty {
                report.error(at, "disk", format!("{name}: format `empty` has no target"));
            }
        }
        None if disk.format == DiskFormat::Empty && disk.cdrom => {}
        None => report.error(
            at,
            "disk",
            format!(
                "{name}: no target: name the file or device (only a CD-ROM drive can be `empty`)"
            ),
        ),
    }
    backend(disk.backend.as_deref(), "disk", at, report);
}

/// One network card.
pub(super) fn vif(vif: &Vif, at: Place, report: &mut Report) {
    if vif.mtu.is_some_and(|mtu| mtu < 68) {
        report.error(at, "vif", "mtu: at least 68 (IPv4's least)");
    }
    if vif.vlan.is_some_and(|vlan| !(1..=4094).contains(&vlan)) {
        report.error(at, "vif", "vlan: 1 to 4094");
    }
    if let Some(ip) = &vif.ip {
        for one in ip.split_whitespace() {
            let address = one.split_once('/').map_or(one, |(address, _)| address);
            if address.parse::<std::net::IpAddr>().is_err() {
                report.error(at, "vif", format!("ip: `{one}` is no IP address"));
            }
        }
    }
    backend(vif.backend.as_deref(), "vif", at, report);
}

fn channel(channel: &Channel, at: Place, report: &mut Report) {
    let name = &channel.name;
    match (channel.connection, &channel.path) {
        (ChannelConnection::Socket, None) => {
            report.error(at, "channel", format!("{name}: a socket needs a `path`"));
        }
        (ChannelConnection::Pty, Some(_)) => {
            report.error(at, "channel", format!("{name}: a pty has no `path`"));
        }
        (_, Some(path)) => {
            if let Err(bad) = check_path(path) {
                report.error(at, "channel", format!("{name}: path: {bad}"));
            }
        }
        (ChannelConnection::Pty, None) => {}
    }
    backend(channel.backend.as_deref(), "channel", at, report);
}

/// A backend's domain: a name or an id.
fn backend(domain: Option<&str>, key: &str, at: Place, report: &mut Report) {
    if let Some(domain) = domain
        && domain.parse::<u16>().is_err()
        && let Err(bad) = domain.parse::<super::value::DomainName>()
    {
        report.error(at, key, format!("backend: {bad}"));
    }
}

/// What may be there only once.
fn twice(config: &DomainConfig, place: &dyn Fn(&str) -> Place, report: &mut Report) {
    let mut numbers = BTreeSet::new();
    for disk in &config.disk {
        if !numbers.insert(disk.vdev.number()) {
            report.error(
                place("disk"),
                "disk",
                format!("{} is there twice", disk.vdev),
            );
        }
    }
    let mut macs = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut interfaces = BTreeSet::new();
    for vif in &config.vif {
        if let Some(mac) = vif.mac
            && !macs.insert(mac)
        {
            report.error(place("vif"), "vif", format!("mac {mac} is there twice"));
        }
        if let Some(id) = vif.devid
            && !ids.insert(id)
        {
            report.error(place("vif"), "vif", format!("devid {id} is there twice"));
        }
        if let Some(name) = &vif.vifname
            && !interfaces.insert(name)
        {
            report.error(
                place("vif"),
                "vif",
                format!("vifname {name} is there twice"),
            );
        }
    }
    let mut names = BTreeSet::new();
    for channel in &config.channel {
        if !names.insert(&channel.name) {
            report.error(
                place("channel"),
                "channel",
                format!("name {} is there twice", channel.name),
            );
        }
    }
}
