//! The command line, in Xen's spelling. Pure.
//!
//! Source of names and forms: Xen's `docs/misc/xen-command-line` for 4.17. As there,
//! an option is `name` or `name=value`; a boolean is `name`, `no-name`, `name=yes`,
//! `name=on`, `name=1` and so on; when an option comes twice the last one counts.

mod ports;

use self::ports::{console, uart, vga};
use crate::arch::speculation::Choices;
use crate::console::Threshold;
use crate::console::uart::Config as Uart;
use crate::sched::Knobs;
use core::ops::RangeInclusive;
use heapless::{String, Vec};
use log::LevelFilter;

/// Everything the command line can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `com1=`, `com2=`: how to drive the serial ports.
    pub com: [Uart; 2],
    /// `console=`: the serial port to use, as index into `com`.
    pub console: Option<usize>,
    /// `console=vga`: whether lines go to the screen too.
    pub screen: bool,
    /// `vga=keep`: the screen stays ours when dom0 starts.
    pub keep_screen: bool,
    /// `loglvl=`.
    pub log: Threshold,
    /// `guest_loglvl=`.
    pub guest_log: Threshold,
    /// `dom0_mem=`.
    pub dom0_mem: Dom0Memory,
    /// `dom0_max_vcpus=`: least and most; the number of CPUs is clamped to it.
    pub dom0_max_vcpus: RangeInclusive<u32>,
    /// `maxcpus=`, `nosmp`: most CPUs to use.
    pub max_cpus: u32,
    /// `noreboot`: halt after a panic.
    pub no_reboot: bool,
    /// `reboot=`: how.
    pub reboot: Reboot,
    /// `sched=`.
    pub scheduler: Scheduler,
    /// `sched_credit_tslice_ms=` and `sched_ratelimit_us=`.
    pub knobs: Knobs,
    /// `spec-ctrl=`, `xpti=`, `pv-l1tf=`, `smt=` and `tsx=`: what to do about leaks by speculation.
    pub speculation: Choices,
    /// `smep=`: `None` leaves it to the CPU.
    pub smep: Option<bool>,
    /// `smap=`: `None` leaves it to the CPU.
    pub smap: Option<bool>,
    /// `x2apic=`.
    pub x2apic: bool,
    /// `tdt=`: whether timers may compare with the TSC.
    pub tsc_deadline: bool,
    /// `noapic` turns it off.
    pub io_apic: bool,
    /// `msi=`: message-signalled interrupts for dom0.
    pub msi: bool,
    /// `clocksource=`.
    pub clock: Option<ClockSource>,
    /// `hpet=`: whether to use the HPET.
    pub hpet: bool,
    /// `watchdog`: NMI watchdog.
    pub watchdog: bool,
    /// `efi=rs`: whether EFI's runtime services are called for dom0.
    pub efi_runtime: bool,
    /// `acpi=off` and the like.
    pub acpi: bool,
    /// `alloc-fail=` (ours): after boot every so many-th allocation fails; 0: none.
    pub alloc_fail: u32,
    /// `frame_check` (ours): verify the frame table at shutdown.
    pub frame_check: bool,
    /// What nobody knows, each cut to fit.
    pub unknown: Vec<String<40>, 16>,
    /// What is known, but with a value that makes no sense.
    pub malformed: Vec<String<40>, 16>,
}

/// How much memory dom0 gets. Bytes; negative amounts mean "all but".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dom0Memory {
    /// The amount itself.
    pub target: Option<Amount>,
    /// At least this much.
    pub min: Option<Amount>,
    /// At most this much (and the limit it may balloon to).
    pub max: Option<Amount>,
}

