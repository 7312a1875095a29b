//! A domain's configuration, typed. The TOML form is this, key by key.

use serde::{Deserialize, Serialize};

use super::value::{
    Action, Affinity, BadValue, DomainName, InterfaceName, Mac, Memory, Rate, ScriptName, TscMode,
    Uuid, Vdev, serde_as_text, words,
};

/// What a domain is to be. Keys are `xl.cfg`'s where that has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// Name, unique on the host.
    pub name: DomainName,
    /// Absent: drawn when the domain is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Kernel file in dom0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Initial ramdisk in dom0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramdisk: Option<String>,
    /// Kernel's command line; `xl.cfg`'s `root` and `extra` are in it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    /// Program in dom0 that fetches the kernel from the first disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootloader: Option<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bootloader_args: Vec<String>,
    /// Memory at the start.
    pub memory: Memory,
    /// Most memory it may be given; absent: `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxmem: Option<Memory>,
    /// vCPUs at the start.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// Most vCPUs; absent: `vcpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxvcpus: Option<u32>,
    /// CPUs on which they may run.
    #[serde(default, skip_serializing_if = "Affinity::is_all")]
    pub cpus: Affinity,
    /// CPUs on which they better run.
    #[serde(default, skip_serializing_if = "Affinity::is_all")]
    pub cpus_soft: Affinity,
    /// Share of CPU time, credit scheduler; absent: 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u16>,
    /// Most CPU time, per cent of one CPU; 0 and absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u16>,
    /// After the guest powered off.
    #[serde(default = "destroy")]
    pub on_poweroff: Action,
    /// After it asked for a reboot.
    #[serde(default = "restart")]
    pub on_reboot: Action,
    /// After it crashed.
    #[serde(default = "destroy")]
    pub on_crash: Action,
    /// After its watchdog expired.
    #[serde(default = "destroy")]
    pub on_watchdog: Action,
    /// After it asked for a soft reset.
    #[serde(default = "soft_reset")]
    pub on_soft_reset: Action,
    /// It serves devices to other domains.
    #[serde(default, skip_serializing_if = "is_false")]
    pub driver_domain: bool,
    /// Most pages of its grant table; absent: the hypervisor's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_grant_frames: Option<u32>,
    /// Most pages of its table of mapped grants; absent: the hypervisor's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_maptrack_frames: Option<u32>,
    /// Most event channels; absent: 1023, as `xl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_event_channels: Option<u32>,
    /// How it reads the TSC.
    #[serde(default = "tsc_default", skip_serializing_if = "is_tsc_default")]
    pub tsc_mode: TscMode,
    /// It is never saved.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nomigrate: bool,
    /// Its clock shows dom0's local time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub localtime: bool,
    /// Seconds that its clock is ahead.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rtc_timeoffset: i32,
    /// Host interrupts it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub irqs: Vec<u32>,
    /// I/O ports it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ioports: Vec<IoPorts>,
    /// Pages of device memory it may map.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub iomem: Vec<IoMem>,
    /// Disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disk: Vec<Disk>,
    /// Network cards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vif: Vec<Vif>,
    /// Byte streams beside the console.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channel: Vec<Channel>,
}

impl DomainConfig {
    /// Most memory it may be given.
    pub fn max_memory(&self) -> Memory {
        self.maxmem.unwrap_or(self.memory)
    }

    /// Most vCPUs it may have online.
    pub fn max_vcpus(&self) -> u32 {
        self.maxvcpus.unwrap_or(self.vcpus)
    }
}

const fn one() -> u32 {
    1
}

const fn destroy() -> Action {
    Action::Destroy
}

const fn restart() -> Action {
    Action::Restart
}

const fn soft_reset() -> Action {
    Action::SoftReset
}

const fn tsc_default() -> TscMode {
    TscMode::Default
}

// Serde hands over references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_tsc_default(mode: &TscMode) -> bool {
    *mode == TscMode::Default
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// What the guest sees.
    pub vdev: Vdev,
    /// File or block device in the backend's domain; absent: an empty CD-ROM drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How the target holds its blocks.
    #[serde(default = "raw")]
    pub format: DiskFormat,
    /// May the guest write?
    #[serde(default = "read_write")]
    pub access: Access,
    /// Who serves it; absent: as fits the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backendtype: Option<BackendType>,
    /// Hot-plug script; absent: `oxd` does it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptName>,
    /// Domain whose backend serves it; absent: dom0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// It is a CD-ROM drive.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cdrom: bool,
    /// Written around dom0's page cache, although the target's protocol may then send a
    /// page that has changed meanwhile.
    #[serde(default, skip_serializing_if = "is_false")]
    pub direct_io_safe: bool,
    /// Offer discard to the guest; absent: if the target can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discard: Option<bool>,
}

