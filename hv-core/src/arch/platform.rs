//! What the firmware says about the machine, as plain data.
//!
//! Filled in once at boot from the ACPI tables (`arch::x86_64::acpi`) and read-only
//! after that. Knows no registers and no tables; the pieces that need parsing by
//! hand ([`find_s5`], [`madt_entries_fit`]) work on byte slices and are tested on
//! the host.

use crate::addr::MachAddr;
use alloc::vec::Vec;

/// A processor the firmware lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Local APIC id (x2APIC width).
    pub apic_id: u32,
    /// ACPI processor id (MADT "processor UID").
    pub acpi_id: u32,
    /// Whether the firmware says it may be used.
    pub enabled: bool,
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicInfo {
    /// Its APIC id.
    pub id: u8,
    /// Base of its register window.
    pub base: MachAddr,
    /// First global system interrupt it serves.
    pub gsi_base: u32,
}

/// How an interrupt line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Signal {
    /// Level triggered (edge otherwise).
    pub level: bool,
    /// Active low (high otherwise).
    pub active_low: bool,
}

impl Signal {
    /// The ISA bus's way: edge, active high.
    pub const ISA: Self = Self {
        level: false,
        active_low: false,
    };
    /// The PCI bus's way: level, active low.
    pub const PCI: Self = Self {
        level: true,
        active_low: true,
    };

    /// Decodes "MPS INTI flags" of the MADT for a line on the ISA bus, whose own
    /// convention stands where the flags say "conforms to the bus".
    ///
    /// Source: ACPI 6.5, table 5.26.
    #[must_use]
    pub const fn from_inti_flags(flags: u16) -> Self {
        Self {
            active_low: flags & 3 == 3,
            level: flags >> 2 & 3 == 3,
        }
    }
}

/// An ISA interrupt that is not wired to the GSI of the same number, or signals in
/// another way than the ISA bus does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// ISA interrupt number, 0 to 15.
    pub isa: u8,
    /// Global system interrupt.
    pub gsi: u32,
    /// How it signals.
    pub signal: Signal,
}

/// A local APIC pin wired to NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalNmi {
    /// ACPI processor id, or `None` for all.
    pub acpi_id: Option<u32>,
    /// LINT pin, 0 or 1.
    pub lint: u8,
}

/// A window of memory-mapped PCI configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct McfgRegion {
    /// Address of bus 0's (not `first_bus`'s) configuration space.
    pub base: MachAddr,
    /// PCI segment group.
    pub segment: u16,
    /// First bus decoded.
    pub first_bus: u8,
    /// Last bus decoded.
    pub last_bus: u8,
}

/// A register the firmware describes by a generic address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// An I/O port.
    Port(u16),
    /// A physical address.
    Memory(MachAddr),
}

/// The power-management registers of the FADT.
#[derive(Clone, Debug, Default)]
pub struct PowerInfo {
    /// PM1a event block.
    pub pm1a_event: Option<Register>,
    /// PM1b event block.
    pub pm1b_event: Option<Register>,
    /// PM1a control register.
    pub pm1a_control: Option<Register>,
    /// PM1b control register.
    pub pm1b_control: Option<Register>,
    /// PM timer (3.579545 MHz).
    pub pm_timer: Option<Register>,
    /// Whether the PM timer counts 32 bits (24 otherwise).
    pub pm_timer_32bit: bool,
    /// Reset register and the value to write, if the firmware supports it.
    pub reset: Option<(Register, u8)>,
    /// Interrupt of ACPI events.
    pub sci_gsi: u32,
    /// SMI command port and the value that turns ACPI mode on; 0 if always on.
    pub acpi_enable: (u16, u8),
    /// `SLP_TYP` values for S5 in PM1a and PM1b.
    pub s5: (u8, u8),
    /// CMOS index of the century, or 0.
    pub rtc_century: u8,
}

/// The last APIC id that xAPIC mode can name, and that devices can interrupt without
/// interrupt remapping: 255 is everybody. Source: Intel SDM vol. 3, 11.6.2.1 and 11.11.1.
pub const LAST_XAPIC_ID: u32 = 254;

/// The processors to use ([`Platform::choose_processors`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// These; CPU numbers are their places.
    pub processors: Vec<Processor>,
    /// Left out because there are too many.
    pub too_many: usize,
    /// Left out because their APIC ids need x2APIC mode.
    pub too_wide: usize,
}