impl Dom0Memory {
    /// Bytes for dom0 when `available` bytes are free.
    ///
    /// Without `dom0_mem=` it is all but 1/16, and that at most 128 MiB. Source: Xen's
    /// default.
    #[must_use]
    pub fn bytes(&self, available: u64) -> u64 {
        let spare = (available / 16).min(128 << 20);
        let target = self
            .target
            .map_or(available - spare, |amount| amount.of(available));
        let min = self.min.map_or(0, |amount| amount.of(available));
        let max = self.max.map_or(u64::MAX, |amount| amount.of(available));
        target.min(max).max(min).min(available)
    }
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// All but so many bytes.
    AllBut(u64),
}

impl Amount {
    /// In bytes, out of `available` bytes.
    #[must_use]
    pub const fn of(self, available: u64) -> u64 {
        match self {
            Self::Bytes(n) => n,
            Self::AllBut(n) => available.saturating_sub(n),
        }
    }
}

/// `reboot=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reboot {
    /// ACPI's reset register, then the fallbacks.
    #[default]
    Acpi,
    /// The keyboard controller first.
    Keyboard,
    /// PCI's reset register first.
    Pci,
    /// A triple fault first.
    Triple,
    /// Not at all: halt.
    No,
}

/// `sched=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduler {
    /// Proportional shares.
    #[default]
    Credit,
}

/// `clocksource=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockSource {
    /// Time stamp counter.
    Tsc,
    /// High precision event timer.
    Hpet,
    /// ACPI power-management timer.
    AcpiPm,
    /// Interval timer.
    Pit,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            com: [Uart::COM1, Uart::COM2],
            console: Some(0),
            screen: true,
            keep_screen: false,
            log: Threshold::OWN,
            guest_log: Threshold::GUEST,
            dom0_mem: Dom0Memory::default(),
            dom0_max_vcpus: 1..=u32::MAX,
            max_cpus: u32::MAX,
            no_reboot: false,
            reboot: Reboot::default(),
            scheduler: Scheduler::default(),
            knobs: Knobs::DEFAULT,
            speculation: Choices::default(),
            smep: None,
            smap: None,
            x2apic: true,
            tsc_deadline: true,
            io_apic: true,
            msi: true,
            clock: None,
            hpet: true,
            watchdog: false,
            efi_runtime: true,
            acpi: true,
            alloc_fail: 0,
            frame_check: false,
            unknown: Vec::new(),
            malformed: Vec::new(),
        }
    }
}

/// What became of one option.
enum Outcome {
    Done,
    Malformed,
    Unknown,
}

impl From<Option<()>> for Outcome {
    fn from(done: Option<()>) -> Self {
        done.map_or(Self::Malformed, |()| Self::Done)
    }
}

impl Options {
    /// Whether to halt, not reboot, after a crash.
    #[must_use]
    pub fn halts(&self) -> bool {
        self.no_reboot || self.reboot == Reboot::No
    }

