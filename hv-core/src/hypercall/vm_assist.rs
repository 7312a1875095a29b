//! `vm_assist` (21): behaviours a guest turns on.

use super::{Call, Error, HypercallResult, Reply};
use core::sync::atomic::Ordering;
use xen_abi::xen::{
    VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_4GB_SEGMENTS,
    VMASST_TYPE_4GB_SEGMENTS_NOTIFY, VMASST_TYPE_ARCHITECTURAL_IOPL, VMASST_TYPE_M2P_STRICT,
    VMASST_TYPE_PAE_EXTENDED_CR3, VMASST_TYPE_RUNSTATE_UPDATE_FLAG,
    VMASST_TYPE_WRITABLE_PAGETABLES,
};

/// Types a 64-bit guest may turn on; the first two and the fourth mean nothing to it.
const VALID: u64 = 1 << VMASST_TYPE_4GB_SEGMENTS
    | 1 << VMASST_TYPE_4GB_SEGMENTS_NOTIFY
    | 1 << VMASST_TYPE_WRITABLE_PAGETABLES
    | 1 << VMASST_TYPE_PAE_EXTENDED_CR3
    | 1 << VMASST_TYPE_ARCHITECTURAL_IOPL
    | 1 << VMASST_TYPE_RUNSTATE_UPDATE_FLAG
    | 1 << VMASST_TYPE_M2P_STRICT;

/// Turns type `args[1]` on or off, as command `args[0]` says.
///
/// # Errors
/// `EINVAL`: no such type. `ENOSYS`: no such command.
pub fn vm_assist(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let bit = bit(args[1])?;
    let assist = &call.domain.assist;
    let before = match args[0] as u32 {
        VMASST_CMD_ENABLE => assist.fetch_or(bit, Ordering::Relaxed),
        VMASST_CMD_DISABLE => assist.fetch_and(!bit, Ordering::Relaxed),
        _ => return Err(Error::NotImplemented),
    };
    let changed = before ^ assist.load(Ordering::Relaxed);
    if changed >> VMASST_TYPE_ARCHITECTURAL_IOPL & 1 != 0 {
        // Entry code is told when a vCPU comes back: the others come in now.
        let others = call.domain.vcpus().iter();
        others
            .filter(|vcpu| vcpu.id != call.vcpu.id)
            .for_each(|vcpu| vcpu.notify());
    }
    Ok(Reply::Done(0))
}

fn bit(kind: u64) -> Result<u64, Error> {
    1u64.checked_shl(kind as u32)
        .filter(|bit| bit & VALID != 0)
        .ok_or(Error::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for kind in 0..100 {
            let valid = matches!(kind, 0..=5 | 32);
            assert_eq!(bit(kind).is_ok(), valid, "{kind}");
        }
        assert!(bit(u64::MAX).is_err());
    }
}
