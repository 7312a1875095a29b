//! Every key of `xl.cfg(5)` and what becomes of it here.

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What becomes of it.
    pub state: State,
    /// What it says, for those that are used; else empty.
    pub meaning: &'static str,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It counts.
    Used,
    /// It is named in a warning, for this reason.
    Ignored(&'static str),
    /// It is an error unless it is off, for this reason.
    Refused(&'static str),
}

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// A used key that differs in a letter or two, for who mistyped.
pub fn nearest(name: &str) -> Option<&'static str> {
    let (name_, most) = (name.as_bytes(), name.len().div_ceil(3));
    KEYS.iter()
        .filter(|key| key.state == State::Used && name.len() <= 64)
        .map(|key| {
            let length = key.name.len().abs_diff(name.len());
            (distance(name_, key.name.as_bytes()), length, key.name)
        })
        .filter(|(distance, ..)| *distance <= most)
        .min()
        .map(|(.., near)| near)
}

/// Letters to change, add, leave out or swap (Damerau and Levenshtein).
fn distance(one: &[u8], other: &[u8]) -> usize {
    let first: Vec<usize> = (0..=other.len()).collect();
    let mut rows = vec![first];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let changed = usize::from(one[i - 1] != other[j - 1]);
            let mut least = (rows[i - 1][j - 1] + changed)
                .min(rows[i - 1][j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

const fn used(name: &'static str, meaning: &'static str) -> Key {
    Key {
        name,
        state: State::Used,
        meaning,
    }
}

const fn ignored(name: &'static str, why: &'static str) -> Key {
    Key {
        name,
        state: State::Ignored(why),
        meaning: "",
    }
}

const fn refused(name: &'static str, why: &'static str) -> Key {
    Key {
        name,
        state: State::Refused(why),
        meaning: "",
    }
}

const ONE_POOL: &str = "there is one pool of CPUs";
const NO_XSM: &str = "the hypervisor has no XSM policy";
const NO_MODEL: &str = "the guest has no device model";
const CLAIMED: &str = "memory is always claimed before a domain is built";
const NO_SCREEN: &str = "no framebuffer is served, the guest has its console";
const OWN_MAP: &str = "the guest sees a memory map of its own";
const DIRECT: &str = "the guest's page tables are its own";
const OTHER_SCHEDULER: &str = "it belongs to the scheduler RTDS or SEDF";
const OF_PCI: &str = "it belongs to `pci`";
const NO_IOMMU: &str = "there is no IOMMU for guests";
const CPU_AS_IS: &str = "the guest sees the CPU as the hypervisor offers it";
const HVM: &str = "it is for HVM and PVH guests";
const ARM: &str = "it is for Arm";

/// All of them: used, ignored, refused.
pub const KEYS: &[Key] = &[
    used("name", "name, unique on the host"),
    used("uuid", "UUID; drawn if absent"),
    used("type", "`pv`, the only type offered"),
    used("builder", "older form of `type`: `generic`"),
    used("kernel", "kernel file in dom0"),
    used("ramdisk", "initial ramdisk in dom0"),
    used("cmdline", "kernel's command line"),
    used("root", "`root=` of the command line"),
    used("extra", "rest of the command line"),
    used(
        "bootloader",
        "program in dom0 that fetches the kernel from the first disk",
    ),
    used("bootloader_args", "its arguments"),
    used("memory", "MiB at the start"),
    used("maxmem", "most MiB it may be given"),
    used("vcpus", "vCPUs at the start"),
    used("maxvcpus", "most vCPUs"),
    used("cpus", "CPUs on which vCPUs may run"),
    used("cpus_soft", "CPUs on which they better run"),
    used("cpu_weight", "share of CPU time"),
    used("cap", "most CPU time, per cent of one CPU"),
    used("on_poweroff", "after the guest powered off"),
    used("on_reboot", "after it asked for a reboot"),
    used("on_crash", "after it crashed"),
    used("on_watchdog", "after its watchdog expired"),
    used("on_soft_reset", "after it asked for a soft reset"),
    used("driver_domain", "it serves devices to others"),
    used("max_grant_frames", "most pages of its grant table"),
    used(
        "max_maptrack_frames",
        "most pages of its table of mapped grants",
    ),
    used("max_event_channels", "most event channels"),
    used("tsc_mode", "how it reads the TSC"),
    used("nomigrate", "it is never saved"),
    used("localtime", "its clock shows local time"),
    used("rtc_timeoffset", "seconds its clock is ahead"),
    used("irqs", "host interrupts it may use"),
    used("ioports", "I/O ports it may use"),
    used("iomem", "pages of device memory it may map"),
    used("disk", "disks"),
    used("vif", "network cards"),
    used("channel", "byte streams beside the console"),
    ignored("pool", ONE_POOL),
    ignored("seclabel", NO_XSM),
    ignored("init_seclabel", NO_XSM),
    ignored("device_model_stubdomain_seclabel", NO_XSM),
    ignored("device_model_version", NO_MODEL),
    ignored("device_model_override", NO_MODEL),
    ignored("device_model_args", NO_MODEL),
    ignored("device_model_args_pv", NO_MODEL),
    ignored("device_model_args_hvm", NO_MODEL),
    ignored("device_model_user", NO_MODEL),
    ignored("device_model_stubdomain_override", NO_MODEL),
    ignored("stubdomain_memory", NO_MODEL),
    ignored("stubdomain_ramdisk", NO_MODEL),
    ignored("stubdomain_cmdline", NO_MODEL),
    ignored("dm_restrict", NO_MODEL),
    ignored("claim_mode", CLAIMED),
    ignored("vfb", NO_SCREEN),
    ignored("vnc", NO_SCREEN),
    ignored("vnclisten", NO_SCREEN),
    ignored("vncdisplay", NO_SCREEN),
    ignored("vncunused", NO_SCREEN),
    ignored("vncpasswd", NO_SCREEN),
    ignored("vncviewer", NO_SCREEN),
    ignored("sdl", NO_SCREEN),
    ignored("opengl", NO_SCREEN),
    ignored("keymap", NO_SCREEN),
    ignored("nographic", NO_SCREEN),
    ignored("spice", NO_SCREEN),
    ignored("spicehost", NO_SCREEN),
    ignored("spiceport", NO_SCREEN),
    ignored("stdvga", NO_SCREEN),
    ignored("vga", NO_SCREEN),
    ignored("videoram", NO_SCREEN),
    ignored("e820_host", OWN_MAP),
    ignored("shadow_memory", DIRECT),
    ignored("hap", DIRECT),
    ignored("oos", DIRECT),
    ignored("period", OTHER_SCHEDULER),
    ignored("slice", OTHER_SCHEDULER),
    ignored("latency", OTHER_SCHEDULER),
    ignored("extratime", OTHER_SCHEDULER),
    ignored("pci_msitranslate", OF_PCI),
    ignored("pci_power_mgmt", OF_PCI),
    ignored("pci_permissive", OF_PCI),
    ignored("pci_seize", OF_PCI),
    ignored("passthrough", NO_IOMMU),
    ignored("rdm", NO_IOMMU),
    ignored("rdm_mem_boundary", NO_IOMMU),
    ignored("cpuid", CPU_AS_IS),
    ignored("cpu_policy", CPU_AS_IS),
    ignored("msr_relaxed", CPU_AS_IS),
    ignored("acpi", HVM),
    ignored("apic", HVM),
    ignored("nx", HVM),
    ignored("pae", HVM),
    ignored("hpet", HVM),
    ignored("boot", HVM),
    ignored("bios", HVM),
    ignored("bios_path_override", HVM),
    ignored("firmware", HVM),
    ignored("firmware_override", HVM),
    ignored("acpi_s3", HVM),
    ignored("acpi_s4", HVM),
    ignored("acpi_laptop_slate", HVM),
    ignored("acpi_firmware", HVM),
    ignored("smbios_firmware", HVM),
    ignored("ms_vm_genid", HVM),
    ignored("viridian", HVM),
    ignored("nestedhvm", HVM),
    ignored("altp2m", HVM),
    ignored("altp2mhvm", HVM),
    ignored("mca_caps", HVM),
    ignored("mmio_hole", HVM),
    ignored("vpt_align", HVM),
    ignored("timer_mode", HVM),
    ignored("xen_platform_pci", HVM),
    ignored("serial", HVM),
    ignored("soundhw", HVM),
    ignored("usb", HVM),
    ignored("usbdevice", HVM),
    ignored("usbversion", HVM),
    ignored("vendor_device", HVM),
    ignored("hdtype", HVM),
    ignored("pvshim", HVM),
    ignored("pvshim_path", HVM),
    ignored("pvshim_cmdline", HVM),
    ignored("pvshim_extra", HVM),
    ignored("gfx_passthru", HVM),
    ignored("vmtrace_buf_kb", HVM),
    ignored("parallel", HVM),
    ignored("device_tree", ARM),
    ignored("gic_version", ARM),
    ignored("vuart", ARM),
    ignored("tee", ARM),
    ignored("nr_spis", ARM),
    ignored("sve", ARM),
    refused("pci", "PCI devices are not passed to guests yet"),
    refused("vtpm", "there is no virtual TPM"),
    refused("usbctrl", "no USB devices are passed to guests"),
    refused("usbdev", "no USB devices are passed to guests"),
    refused("p9", "no 9P backend is served"),
    refused("pvcalls", "no PV calls backend is served"),
    refused("vdispl", "no display, sound or keyboard backend is served"),
    refused("vsnd", "no display, sound or keyboard backend is served"),
    refused("vkb", "no display, sound or keyboard backend is served"),
    refused("virtio", "virtio devices are not offered"),
    refused("dtdev", "device-tree devices are for Arm"),
    refused("vnuma", "virtual NUMA is not offered"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_key_is_there_once() {
        let names: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len());
    }

    #[test]
    fn what_was_meant() {
        assert_eq!(nearest("memroy"), Some("memory"));
        assert_eq!(nearest("vpcus"), Some("vcpus"));
        assert_eq!(nearest("kernal"), Some("kernel"));
        assert_eq!(nearest("something"), None);
        assert_eq!(nearest(""), None);
    }
}