    /// Reads a command line. Nothing in it is fatal.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let mut options = Self::default();
        for word in line.split_ascii_whitespace() {
            if word == "--" {
                // What follows is for dom0's kernel.
                break;
            }
            let list = match options.apply(word) {
                Outcome::Done => continue,
                Outcome::Malformed => &mut options.malformed,
                Outcome::Unknown => &mut options.unknown,
            };
            let mut kept = String::new();
            for c in word.chars() {
                if kept.push(c).is_err() {
                    break;
                }
            }
            // The list is for a warning: sixteen will do.
            let _ = list.push(kept);
        }
        options
    }

    fn apply(&mut self, word: &str) -> Outcome {
        let (name, value) = word
            .split_once('=')
            .map_or((word, None), |(n, v)| (n, Some(v)));
        if let Some(outcome) = self.apply_valued(name, value.unwrap_or("")) {
            return outcome;
        }
        self.apply_switch(name, value)
    }

    /// Options that want a value. `None` if it is none of them.
    fn apply_valued(&mut self, name: &str, value: &str) -> Option<Outcome> {
        let done = match name {
            // Boot loader scripts put this where an image's name would be.
            "placeholder" => Some(()),
            "com1" => uart(value, Uart::COM1).map(|u| self.com[0] = u),
            "com2" => uart(value, Uart::COM2).map(|u| self.com[1] = u),
            "console" => console(value).map(|(port, screen)| {
                self.console = port;
                self.screen = screen;
            }),
            "vga" => vga(value).map(|keep| self.keep_screen = keep),
            "loglvl" => threshold(value).map(|t| self.log = t),
            "guest_loglvl" => threshold(value).map(|t| self.guest_log = t),
            "dom0_mem" => dom0_mem(value).map(|m| self.dom0_mem = m),
            "dom0_max_vcpus" => vcpus(value).map(|v| self.dom0_max_vcpus = v),
            "maxcpus" => value.parse().ok().map(|n: u32| self.max_cpus = n.max(1)),
            "reboot" => reboot(value).map(|r| self.reboot = r),
            "sched" => (value == "credit").then(|| self.scheduler = Scheduler::Credit),
            "sched_credit_tslice_ms" => value.parse().ok().map(|n| self.knobs.slice_ms = n),
            "sched_ratelimit_us" => value.parse().ok().map(|n| self.knobs.ratelimit_us = n),
            "alloc-fail" => value.parse().ok().map(|n| self.alloc_fail = n),
            "xpti" => speculation::xpti(value, &mut self.speculation),
            "pv-l1tf" => speculation::l1tf(value, &mut self.speculation),
            "spec-ctrl" => speculation::spec_ctrl(value, &mut self.speculation),
            "clocksource" => clock(value).map(|c| self.clock = Some(c)),
            "dom0" => dom0(value),
            "efi" => value.split(',').try_for_each(|part| {
                speculation::flag(part, &["rs"]).map(|on| self.efi_runtime = on)
            }),
            _ => return None,
        };
        Some(done.into())
    }

    /// Options that are on or off.
    fn apply_switch(&mut self, name: &str, value: Option<&str>) -> Outcome {
        let (name, negated) = name
            .strip_prefix("no-")
            .map_or((name, false), |n| (n, true));
        let given = value.map_or(Some(true), boolean);
        let Some(on) = given.map(|on| on != negated) else {
            // `smep=hvm` and the like speak of guests that do not exist here.
            return if matches!(name, "smep" | "smap") {
                Outcome::Done
            } else if matches!(name, "smt" | "tsx") || self.switch(name).is_some() {
                Outcome::Malformed
            } else {
                Outcome::Unknown
            };
        };
        match name {
            "smep" => self.smep = Some(on),
            "smap" => self.smap = Some(on),
            "smt" => self.speculation.smt = Some(on),
            "tsx" => self.speculation.tsx = Some(on),
            "nosmp" if on => self.max_cpus = 1,
            "smp" if !on => self.max_cpus = 1,
            "noapic" => self.io_apic = !on,
            // Accepted because scripts have them; what they ask for is so anyway.
            "nosmp" | "smp" | "sync_console" | "flask" | "iommu" | "cpuidle" | "ucode"
            | "tbuf_size" => {}
            _ => {
                let Some(switch) = self.switch(name) else {
                    return Outcome::Unknown;
                };
                *switch = on;
            }
        }
        Outcome::Done
    }

    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "noreboot" => &mut self.no_reboot,
            "x2apic" => &mut self.x2apic,
            "tdt" => &mut self.tsc_deadline,
            "msi" => &mut self.msi,
            "hpet" => &mut self.hpet,
            "watchdog" => &mut self.watchdog,
            "acpi" => &mut self.acpi,
            "frame_check" => &mut self.frame_check,
            _ => return None,
        })
    }
}

/// Source: Xen's `parse_bool`.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "yes" | "on" | "true" | "enable" | "1" | "force" => Some(true),
        "no" | "off" | "false" | "disable" | "0" => Some(false),
        _ => None,
    }
}

