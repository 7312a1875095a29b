//! The form in which `xl` keeps a configuration in a saved domain's file: libxl's
//! `libxl_domain_config` as JSON.
//!
//! What has its usual value is left out there. Source of names and values: Xen
//! `tools/libs/light/libxl_types.idl`.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::Value;

use super::model::{Access, Disk, DiskFormat, DomainConfig, Vif};
use super::problem::{Place, Problems, Report};
use super::value::{Action, Affinity, CpuSet, Memory, TscMode};
use super::{MOST_VCPUS, check};

/// Reads such a text; `file` is for messages.
///
/// # Errors
/// Everything that is wrong with it, or is not offered.
pub fn parse(text: &str, file: &str) -> Result<DomainConfig, Problems> {
    let mut report = Report::new(file);
    let config = match serde_json::from_str::<Value>(text) {
        Ok(value) => lower(&mut Reader {
            at: &value,
            report: &mut report,
        }),
        Err(error) => {
            let place = Place {
                line: error.line() as u32,
                column: error.column() as u32,
            };
            report.error(place, "", format!("no JSON: {error}"));
            None
        }
    };
    if let Some(config) = &config {
        check::check(config, &|_| Place::default(), &mut report);
    }
    Ok(report.finish(config)?.0)
}

/// A part of the text, and what is found wrong.
struct Reader<'a> {
    at: &'a Value,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn get(&self, path: &str) -> Option<&Value> {
        self.at.pointer(path).filter(|value| !value.is_null())
    }

    fn wrong(&mut self, path: &str, text: impl Display) {
        self.report.error(Place::default(), path, text.to_string());
    }

    fn text(&self, path: &str) -> Option<String> {
        let text = self.get(path)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, path: &str) -> Option<T> {
        let parsed = self.text(path)?.parse::<T>();
        parsed.map_err(|bad| self.wrong(path, bad)).ok()
    }

    fn number<T: TryFrom<i64>>(&mut self, path: &str) -> Option<T> {
        let number = self.get(path)?.as_i64().and_then(|n| T::try_from(n).ok());
        if number.is_none() {
            self.wrong(path, "no number that is allowed");
        }
        number
    }

    /// libxl's three states, or a truth.
    fn flag(&self, path: &str) -> Option<bool> {
        match self.get(path)? {
            Value::Bool(on) => Some(*on),
            Value::String(text) => text.to_ascii_lowercase().parse().ok(),
            other => other.as_i64().map(|n| n != 0),
        }
    }

    fn memory(&mut self, path: &str) -> Option<Memory> {
        let kib = self.number::<i64>(path)?;
        let memory = Memory::from_kib(u64::try_from(kib).unwrap_or(u64::MAX));
        memory.map_err(|bad| self.wrong(path, bad)).ok()
    }

    fn action(&mut self, path: &str, usual: Action) -> Action {
        let Some(word) = self.text(path) else {
            return usual;
        };
        // libxl's words have other joints than xl's.
        word.replace('_', "-").parse().unwrap_or_else(|bad| {
            self.wrong(path, bad);
            usual
        })
    }

    fn each<T>(&mut self, path: &str, read: impl Fn(&mut Reader<'_>) -> Option<T>) -> Vec<T> {
        let items = self.at.pointer(path).and_then(Value::as_array);
        let mut found = Vec::new();
        for at in items.into_iter().flatten() {
            found.extend(read(&mut Reader {
                at,
                report: self.report,
            }));
        }
        found
    }
}

/// Numbers of CPUs; all of them if there is no list.
fn cpu_set(value: Option<&Value>) -> Option<CpuSet> {
    let numbers = value?.as_array()?.iter().filter_map(Value::as_u64);
    let numbers: Vec<String> = numbers.map(|n| n.to_string()).collect();
    numbers.join(",").parse().ok()
}

fn affinity(from: &Reader<'_>, path: &str) -> Affinity {
    let sets = from.get(path).and_then(Value::as_array);
    let sets: Vec<CpuSet> = sets
        .into_iter()
        .flatten()
        .map(|set| cpu_set(Some(set)).unwrap_or_else(CpuSet::all))
        .collect();
    if sets.iter().all(CpuSet::is_all) {
        Affinity::default()
    } else {
        Affinity::Each(sets)
    }
}