const fn raw() -> DiskFormat {
    DiskFormat::Raw
}

const fn read_write() -> Access {
    Access::ReadWrite
}

words! {
    /// How a disk's target holds its blocks.
    DiskFormat, "disk format" {
        /// As they are.
        Raw = "raw" | "",
        /// QEMU's first copy-on-write format.
        Qcow = "qcow",
        /// QEMU's second.
        Qcow2 = "qcow2",
        /// Microsoft's.
        Vhd = "vhd",
        /// QEMU's enhanced disk.
        Qed = "qed",
        /// Nothing: a drive without a disc.
        Empty = "empty",
    }
}

words! {
    /// What the guest may do.
    Access, "access" {
        /// Read and write.
        ReadWrite = "rw" | "w" | "",
        /// Read only.
        ReadOnly = "ro" | "r",
    }
}

words! {
    /// Who serves a disk.
    BackendType, "backend type" {
        /// The kernel's block backend.
        Phy = "phy",
        /// blktap.
        Tap = "tap",
        /// QEMU.
        Qdisk = "qdisk",
        /// A process that somebody else starts.
        Standalone = "standalone",
    }
}

/// One network card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vif {
    /// Address; absent: drawn when the domain is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Bridge in dom0; absent: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<InterfaceName>,
    /// Interface whose address dom0 answers ARP with (routed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gatewaydev: Option<InterfaceName>,
    /// Hot-plug script; absent: `oxd` does it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptName>,
    /// Addresses the guest will have, for scripts and routes; separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Name of the interface in dom0; absent: `vifDOMID.N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vifname: Option<InterfaceName>,
    /// Most it may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Domain whose backend serves it; absent: dom0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Bytes in a frame's payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// VLAN of its frames on the bridge, 1 to 4094.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Number in xenstore; absent: its place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devid: Option<u32>,
}

/// A byte stream beside the console.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Name by which the guest finds it.
    pub name: DomainName,
    /// Where it ends in dom0.
    pub connection: ChannelConnection,
    /// Path of the socket, with `connection = "socket"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Domain whose backend serves it; absent: dom0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
}

words! {
    /// Where a channel ends in dom0.
    ChannelConnection, "connection" {
        /// A pseudo-terminal, named in xenstore.
        Pty = "pty",
        /// A Unix socket.
        Socket = "socket",
    }
}

/// Consecutive I/O ports: `3f8-3ff`, hexadecimal as in `xl.cfg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPorts {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl std::str::FromStr for IoPorts {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue::new(format!(
                "`{text}` is no range of ports: write hexadecimal numbers up to ffff as in `3f8-3ff`"
            ))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            hex(text)
                .and_then(|n| u16::try_from(n).ok())
                .ok_or_else(bad)
        };
        let ports = Self {
            first: port(first)?,
            last: port(last)?,
        };
        if ports.first > ports.last {
            return Err(BadValue::new(format!("`{text}` goes backwards")));
        }
        Ok(ports)
    }
}

impl std::fmt::Display for IoPorts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{:x}", self.first, self.last)
    }
}

/// Consecutive pages of device memory: `START,COUNT[@GFN]`, hexadecimal as in `xl.cfg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoMem {
    /// Machine frame of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Where the guest sees them; absent: at the same number.
    pub gfn: Option<u64>,
}

/// First frame number no x86-64 machine can have (52 bits of address).
const FRAME_LIMIT: u64 = 1 << 40;

impl std::str::FromStr for IoMem {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue::new(format!(
                "`{text}` is no range of page frames: write hexadecimal numbers as in `fed00,1`"
            ))
        };
        let (range, gfn) = match text.split_once('@') {
            Some((range, gfn)) => (range, Some(hex(gfn).ok_or_else(bad)?)),
            None => (text, None),
        };
        let (first, count) = range.split_once(',').ok_or_else(bad)?;
        let (first, count) = (hex(first).ok_or_else(bad)?, hex(count).ok_or_else(bad)?);
        let end = first.checked_add(count).ok_or_else(bad)?;
        let guest_end = gfn.unwrap_or(first).checked_add(count).ok_or_else(bad)?;
        if count == 0 || end > FRAME_LIMIT || guest_end > FRAME_LIMIT {
            return Err(bad());
        }
        Ok(Self { first, count, gfn })
    }
}

impl std::fmt::Display for IoMem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x},{:x}", self.first, self.count)?;
        match self.gfn {
            Some(gfn) => write!(f, "@{gfn:x}"),
            None => Ok(()),
        }
    }
}

fn hex(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    (!digits.starts_with('+'))
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

serde_as_text!(IoPorts, IoMem);