/// A size: a number with an optional unit B, K, M, G or T; without unit KiB.
/// Source: Xen's `parse_size_and_unit`.
fn size(value: &str) -> Option<u64> {
    let (digits, shift) = match value.as_bytes().last()?.to_ascii_uppercase() {
        b'B' => (&value[..value.len() - 1], 0),
        b'K' => (&value[..value.len() - 1], 10),
        b'M' => (&value[..value.len() - 1], 20),
        b'G' => (&value[..value.len() - 1], 30),
        b'T' => (&value[..value.len() - 1], 40),
        _ => (value, 10),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    number.ok()?.checked_mul(1 << shift)
}

fn amount(value: &str) -> Option<Amount> {
    match value.strip_prefix('-') {
        Some(rest) => size(rest).map(Amount::AllBut),
        None => size(value).map(Amount::Bytes),
    }
}

/// `dom0_mem=[min:<size>,][max:<size>,][<size>]`
fn dom0_mem(value: &str) -> Option<Dom0Memory> {
    let mut memory = Dom0Memory::default();
    for part in value.split(',') {
        if let Some(min) = part.strip_prefix("min:") {
            memory.min = Some(amount(min)?);
        } else if let Some(max) = part.strip_prefix("max:") {
            memory.max = Some(amount(max)?);
        } else {
            memory.target = Some(amount(part)?);
        }
    }
    Some(memory)
}

/// `dom0_max_vcpus=<n>|<min>-<max>|<min>-|-<max>`
fn vcpus(value: &str) -> Option<RangeInclusive<u32>> {
    let number = |s: &str| s.parse::<u32>().ok();
    let range = match value.split_once('-') {
        None => number(value)?..=number(value)?,
        Some(("", max)) => 1..=number(max)?,
        Some((min, "")) => number(min)?..=u32::MAX,
        Some((min, max)) => number(min)?..=number(max)?,
    };
    (*range.start() > 0 && range.start() <= range.end()).then_some(range)
}

/// `<level>[/<rate-limited level>]`
fn threshold(value: &str) -> Option<Threshold> {
    let level = |s: &str| {
        Some(match s {
            "none" => LevelFilter::Off,
            "error" => LevelFilter::Error,
            "warning" => LevelFilter::Warn,
            "info" => LevelFilter::Info,
            "debug" => LevelFilter::Debug,
            "all" => LevelFilter::Trace,
            _ => return None,
        })
    };
    let (always, limited) = value.split_once('/').unwrap_or((value, value));
    let (always, limited) = (level(always)?, level(limited)?);
    (always <= limited).then_some(Threshold { always, limited })
}

/// `reboot=` by its first letter, as Xen: a(cpi), k(bd), p(ci), t(riple), n(o).
fn reboot(value: &str) -> Option<Reboot> {
    let mut how = None;
    for part in value.split(',') {
        how = match part.as_bytes().first()? {
            b'a' | b'e' | b'P' | b'x' => Some(Reboot::Acpi),
            b'k' => Some(Reboot::Keyboard),
            b'p' => Some(Reboot::Pci),
            b't' => Some(Reboot::Triple),
            b'n' => Some(Reboot::No),
            // Warm and cold: there is one kind.
            b'w' | b'c' => how.or(Some(Reboot::default())),
            _ => return None,
        };
    }
    how
}

fn clock(value: &str) -> Option<ClockSource> {
    Some(match value {
        "tsc" => ClockSource::Tsc,
        "hpet" => ClockSource::Hpet,
        "acpi" => ClockSource::AcpiPm,
        "pit" => ClockSource::Pit,
        _ => return None,
    })
}

/// `dom0=`: only a PV dom0 can be had.
fn dom0(value: &str) -> Option<()> {
    value
        .split(',')
        .all(|p| {
            matches!(
                p,
                "pv" | "verbose" | "verbose=1" | "no-verbose" | "msr-relaxed"
            )
        })
        .then_some(())
}

mod speculation;

#[cfg(test)]
mod tests;
