//! Key by key from `xl.cfg` to [`DomainConfig`]. What each key means: `xl.cfg(5)`.

use std::fmt::Display;
use std::str::FromStr;

use super::keys::{self, State};
use super::settings::{Item, Settings};
use super::syntax::Kind;
use super::{disk, vif};
use crate::config::MOST_VCPUS;
use crate::config::model::{Channel, ChannelConnection, DomainConfig};
use crate::config::problem::Place;
use crate::config::value::{Action, Affinity, CpuSet, Memory, TscMode};

/// Memory if the file says none, MiB (libxl's default).
const DEFAULT_MIB: u64 = 32;

/// The configuration; `None` if it has no name, which is then in the report.
pub fn lower(from: &mut Settings) -> Option<DomainConfig> {
    kind(from);
    let name = from.parsed("name");
    if name.is_none() && from.place("name") == Place::default() {
        from.report
            .error(Place::default(), "name", "missing: every domain has a name");
    }
    let uuid = from.parsed("uuid");
    let memory = memory(from, "memory").unwrap_or_else(|| {
        if from.place("memory") == Place::default() {
            let text = format!("missing: the guest gets {DEFAULT_MIB} MiB, as from xl");
            from.report.warn(Place::default(), "memory", text);
        }
        default_memory()
    });
    let maxmem = self::memory(from, "maxmem");
    let maxvcpus = from.number("maxvcpus", 1..=MOST_VCPUS);
    let vcpus = from.number("vcpus", 1..=MOST_VCPUS).unwrap_or(1);
    let cmdline = cmdline(from);
    let bootloader_args = bootloader_args(from);
    let tsc_mode = tsc_mode(from);
    let action = |from: &mut Settings, key: &str, usual: Action| from.parsed(key).unwrap_or(usual);
    let config = name.map(|name| DomainConfig {
        name,
        uuid,
        kernel: path(from, "kernel"),
        ramdisk: path(from, "ramdisk"),
        cmdline,
        bootloader: path(from, "bootloader"),
        bootloader_args,
        memory,
        maxmem,
        vcpus,
        maxvcpus,
        cpus: affinity(from, "cpus"),
        cpus_soft: affinity(from, "cpus_soft"),
        cpu_weight: from.number("cpu_weight", 1..=u16::MAX),
        cap: from.number("cap", 0..=u16::MAX),
        on_poweroff: action(from, "on_poweroff", Action::Destroy),
        on_reboot: action(from, "on_reboot", Action::Restart),
        on_crash: action(from, "on_crash", Action::Destroy),
        on_watchdog: action(from, "on_watchdog", Action::Destroy),
        on_soft_reset: action(from, "on_soft_reset", Action::SoftReset),
        driver_domain: from.flag("driver_domain").unwrap_or(false),
        max_grant_frames: from.number("max_grant_frames", 0..=MOST_FRAMES),
        max_maptrack_frames: from.number("max_maptrack_frames", 0..=MOST_FRAMES),
        max_event_channels: from.number("max_event_channels", 1..=MOST_FRAMES),
        tsc_mode,
        nomigrate: from.flag("nomigrate").unwrap_or(false),
        localtime: from.flag("localtime").unwrap_or(false),
        rtc_timeoffset: from
            .number("rtc_timeoffset", i32::MIN..=i32::MAX)
            .unwrap_or(0),
        irqs: each(from, "irqs"),
        ioports: each(from, "ioports"),
        iomem: each(from, "iomem"),
        disk: each_with(from, "disk", disk::parse),
        vif: each_with(from, "vif", vif::parse),
        channel: each_with(from, "channel", channel),
    });
    if config.is_some() {
        rest(from);
    }
    config
}

/// C's `INT_MAX`, the bound of these keys.
const MOST_FRAMES: u32 = i32::MAX as u32;

/// `type` and its older form `builder`: PV or nothing.
fn kind(from: &mut Settings) {
    for (key, pv) in [("type", "pv"), ("builder", "generic")] {
        let Some(kind) = from.text(key) else { continue };
        let at = from.place(key);
        if kind != pv && !(key == "builder" && kind == "linux") {
            let text = match kind.as_str() {
                "hvm" | "pvh" => format!("`{kind}` guests are not offered: only `{pv}` is"),
                _ => format!("`{kind}` is no type of guest: only `{pv}` is offered"),
            };
            from.report.error(at, key, text);
        }
    }
}

fn default_memory() -> Memory {
    // Far below the limit.
    Memory::from_mib(DEFAULT_MIB).unwrap_or_else(|_| unreachable!("32 MiB is an amount"))
}

/// MiB; `xl` takes plain numbers only, so a unit can only be meant.
fn memory(from: &mut Settings, key: &str) -> Option<Memory> {
    from.parsed(key)
}

fn path(from: &mut Settings, key: &str) -> Option<String> {
    from.text(key).filter(|text| !text.is_empty())
}

/// `cmdline`, or `root` and `extra` together.
fn cmdline(from: &mut Settings) -> String {
    let whole = from.text("cmdline");
    let root = from.text("root");
    let extra = from.text("extra");
    if let Some(whole) = whole {
        for (key, there) in [("root", root.is_some()), ("extra", extra.is_some())] {
            if there {
                let at = from.place(key);
                from.report
                    .warn(at, key, "not used: `cmdline` is the whole command line");
            }
        }
        return whole;
    }
    let parts = [root.map(|root| format!("root={root}")), extra];
    let parts: Vec<String> = parts
        .into_iter()
        .flatten()
        .filter(|p| !p.is_empty())
        .collect();
    parts.join(" ")
}