/// Which of the CPUs with the APIC ids `apic_ids` device interrupts meant for CPU `wanted` go
/// to: that one if devices can name it, else one that they can, such that different CPUs get
/// different ones. `None`: devices can name no CPU that `runs`.
pub fn device_target(
    wanted: usize,
    apic_ids: &[u32],
    runs: impl Fn(usize) -> bool,
) -> Option<usize> {
    let named = |n: &usize| apic_ids[*n] <= LAST_XAPIC_ID;
    if wanted < apic_ids.len() && named(&wanted) {
        return Some(wanted);
    }
    let others = || (0..apic_ids.len()).filter(|n| named(n) && runs(*n));
    let count = others().count();
    others().nth(wanted.checked_rem(count)?)
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Platform {
    /// RSDP, if there is one.
    pub rsdp: Option<MachAddr>,
    /// Physical base of the local APICs (xAPIC mode).
    pub local_apic: u64,
    /// Whether there is also a pair of 8259 interrupt controllers.
    pub has_pic: bool,
    /// Processors in the firmware's order, each APIC id once.
    pub processors: Vec<Processor>,
    /// I/O APICs.
    pub io_apics: Vec<IoApicInfo>,
    /// ISA interrupt overrides.
    pub overrides: Vec<Override>,
    /// Local NMI pins.
    pub local_nmis: Vec<LocalNmi>,
    /// Memory-mapped PCI configuration windows.
    pub mcfg: Vec<McfgRegion>,
    /// Power management.
    pub power: PowerInfo,
    /// HPET register block.
    pub hpet: Option<MachAddr>,
}

impl Platform {
    /// A PC of which firmware says nothing.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            local_apic: 0xfee0_0000,
            has_pic: true,
            ..Self::default()
        }
    }

    /// Which processors to use, the one with APIC id `boot` first and the others in the
    /// firmware's order: `most` at most. Without `wide` APICs can be told of 8-bit ids only
    /// (xAPIC mode), and others cannot be started.
    #[allow(clippy::disallowed_methods, reason = "at boot only")]
    #[must_use]
    pub fn choose_processors(&self, boot: u32, most: usize, wide: bool) -> Chosen {
        let me = self.processors.iter().find(|p| p.apic_id == boot);
        let mut chosen = Chosen {
            processors: Vec::new(),
            too_many: 0,
            too_wide: 0,
        };
        // The CPU that runs exists, whatever the firmware says of it.
        chosen.processors.push(Processor {
            apic_id: boot,
            acpi_id: me.map_or(0, |p| p.acpi_id),
            enabled: true,
        });
        for p in &self.processors {
            if !p.enabled || p.apic_id == boot {
                continue;
            }
            if !wide && p.apic_id > LAST_XAPIC_ID {
                chosen.too_wide += 1;
            } else if chosen.processors.len() >= most {
                chosen.too_many += 1;
            } else {
                chosen.processors.push(*p);
            }
        }
        chosen
    }

    /// The line an ISA interrupt arrives on, and how it signals.
    #[must_use]
    pub fn isa_irq(&self, isa: u8) -> (u32, Signal) {
        self.overrides
            .iter()
            .find(|o| o.isa == isa)
            .map_or((u32::from(isa), Signal::ISA), |o| (o.gsi, o.signal))
    }

    /// How `gsi` signals unless told otherwise: as its override says, ISA lines as
    /// ISA does, the rest as PCI does.
    #[must_use]
    pub fn default_signal(&self, gsi: u32) -> Signal {
        if let Some(o) = self.overrides.iter().find(|o| o.gsi == gsi) {
            o.signal
        } else if gsi < 16 {
            Signal::ISA
        } else {
            Signal::PCI
        }
    }
}

/// Whether a MADT's entries tile its tail: each at least two bytes, none past the end.
/// (The `acpi` crate's iterator trusts them.)
#[must_use]
pub fn madt_entries_fit(mut entries: &[u8]) -> bool {
    while let [_, len, ..] = entries {
        let len = usize::from(*len);
        if len < 2 || len > entries.len() {
            return false;
        }
        entries = &entries[len..];
    }
    entries.is_empty()
}

