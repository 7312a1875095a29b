//! `set_segment_base` (25): FS and GS bases, and the user's GS selector.

use super::{Call, Error, HypercallResult, Reply};
use crate::addr::GuestVa;
use crate::arch::machine;
use xen_abi::arch_x86::{SEGBASE_FS, SEGBASE_GS_KERNEL, SEGBASE_GS_USER, SEGBASE_GS_USER_SEL};

/// Sets base `args[0]` (`SEGBASE_*`) to `args[1]`. A bad user selector becomes null:
/// that call never fails. The caller is a kernel, so its own GS base is the active one.
///
/// # Errors
/// `EINVAL`: no such base, or address not canonical.
#[inline]
pub fn set_segment_base(_: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let [which, base, ..] = args;
    let set: fn(u64) = match which as u32 {
        SEGBASE_FS => machine::set_fs_base,
        SEGBASE_GS_USER => machine::set_inactive_gs_base,
        SEGBASE_GS_KERNEL => machine::set_gs_base,
        SEGBASE_GS_USER_SEL => |selector| machine::load_user_gs(user_selector(selector)),
        _ => return Err(Error::Invalid),
    };
    if which as u32 != SEGBASE_GS_USER_SEL && !GuestVa(base).is_canonical() {
        return Err(Error::Invalid);
    }
    set(base);
    Ok(Reply::Done(0))
}

/// Selectors of a guest have privilege 3, but null stays null.
const fn user_selector(raw: u64) -> u16 {
    let selector = raw as u16;
    if selector & !3 == 0 { 0 } else { selector | 3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        for (raw, loaded) in [(0, 0), (3, 0), (0x28, 0x2b), (0x1_0063, 0x63)] {
            assert_eq!(user_selector(raw), loaded);
        }
    }
}