/// A list, or (deprecated) one text whose words are the arguments.
fn bootloader_args(from: &mut Settings) -> Vec<String> {
    match from.take("bootloader_args").map(|value| value.kind) {
        None => Vec::new(),
        Some(Kind::Text(text) | Kind::Number(text)) => {
            text.split_whitespace().map(str::to_owned).collect()
        }
        Some(Kind::List(values)) => {
            let mut args = Vec::new();
            for value in values {
                match value.kind {
                    Kind::Text(text) | Kind::Number(text) => args.push(text),
                    Kind::List(_) => from.report.error(
                        value.at,
                        "bootloader_args",
                        "a list inside the list: write text",
                    ),
                }
            }
            args
        }
    }
}

/// One text for all vCPUs, or a list with one for each.
fn affinity(from: &mut Settings, key: &str) -> Affinity {
    let Some(value) = from.take(key) else {
        return Affinity::default();
    };
    let mut sets = Vec::new();
    let (values, each) = match value.kind {
        Kind::List(values) => (values, true),
        kind => (vec![super::syntax::Value { at: value.at, kind }], false),
    };
    for value in values {
        let parsed = match &value.kind {
            Kind::Text(text) | Kind::Number(text) => text.parse::<CpuSet>().map_err(|bad| bad.0),
            Kind::List(_) => Err("a list inside the list: write text".into()),
        };
        match parsed {
            Ok(set) => sets.push(set),
            Err(bad) => from.report.error(value.at, key, bad),
        }
    }
    match (each, sets.pop()) {
        (false, Some(set)) => Affinity::Same(set),
        (true, Some(last)) => {
            sets.push(last);
            Affinity::Each(sets)
        }
        (_, None) => Affinity::default(),
    }
}

/// A word, or (deprecated) its number.
fn tsc_mode(from: &mut Settings) -> TscMode {
    let Some(text) = from.text("tsc_mode") else {
        return TscMode::Default;
    };
    let by_number = TscMode::ALL
        .iter()
        .find(|mode| mode.number().to_string() == text);
    match by_number.copied().map_or_else(|| text.parse(), Ok) {
        Ok(mode) => mode,
        Err(bad) => {
            let at = from.place("tsc_mode");
            from.report.error(at, "tsc_mode", bad.0);
            TscMode::Default
        }
    }
}

/// A list whose items are texts of this type.
fn each<T: FromStr<Err: Display>>(from: &mut Settings, key: &str) -> Vec<T> {
    each_with(from, key, |item, _| {
        item.text
            .trim()
            .parse()
            .map_err(|bad: T::Err| bad.to_string())
    })
}

/// A list whose items this function reads; it may warn.
fn each_with<T>(
    from: &mut Settings,
    key: &str,
    read: impl Fn(&Item, &mut dyn FnMut(String)) -> Result<T, String>,
) -> Vec<T> {
    let mut values = Vec::new();
    for item in from.list(key) {
        let mut warnings = Vec::new();
        match read(&item, &mut |text| warnings.push(text)) {
            Ok(value) => values.push(value),
            Err(bad) => from.report.error(item.at, key, bad),
        }
        for text in warnings {
            from.report.warn(item.at, key, text);
        }
    }
    values
}

/// `connection=pty,name=a`
fn channel(item: &Item, _: &mut dyn FnMut(String)) -> Result<Channel, String> {
    let (mut name, mut connection, mut path, mut backend) = (None, None, None, None);
    for part in item
        .text
        .split(',')
        .map(str::trim)
        .filter(|p| !p.is_empty())
    {
        let Some((key, value)) = part.split_once('=') else {
            return Err(format!("`{part}` is not of the form key=value"));
        };
        match key {
            "name" => name = Some(value.parse().map_err(|bad| format!("name: {bad}"))?),
            "connection" => {
                let kind: ChannelConnection =
                    value.parse().map_err(|bad| format!("connection: {bad}"))?;
                connection = Some(kind);
            }
            "path" => path = Some(value.to_owned()),
            "backend" => backend = Some(value.to_owned()),
            _ => {
                return Err(format!(
                    "`{key}` is no key of a channel: name, connection, path, backend are"
                ));
            }
        }
    }
    Ok(Channel {
        name: name.ok_or("name= is missing")?,
        connection: connection.ok_or("connection= is missing: `pty` or `socket`")?,
        path,
        backend,
    })
}

/// What nobody asked for: keys without effect here, keys that promise what is not
/// offered, and unknown ones.
fn rest(from: &mut Settings) {
    for setting in from.take_rest() {
        let key = setting.key.as_str();
        let off = match &setting.value.kind {
            Kind::List(values) => values.is_empty(),
            Kind::Text(text) | Kind::Number(text) => matches!(text.as_str(), "" | "0"),
        };
        match keys::find(key).map(|known| known.state) {
            Some(State::Used) | None => {
                let near = keys::nearest(key)
                    .map(|near| format!(", is `{near}` meant?"))
                    .unwrap_or_default();
                from.report
                    .warn(setting.at, key, format!("unknown key, ignored{near}"));
            }
            Some(State::Ignored(why)) => {
                if !off {
                    from.report.warn(setting.at, key, format!("ignored: {why}"));
                }
            }
            Some(State::Refused(why)) => {
                if !off {
                    from.report
                        .error(setting.at, key, format!("not supported: {why}"));
                }
            }
        }
    }
}
