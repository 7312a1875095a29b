//! Control registers as a PV kernel sees them.
//!
//! Bits: Intel SDM volume 3, section 2.5. Which of them a PV guest sees or changes:
//! Xen 4.17's behaviour.

/// CR0: monitor FPU, task switched and kin; only TS is the guest's.
pub const CR0_TS: u64 = 1 << 3;
/// CR0 as every guest sees it, less TS: PE, MP, ET, NE, WP, AM, PG.
const CR0_FIXED: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;

/// CR4.TSD: `rdtsc` needs CPL 0.
pub const CR4_TSD: u64 = 1 << 2;
/// CR4.DE: I/O breakpoints, and no aliases of debug registers.
pub const CR4_DE: u64 = 1 << 3;
/// CR4.FSGSBASE: instructions on segment bases.
pub const CR4_FSGSBASE: u64 = 1 << 16;
/// CR4.OSXSAVE: XSAVE and XCR0.
pub const CR4_OSXSAVE: u64 = 1 << 18;
/// CR4 bits of the host that every guest sees: PAE, MCE, OSFXSR, OSXMMEXCPT.
const CR4_FIXED: u64 = 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10;

/// What `mov r, cr0` gives.
#[must_use]
#[inline]
pub const fn cr0(task_switched: bool) -> u64 {
    if task_switched {
        CR0_FIXED | CR0_TS
    } else {
        CR0_FIXED
    }
}

/// The virtual TS that `mov cr0, r` asks for; `None` if another bit would change.
#[must_use]
pub const fn write_cr0(value: u64) -> Option<bool> {
    if value & !CR0_TS == CR0_FIXED {
        Some(value & CR0_TS != 0)
    } else {
        None
    }
}

/// What `mov r, cr4` gives.
#[must_use]
#[inline]
pub const fn cr4(guest_bits: u64) -> u64 {
    guest_bits | CR4_FIXED
}

/// CR4 bits a guest may set, given what its CPUID offers.
#[must_use]
pub const fn cr4_allowed(fsgsbase: bool, xsave: bool) -> u64 {
    let mut bits = CR4_TSD | CR4_DE;
    if fsgsbase {
        bits |= CR4_FSGSBASE;
    }
    if xsave {
        bits |= CR4_OSXSAVE;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cr0_lets_only_ts_change() {
        assert_eq!(cr0(false), 0x8005_0033);
        assert_eq!(write_cr0(cr0(true)), Some(true));
        assert_eq!(write_cr0(cr0(false)), Some(false));
        for bit in (0..64).filter(|b| *b != 3) {
            assert_eq!(write_cr0(cr0(false) ^ 1 << bit), None, "bit {bit}");
        }
    }

    #[test]
    fn cr4_shows_host_bits() {
        assert_eq!(cr4(CR4_OSXSAVE), 0x4_0660);
        assert_eq!(cr4_allowed(false, false), 0xc);
        assert_eq!(cr4_allowed(true, true), 0x5_000c);
    }
}
