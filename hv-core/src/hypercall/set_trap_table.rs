//! `set_trap_table` (0): exception handlers.

use super::{Call, Error, HypercallResult, Reply};
use crate::addr::GuestVa;
use crate::domain::vcpu::TrapGate;
use xen_abi::arch_x86::{TI_DPL_MASK, TI_IF, TrapInfo};

/// Entries taken before events get their turn. A full table is 256.
const BATCH: u64 = 512;

/// Sets the handlers in the list at `args[0]`, which an entry without handler ends; a
/// null list removes all. Entries before a bad one stay set, as in Xen.
///
/// # Errors
/// `EFAULT`: list unreadable. `EINVAL`: handler not canonical.
///
/// Source: Xen `include/public/arch-x86/xen.h`, `struct trap_info`.
pub fn set_trap_table(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let list = GuestVa(args[0]);
    if list.0 == 0 {
        call.state.traps.fill(TrapGate::default());
        return Ok(Reply::Done(0));
    }
    let guest = call.guest();
    for n in 0..BATCH {
        let info: TrapInfo = guest.read(entry(list, n))?;
        if info.address == 0 {
            return Ok(Reply::Done(0));
        }
        call.state.traps[usize::from(info.vector)] = gate(&info)?;
    }
    Ok(Reply::go_on(args, [entry(list, BATCH).0]))
}

fn entry(list: GuestVa, n: u64) -> GuestVa {
    list.add(n * size_of::<TrapInfo>() as u64)
}

fn gate(info: &TrapInfo) -> Result<TrapGate, Error> {
    if !GuestVa(info.address).is_canonical() {
        return Err(Error::Invalid);
    }
    Ok(TrapGate {
        address: info.address,
        cs: info.cs | 3,
        flags: info.flags & (TI_DPL_MASK | TI_IF),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates() {
        let info = TrapInfo {
            vector: 14,
            flags: 0xff,
            cs: 0x10,
            _pad: 0,
            address: 0xffff_ffff_8100_0000,
        };
        let g = gate(&info).expect("valid");
        assert_eq!((g.cs, g.flags), (0x13, 7));
        let bad = TrapInfo {
            address: 1 << 50,
            ..info
        };
        assert_eq!(gate(&bad).err(), Some(Error::Invalid));
    }
}