fn lower(from: &mut Reader<'_>) -> Option<DomainConfig> {
    match from.text("/c_info/type").as_deref() {
        Some("pv") => {}
        other => {
            let kind = other.unwrap_or("nothing").to_owned();
            from.wrong("type", format!("`{kind}`: only `pv` is offered"));
        }
    }
    let name = from.parsed("/c_info/name");
    if name.is_none() {
        from.wrong("name", "missing, or none that is allowed");
    }
    let most_vcpus: u32 = from.number("/b_info/max_vcpus").unwrap_or(1);
    if !(1..=MOST_VCPUS).contains(&most_vcpus) {
        from.wrong("vcpus", format!("{most_vcpus}: from 1 to {MOST_VCPUS}"));
    }
    let online = from.get("/b_info/avail_vcpus").and_then(Value::as_array);
    let online = online.map_or(1, |list| list.len() as u32);
    let most = from.memory("/b_info/max_memkb");
    let memory = from.memory("/b_info/target_memkb").or(most);
    if memory.is_none() {
        from.wrong("memory", "missing");
    }
    let tsc_mode = from.parsed("/b_info/tsc_mode");
    Some(DomainConfig {
        name: name?,
        uuid: from.parsed("/c_info/uuid"),
        kernel: from.text("/b_info/kernel"),
        ramdisk: from.text("/b_info/ramdisk"),
        cmdline: from.text("/b_info/cmdline").unwrap_or_default(),
        bootloader: from.text("/b_info/bootloader"),
        bootloader_args: from.each("/b_info/bootloader_args", |item| {
            item.at.as_str().map(str::to_owned)
        }),
        memory: memory?,
        maxmem: most.filter(|most| Some(*most) != memory),
        vcpus: online.clamp(1, most_vcpus.max(1)),
        maxvcpus: Some(most_vcpus).filter(|most| *most != online),
        cpus: affinity(from, "/b_info/vcpu_hard_affinity"),
        cpus_soft: affinity(from, "/b_info/vcpu_soft_affinity"),
        cpu_weight: from.number("/b_info/sched_params/weight"),
        cap: from.number("/b_info/sched_params/cap"),
        on_poweroff: from.action("/on_poweroff", Action::Destroy),
        on_reboot: from.action("/on_reboot", Action::Destroy),
        on_crash: from.action("/on_crash", Action::Destroy),
        on_watchdog: from.action("/on_watchdog", Action::Destroy),
        on_soft_reset: from.action("/on_soft_reset", Action::Destroy),
        driver_domain: from.flag("/c_info/driver_domain").unwrap_or(false),
        max_grant_frames: from.number("/b_info/max_grant_frames"),
        max_maptrack_frames: from.number("/b_info/max_maptrack_frames"),
        max_event_channels: from.number("/b_info/event_channels"),
        tsc_mode: tsc_mode.unwrap_or(TscMode::Default),
        nomigrate: from.flag("/b_info/disable_migrate").unwrap_or(false),
        localtime: from.flag("/b_info/localtime").unwrap_or(false),
        rtc_timeoffset: from.number("/b_info/rtc_timeoffset").unwrap_or(0),
        irqs: Vec::new(),
        ioports: Vec::new(),
        iomem: Vec::new(),
        disk: from.each("/disks", disk),
        vif: from.each("/nics", vif),
        channel: Vec::new(),
    })
}

fn disk(from: &mut Reader<'_>) -> Option<Disk> {
    let vdev = from.parsed("/vdev");
    if vdev.is_none() {
        from.wrong("vdev", "a disk without a name");
    }
    let cdrom = from.flag("/is_cdrom").unwrap_or(false);
    let access = if from.flag("/readwrite").unwrap_or(false) && !cdrom {
        Access::ReadWrite
    } else {
        Access::ReadOnly
    };
    Some(Disk {
        vdev: vdev?,
        target: from.text("/pdev_path"),
        format: from.parsed("/format").unwrap_or(DiskFormat::Raw),
        access,
        // As fits the target, and the toolstack that is here.
        backendtype: None,
        script: from.parsed("/script"),
        backend: from.text("/backend_domname"),
        cdrom,
        direct_io_safe: from.flag("/direct_io_safe").unwrap_or(false),
        discard: from.flag("/discard_enable"),
    })
}

/// Hot-plug script of a bridge's cards, which libxl names and we do without.
const BRIDGE_SCRIPT: &str = "/etc/xen/scripts/vif-bridge";