/// `SLP_TYP` values of the `\_S5` package, found by its bytes in the DSDT.
///
/// The package is `NameOp "_S5_" PackageOp PkgLength NumElements` and then integers;
/// its first two elements are the values for PM1a and PM1b. Source: ACPI 6.5,
/// 7.4.2 and 20.2.
#[must_use]
pub fn find_s5(aml: &[u8]) -> Option<(u8, u8)> {
    const NAME_OP: u8 = 0x08;
    const PACKAGE_OP: u8 = 0x12;
    let at = (1..aml.len().saturating_sub(6)).find(|&i| {
        aml[i..].starts_with(b"_S5_")
            && aml[i + 4] == PACKAGE_OP
            && (aml[i - 1] == NAME_OP || (i > 1 && aml[i - 2..i] == [NAME_OP, b'\\']))
    })?;
    let package = &aml[at + 5..];
    // The two top bits of the first length byte count the bytes that follow it.
    let skip = 1 + usize::from(package.first()? >> 6);
    let count = *package.get(skip)?;
    let mut rest = package.get(skip + 1..)?;
    if count == 0 {
        return None;
    }
    let mut integer = || {
        // ZeroOp, OneOp, OnesOp, BytePrefix, WordPrefix, DWordPrefix.
        let (value, len) = match *rest.first()? {
            v @ (0 | 1) => (v, 1),
            0xff => (0xff, 1),
            0x0a => (*rest.get(1)?, 2),
            0x0b => (*rest.get(1)?, 3),
            0x0c => (*rest.get(1)?, 5),
            _ => return None,
        };
        rest = rest.get(len..)?;
        Some(value & 7)
    };
    let a = integer()?;
    let b = if count > 1 { integer().unwrap_or(0) } else { 0 };
    Some((a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_as_qemu_writes_it() {
        let mut aml = b"junk_S5_junk".to_vec();
        aml.extend(b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00");
        assert_eq!(find_s5(&aml), Some((0, 0)));
    }

    #[test]
    fn s5_with_byte_prefixes_and_a_root_name() {
        let aml = b"..\x08\\_S5_\x12\x0a\x04\x0a\x07\x0a\x06\x00\x00..";
        assert_eq!(find_s5(aml), Some((7, 6)));
        let long = b".\x08_S5_\x12\x4a\x00\x02\x0b\x05\x00\x01...";
        assert_eq!(find_s5(long), Some((5, 1)));
    }

    #[test]
    fn s5_truncated_is_none() {
        let aml = b".\x08_S5_\x12\x06\x04\x0a\x05\x00";
        for end in 0..aml.len() {
            let _ = find_s5(&aml[..end]);
        }
        assert_eq!(find_s5(&aml[..9]), None);
        assert_eq!(find_s5(b""), None);
    }

    fn processors(ids: &[(u32, bool)]) -> Platform {
        let processor = |(n, (apic_id, enabled)): (usize, &(u32, bool))| Processor {
            apic_id: *apic_id,
            acpi_id: 100 + n as u32,
            enabled: *enabled,
        };
        Platform {
            processors: ids.iter().enumerate().map(processor).collect(),
            ..Platform::default()
        }
    }

    fn ids(chosen: &Chosen) -> Vec<u32> {
        chosen.processors.iter().map(|p| p.apic_id).collect()
    }

    #[test]
    fn the_boot_processor_is_first_and_disabled_ones_are_left_out() {
        let p = processors(&[(2, true), (0, false), (16, true), (6, true)]);
        let chosen = p.choose_processors(16, 64, true);
        assert_eq!(ids(&chosen), [16, 2, 6]);
        assert_eq!(chosen.processors[0].acpi_id, 102);
        assert_eq!((chosen.too_many, chosen.too_wide), (0, 0));
        // Firmware that does not list it, or calls it disabled, is wrong.
        assert_eq!(ids(&p.choose_processors(9, 64, true)), [9, 2, 16, 6]);
        assert_eq!(ids(&p.choose_processors(0, 64, true)), [0, 2, 16, 6]);
        assert_eq!(ids(&Platform::default().choose_processors(7, 1, true)), [7]);
    }

    #[test]
    fn processors_beyond_the_limit_are_counted() {
        let many: Vec<_> = (0..600).map(|n| (n * 2, true)).collect();
        let p = processors(&many);
        let chosen = p.choose_processors(0, 512, true);
        assert_eq!((chosen.processors.len(), chosen.too_many), (512, 88));
        assert_eq!(chosen.processors[511].apic_id, 1022);
        // An id of more than 8 bits would reach another processor in xAPIC mode.
        let chosen = p.choose_processors(0, 512, false);
        assert_eq!((chosen.processors.len(), chosen.too_wide), (128, 472));
        assert_eq!(chosen.processors[127].apic_id, 254);
        assert_eq!(chosen.too_many, 0);
    }

    #[test]
    fn devices_interrupt_cpus_they_can_name() {
        let ids = [300, 0, 255, 254, 1000, 8];
        let all = |_| true;
        assert_eq!(device_target(1, &ids, all), Some(1));
        assert_eq!(device_target(3, &ids, all), Some(3));
        for (wanted, given) in [(0, 1), (2, 5), (4, 3)] {
            assert_eq!(device_target(wanted, &ids, all), Some(given), "{wanted}");
        }
        assert_eq!(device_target(4, &ids, |n| n == 5), Some(5));
        assert_eq!(device_target(4, &ids, |_| false), None);
        assert_eq!(device_target(0, &[256, 255], all), None);
        assert_eq!(device_target(70, &ids, all), Some(3));
    }

    #[test]
    fn madt_entries() {
        assert!(madt_entries_fit(&[]));
        assert!(madt_entries_fit(&[0, 3, 9, 1, 2]));
        assert!(!madt_entries_fit(&[0, 0]));
        assert!(!madt_entries_fit(&[0, 4, 1]));
        assert!(!madt_entries_fit(&[0, 2, 1]));
    }

    #[test]
    fn overrides_win() {
        let p = Platform {
            overrides: vec![
                Override {
                    isa: 0,
                    gsi: 2,
                    signal: Signal::ISA,
                },
                Override {
                    isa: 9,
                    gsi: 9,
                    signal: Signal::from_inti_flags(0xd),
                },
            ],
            ..Platform::default()
        };
        assert_eq!(p.isa_irq(0), (2, Signal::ISA));
        assert_eq!(p.isa_irq(4), (4, Signal::ISA));
        assert_eq!(
            p.default_signal(9),
            Signal {
                level: true,
                active_low: false
            }
        );
        assert_eq!(p.default_signal(20), Signal::PCI);
    }
}
