//! Debug registers: the rules of `set_debugreg`, `get_debugreg` and `mov dr`.
//!
//! A guest must not watch the hypervisor's own memory, nor guard debug registers
//! against it. Bits: Intel SDM volume 3, section 17.2.

use super::control::CR4_DE;
use crate::addr::GuestVa;

/// Guest-visible debug registers at their own index (4 and 5 unused).
pub type DebugRegisters = [u64; 8];

/// Why a debug register was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugError {
    /// No such register (4 and 5 with CR4.DE, or above 7).
    NoRegister,
    /// The value watches the hypervisor, or guards the registers.
    NotPermitted,
    /// The value has reserved bits, or I/O breakpoints without CR4.DE.
    Invalid,
}

/// DR6 bits that read as one.
const DR6_ONES: u64 = 0xffff_0ff0;
/// DR6 bits that read as zero.
const DR6_ZEROS: u64 = !0xffff_ffff | 1 << 12;
/// DR7 bits that read as one.
const DR7_ONES: u64 = 1 << 10;
/// DR7 bits that read as zero.
const DR7_ZEROS: u64 = 0xd800;
/// DR7.GD: faults on use of debug registers.
const DR7_GD: u64 = 1 << 13;

/// The register that `n` names: 4 and 5 are other names of 6 and 7 without CR4.DE.
///
/// # Errors
/// [`DebugError::NoRegister`].
const fn resolve(cr4: u64, n: u64) -> Result<u8, DebugError> {
    match n {
        0..=3 | 6 | 7 => Ok(n as u8),
        4 | 5 if cr4 & CR4_DE == 0 => Ok(n as u8 + 2),
        _ => Err(DebugError::NoRegister),
    }
}

/// Reads debug register `n`.
///
/// # Errors
/// [`DebugError::NoRegister`].
pub fn get(registers: &DebugRegisters, cr4: u64, n: u64) -> Result<u64, DebugError> {
    resolve(cr4, n).map(|r| registers[r as usize])
}

/// Checks and stores debug register `n`. Returns which register to load into
/// hardware; its value is then in `registers`.
///
/// # Errors
/// Any [`DebugError`].
pub fn set(registers: &mut DebugRegisters, cr4: u64, n: u64, value: u64) -> Result<u8, DebugError> {
    let r = resolve(cr4, n)?;
    registers[r as usize] = match r {
        0..=3 => {
            if !GuestVa(value).is_guest() {
                return Err(DebugError::NotPermitted);
            }
            value
        }
        6 => (value | DR6_ONES) & !DR6_ZEROS,
        _ => checked_dr7(cr4, value)?,
    };
    Ok(r)
}

fn checked_dr7(cr4: u64, value: u64) -> Result<u64, DebugError> {
    if value >> 32 != 0 {
        return Err(DebugError::Invalid);
    }
    if value & DR7_GD != 0 {
        return Err(DebugError::NotPermitted);
    }
    let value = (value | DR7_ONES) & !DR7_ZEROS;
    // Bits 16 up: four bits a breakpoint, of which the low two are its type; 2 is I/O.
    let io = (0..4).any(|n| value & 3 << (n * 2) != 0 && value >> (16 + n * 4) & 3 == 2);
    if io && cr4 & CR4_DE == 0 {
        return Err(DebugError::Invalid);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> DebugRegisters {
        [0, 0, 0, 0, 0, 0, DR6_ONES, DR7_ONES]
    }

    #[test]
    fn addresses_are_the_guests() {
        let mut r = fresh();
        assert_eq!(set(&mut r, 0, 0, 0x1000), Ok(0));
        assert_eq!(get(&r, 0, 0), Ok(0x1000));
        for bad in [0xffff_8000_0000_0000, 0xffff_87ff_ffff_ffff, 1 << 47] {
            assert_eq!(set(&mut r, 0, 3, bad), Err(DebugError::NotPermitted));
        }
        assert_eq!(set(&mut r, 0, 3, 0xffff_ffff_8100_0000), Ok(3));
    }

    #[test]
    fn aliases_go_away_with_de() {
        let mut r = fresh();
        assert_eq!(set(&mut r, 0, 5, 0), Ok(7));
        assert_eq!(get(&r, 0, 4), Ok(DR6_ONES));
        assert_eq!(get(&r, CR4_DE, 4), Err(DebugError::NoRegister));
        assert_eq!(set(&mut r, CR4_DE, 5, 0), Err(DebugError::NoRegister));
        assert_eq!(get(&r, 0, 8), Err(DebugError::NoRegister));
        assert_eq!(get(&r, 0, u64::MAX), Err(DebugError::NoRegister));
    }

    #[test]
    fn dr7_rules() {
        let mut r = fresh();
        assert_eq!(set(&mut r, 0, 7, 0), Ok(7));
        assert_eq!(r[7], 0x400);
        assert_eq!(set(&mut r, 0, 7, 1 << 32), Err(DebugError::Invalid));
        assert_eq!(set(&mut r, 0, 7, DR7_GD), Err(DebugError::NotPermitted));
        // Breakpoint 1 enabled as I/O.
        let io = 1 << 2 | 2 << 20;
        assert_eq!(set(&mut r, 0, 7, io), Err(DebugError::Invalid));
        assert_eq!(set(&mut r, CR4_DE, 7, io), Ok(7));
        // Not enabled: harmless.
        assert_eq!(set(&mut r, 0, 7, 2 << 20), Ok(7));
        assert_eq!(set(&mut r, 0, 6, 0xffff_ffff_ffff_ffff), Ok(6));
        assert_eq!(r[6], 0xffff_efff);
    }
}
