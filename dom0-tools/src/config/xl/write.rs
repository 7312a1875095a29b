//! A configuration as `xl.cfg`, for files that `xl` is to read. What `xl` has no word for is left
//! out.

use std::fmt::{Display, Write};

use crate::config::model::{Disk, DomainConfig, Vif};
use crate::config::value::{Affinity, TscMode};

impl DomainConfig {
    /// As `xl.cfg`. Memory is in whole MiB there, rounded up here.
    pub fn to_xl(&self) -> String {
        let mut to = Text::default();
        to.text("name", &self.name);
        to.some("uuid", self.uuid.as_ref());
        to.text("type", "pv");
        to.some("kernel", self.kernel.as_ref());
        to.some("ramdisk", self.ramdisk.as_ref());
        if !self.cmdline.is_empty() {
            to.text("cmdline", &self.cmdline);
        }
        to.some("bootloader", self.bootloader.as_ref());
        to.list("bootloader_args", &self.bootloader_args);
        to.number("memory", self.memory.kib().div_ceil(1024));
        let most = self.maxmem.map(|most| most.kib().div_ceil(1024));
        to.numbers("maxmem", most);
        to.number("vcpus", self.vcpus.into());
        to.numbers("maxvcpus", self.maxvcpus);
        to.affinity("cpus", &self.cpus);
        to.affinity("cpus_soft", &self.cpus_soft);
        to.numbers("cpu_weight", self.cpu_weight);
        to.numbers("cap", self.cap);
        for (key, action) in [
            ("on_poweroff", self.on_poweroff),
            ("on_reboot", self.on_reboot),
            ("on_crash", self.on_crash),
            ("on_watchdog", self.on_watchdog),
            ("on_soft_reset", self.on_soft_reset),
        ] {
            to.text(key, action);
        }
        to.flag("driver_domain", self.driver_domain);
        to.numbers("max_grant_frames", self.max_grant_frames);
        to.numbers("max_maptrack_frames", self.max_maptrack_frames);
        to.numbers("max_event_channels", self.max_event_channels);
        if self.tsc_mode != TscMode::Default {
            to.text("tsc_mode", self.tsc_mode);
        }
        to.flag("nomigrate", self.nomigrate);
        to.flag("localtime", self.localtime);
        if self.rtc_timeoffset != 0 {
            let _ = writeln!(to.0, "rtc_timeoffset = {}", self.rtc_timeoffset);
        }
        to.list("irqs", &self.irqs);
        to.list("ioports", &self.ioports);
        to.list("iomem", &self.iomem);
        to.list("disk", &self.disk.iter().map(disk).collect::<Vec<_>>());
        to.list("vif", &self.vif.iter().map(vif).collect::<Vec<_>>());
        to.0
    }
}

/// `KEY=VALUE` of what is there, joined by commas.
fn parts(parts: &[(&str, Option<String>)]) -> String {
    let there = parts
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
    there.collect::<Vec<_>>().join(",")
}

fn disk(disk: &Disk) -> String {
    let word = |on: bool, word: &'static str| if on { word } else { "" };
    let text = |value: &dyn Display| Some(value.to_string());
    let flags = [
        word(disk.direct_io_safe, "direct-io-safe,"),
        word(disk.discard == Some(true), "discard,"),
        word(disk.discard == Some(false), "no-discard,"),
    ];
    let named = parts(&[
        ("format", text(&disk.format)),
        ("vdev", text(&disk.vdev)),
        ("access", text(&disk.access)),
        ("devtype", disk.cdrom.then(|| "cdrom".into())),
        (
            "backendtype",
            disk.backendtype.as_ref().map(ToString::to_string),
        ),
        ("backend", disk.backend.clone()),
        ("script", disk.script.as_ref().map(ToString::to_string)),
        // Takes the rest as it is, so it comes last.
        ("target", disk.target.clone()),
    ]);
    flags.concat() + &named
}

fn vif(vif: &Vif) -> String {
    let bridge = vif.bridge.as_ref().map(|bridge| match vif.vlan {
        Some(vlan) => format!("{bridge}.{vlan}"),
        None => bridge.to_string(),
    });
    parts(&[
        ("mac", vif.mac.map(|mac| mac.to_string())),
        ("bridge", bridge),
        (
            "gatewaydev",
            vif.gatewaydev.as_ref().map(ToString::to_string),
        ),
        ("script", vif.script.as_ref().map(ToString::to_string)),
        ("ip", vif.ip.clone()),
        ("vifname", vif.vifname.as_ref().map(ToString::to_string)),
        ("rate", vif.rate.map(|rate| rate.to_string())),
        ("backend", vif.backend.clone()),
        ("mtu", vif.mtu.map(|mtu| mtu.to_string())),
        ("devid", vif.devid.map(|id| id.to_string())),
    ])
}

/// The file so far.
#[derive(Default)]
struct Text(String);

impl Text {
    fn text(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {}", quoted(&value.to_string()));
    }

    fn some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn numbers(&mut self, key: &str, value: Option<impl Into<u64>>) {
        if let Some(value) = value {
            self.number(key, value.into());
        }
    }

    fn flag(&mut self, key: &str, on: bool) {
        if on {
            self.number(key, 1);
        }
    }

    fn list(&mut self, key: &str, items: &[impl Display]) {
        if !items.is_empty() {
            let items: Vec<String> = items.iter().map(|i| quoted(&i.to_string())).collect();
            let _ = writeln!(self.0, "{key} = [ {} ]", items.join(", "));
        }
    }

    fn affinity(&mut self, key: &str, affinity: &Affinity) {
        match affinity {
            Affinity::Same(set) if set.is_all() => {}
            Affinity::Same(set) => self.text(key, set),
            Affinity::Each(sets) => self.list(key, sets),
        }
    }
}

/// In quotes. `xl` ends a text at the next quote even behind a backslash, so those inside are
/// numbers.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '"' | '\x01'..='\x1f' => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Form, parse};

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let text = r#"
name = "web"
uuid = "11111111-2222-4333-8444-555555555555"
kernel = "/boot/vm linux"
ramdisk = "/boot/initrd"
cmdline = "root=/dev/xvda a=\"b c\" d='e' \\x"
memory = 128
maxmem = 256
vcpus = 2
maxvcpus = 4
cpus = ["0-1", "1"]
cpus_soft = "1"
cpu_weight = 512
cap = 50
on_crash = "preserve"
tsc_mode = "native"
nomigrate = true
rtc_timeoffset = -3600
[[disk]]
vdev = "xvda"
target = "/a,b=c d"
discard = false
[[disk]]
vdev = "xvdb"
target = "/c.qcow2"
format = "qcow2"
access = "ro"
script = "block-mine"
[[disk]]
vdev = "xvdc"
format = "empty"
access = "ro"
cdrom = true
[[vif]]
mac = "00:16:3e:00:00:0b"
bridge = "xenbr0"
vlan = 12
ip = "10.0.0.2 10.0.0.3"
rate = "10Mb/s"
mtu = 9000
devid = 0
[[vif]]
gatewaydev = "eth0"
script = "vif-route"
"#;
        let config = DomainConfig::from_toml(text, "test").unwrap();
        let written = config.to_xl();
        let read = parse(&written, "written", Form::Xl).unwrap_or_else(|bad| panic!("{bad}"));
        assert_eq!(read.config, config, "{written}");
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    }
}
