//! What firmware leaves in a CPU's registers, and what becomes of it.
//!
//! Pure decisions, for `arch::x86_64::leftovers` to carry out.

/// AMD's interrupt-pending register: bits 27 and 28 make a halt of all cores a sleep in
/// which APIC timers stop. Source: AMD BKDG for family 10h (31116), MSRC001_0055; erratum
/// 400 of its revision guide (41322).
pub const AMD_INTERRUPT_PENDING: u32 = 0xc001_0055;
const SMI_ON_HALT: u64 = 1 << 27;
const C1E_ON_HALT: u64 = 1 << 28;

/// Whether an AMD CPU of this family may have [`AMD_INTERRUPT_PENDING`]'s halt bits: K8 to
/// family 11h. Later ones enter C1E by a message, and their APIC timers go on.
#[must_use]
pub const fn may_stop_timers_when_halted(family: u32) -> bool {
    family >= 0xf && family <= 0x11
}

/// What [`AMD_INTERRUPT_PENDING`] should hold instead of `found`; `None`: just that.
#[must_use]
pub const fn without_c1e(found: u64) -> Option<u64> {
    let wanted = found & !(SMI_ON_HALT | C1E_ON_HALT);
    if wanted == found { None } else { Some(wanted) }
}

/// Whether a guest can hang an AMD CPU of this family and model by running off the end of
/// canonical addresses. Source: erratum 121 of AMD's revision guide for family 0Fh (25759).
#[must_use]
pub const fn can_be_hung_by_guests(family: u32, model: u32) -> bool {
    family == 0xf && model < 0x40
}

/// What the local APIC's thermal entry should hold instead of `found`. Delivery as SMI is
/// how firmware keeps the CPU cool, so that stays; anything else is masked. Source: Intel
/// SDM vol. 3, 11.5.1 (delivery modes) and 15.8 (thermal monitoring).
#[must_use]
pub const fn thermal_entry(found: u32) -> u32 {
    const DELIVERY: u32 = 7 << 8;
    const SMI: u32 = 2 << 8;
    const MASKED: u32 = 1 << 16;
    if found & DELIVERY == SMI && found & MASKED == 0 {
        found
    } else {
        MASKED
    }
}

/// The physical address of the local APIC's registers, in `IA32_APIC_BASE`. Firmware may
/// have moved them, whatever its tables say. Source: Intel SDM vol. 3, 11.4.4 and 11.4.5.
#[must_use]
pub const fn apic_address(base: u64) -> u64 {
    base & 0x000f_ffff_ffff_f000
}

/// `IA32_MTRRCAP` and `IA32_MTRR_DEF_TYPE`. Source: Intel SDM vol. 3, 12.11.1 and 12.11.2.1.
pub const MTRR_CAPABILITIES: u32 = 0xfe;
/// See [`MTRR_CAPABILITIES`].
pub const MTRR_DEFAULT: u32 = 0x2ff;
/// Whether the MTRRs are in use at all, in [`MTRR_DEFAULT`].
pub const MTRR_ENABLE: u64 = 1 << 11;

/// The registers that say what type memory has, by the value of [`MTRR_CAPABILITIES`]:
/// fixed ranges, then pairs of variable ones, then [`MTRR_DEFAULT`]. Source: as there.
pub fn mtrr_numbers(capabilities: u64) -> impl Iterator<Item = u32> {
    const FIXED: [u32; 11] = [
        0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
    ];
    let fixed = if capabilities >> 8 & 1 != 0 { 11 } else { 0 };
    let variable = 2 * (capabilities & 0xff) as u32;
    FIXED
        .into_iter()
        .take(fixed)
        .chain(0x200..0x200 + variable)
        .chain([MTRR_DEFAULT])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn old_amd_cpus_do_not_stop_their_timers() {
        for (family, may) in [
            (6, false),
            (0xf, true),
            (0x10, true),
            (0x11, true),
            (0x12, false),
        ] {
            assert_eq!(may_stop_timers_when_halted(family), may, "{family:#x}");
        }
        assert_eq!(without_c1e(0), None);
        assert_eq!(without_c1e(0x00e0_0040), None);
        assert_eq!(without_c1e(0x1800_0040), Some(0x40));
        assert_eq!(without_c1e(1 << 27), Some(0));
        assert_eq!(without_c1e(1 << 28), Some(0));
    }

    #[test]
    fn the_first_amd_cpus_can_be_hung_by_guests() {
        for (family, model, can) in [
            (0xf, 0x05, true),
            (0xf, 0x3f, true),
            (0xf, 0x41, false),
            (0x10, 0x02, false),
            (6, 0x05, false),
        ] {
            assert_eq!(
                can_be_hung_by_guests(family, model),
                can,
                "{family:#x} {model:#x}"
            );
        }
    }

    #[test]
    fn firmware_keeps_its_thermal_interrupt() {
        assert_eq!(thermal_entry(0x0000_0200), 0x200);
        // Masked, another delivery, or as after reset.
        for found in [0x0001_0200, 0x0000_00fa, 0x0000_0400, 0x0001_0000] {
            assert_eq!(thermal_entry(found), 0x1_0000, "{found:#x}");
        }
    }

    #[test]
    fn the_apic_is_where_its_register_says() {
        assert_eq!(apic_address(0xfee0_0900), 0xfee0_0000);
        assert_eq!(apic_address(0x000f_edcb_a987_6d00), 0x000f_edcb_a987_6000);
        assert_eq!(apic_address(u64::MAX), 0x000f_ffff_ffff_f000);
    }

    #[test]
    fn memory_type_registers() {
        let numbers: Vec<_> = mtrr_numbers(0x508).collect();
        assert_eq!(numbers.len(), 11 + 16 + 1);
        assert_eq!(
            (numbers[0], numbers[11], numbers[26]),
            (0x250, 0x200, 0x20f)
        );
        assert_eq!(numbers.last(), Some(&MTRR_DEFAULT));
        let few: Vec<_> = mtrr_numbers(2).collect();
        assert_eq!(few, [0x200, 0x201, 0x202, 0x203, 0x2ff]);
    }
}