fn vif(from: &mut Reader<'_>) -> Option<Vif> {
    let script = from.text("/script").filter(|path| path != BRIDGE_SCRIPT);
    let script = script.and_then(|path| {
        let parsed = path.parse();
        parsed.map_err(|bad| from.wrong("script", bad)).ok()
    });
    let bytes: u64 = from.number("/rate_bytes_per_interval").unwrap_or(0);
    let interval: u64 = from.number("/rate_interval_usecs").unwrap_or(0);
    let per_second = bytes.saturating_mul(1_000_000).checked_div(interval);
    let rate = per_second
        .filter(|rate| *rate > 0)
        .and_then(|rate| format!("{rate}B/s@{interval}us").parse().ok());
    Some(Vif {
        mac: from.parsed("/mac"),
        bridge: from.parsed("/bridge"),
        gatewaydev: from.parsed("/gatewaydev"),
        script,
        ip: from.text("/ip"),
        vifname: from.parsed("/ifname"),
        rate,
        backend: from.text("/backend_domname"),
        // 0 and 1492 are libxl's for none.
        mtu: from.number("/mtu").filter(|mtu| !matches!(mtu, 0 | 1492)),
        vlan: None,
        devid: from.number("/devid"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `xl save` of 4.17 wrote of a guest, and a little more.
    const SAVED: &str = r#"{
    "c_info": { "type": "pv", "name": "g1", "uuid": "aeb761bc-a7d0-4e7f-957c-65cf3a938752",
        "run_hotplug_scripts": "True" },
    "b_info": { "max_vcpus": 4, "avail_vcpus": [ 0, 1 ], "max_memkb": 262144,
        "target_memkb": 131072, "video_memkb": 0,
        "vcpu_hard_affinity": [ [ 0, 1 ], [ 1 ] ],
        "sched_params": { "sched": "credit2", "weight": 256, "cap": 0 },
        "claim_mode": "True", "kernel": "/guests/vmlinux", "cmdline": "console=hvc0 quiet",
        "ramdisk": "/guests/initrd.img", "type.pv": { }, "arch_arm": { },
        "arch_x86": { "msr_relaxed": "False" } },
    "disks": [ { "pdev_path": "/guests/g1.img", "vdev": "xvda", "format": "raw", "readwrite": 1,
        "discard_enable": "True", "colo_restore_enable": "False" } ],
    "nics": [ { "devid": 0, "mac": "00:16:3e:00:00:0b", "bridge": "xenbr0", "nictype": "vif",
        "script": "/etc/xen/scripts/vif-bridge", "rate_bytes_per_interval": 62500,
        "rate_interval_usecs": 50000 } ],
    "on_reboot": "restart",
    "on_crash": "rename_restart"
}"#;

    #[test]
    fn a_guest_that_xl_saved() {
        let read = parse(SAVED, "saved").unwrap_or_else(|bad| panic!("{bad}"));
        let text = r#"
name = "g1"
uuid = "aeb761bc-a7d0-4e7f-957c-65cf3a938752"
kernel = "/guests/vmlinux"
ramdisk = "/guests/initrd.img"
cmdline = "console=hvc0 quiet"
memory = 128
maxmem = 256
vcpus = 2
maxvcpus = 4
cpus = ["0,1", "1"]
cpu_weight = 256
cap = 0
on_crash = "rename-restart"
on_soft_reset = "destroy"
[[disk]]
vdev = "xvda"
target = "/guests/g1.img"
discard = true
[[vif]]
mac = "00:16:3e:00:00:0b"
bridge = "xenbr0"
rate = "10Mb/s"
devid = 0
"#;
        let wanted = DomainConfig::from_toml(text, "wanted").unwrap();
        // Sets of CPUs compare by their words.
        assert_eq!(read.cpus.of(1), wanted.cpus.of(1));
        let read = DomainConfig {
            cpus: wanted.cpus.clone(),
            ..read
        };
        assert_eq!(read, wanted);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, part) in [
            ("\"pv\"", "\"hvm\"", "only `pv`"),
            ("\"g1\"", "\"../g1\"", "name"),
            ("262144", "\"much\"", "max_memkb"),
            ("\"max_vcpus\": 4", "\"max_vcpus\": 0", "vcpus"),
            ("\"xvda\"", "\"\"", "without a name"),
            ("}\n]", "", "no JSON"),
        ] {
            let text = SAVED.replacen(from, to, 1);
            let text = if text == SAVED {
                SAVED[..900].to_owned()
            } else {
                text
            };
            let bad = parse(&text, "saved").unwrap_err().to_string();
            assert!(bad.contains(part), "{to}: {bad}");
        }
    }

    #[test]
    fn any_json_is_answered() {
        for text in [
            "",
            "[]",
            "{}",
            "null",
            "{\"c_info\": 1}",
            "{\"disks\": [1, [], {}]}",
        ] {
            assert!(parse(text, "saved").is_err(), "{text}");
        }
    }
}
