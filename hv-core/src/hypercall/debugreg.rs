//! `set_debugreg` (8) and `get_debugreg` (9).

use super::{Call, HypercallResult, Reply};
use crate::arch::machine;
use crate::pv_emul::debug;

/// Writes `args[1]` to debug register `args[0]`.
///
/// # Errors
/// `ENODEV`: no such register. `EPERM`: it would watch the hypervisor or guard the
/// registers. `EINVAL`: reserved bits.
pub fn set_debugreg(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let number = u64::from(args[0] as u32);
    let state = &mut *call.state;
    let register = debug::set(&mut state.debug, state.cr4, number, args[1])?;
    machine::set_debug_register(register, state.debug[usize::from(register)]);
    Ok(Reply::Done(0))
}

/// Answers debug register `args[0]`.
///
/// # Errors
/// `ENODEV`: no such register.
pub fn get_debugreg(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let number = u64::from(args[0] as u32);
    let value = debug::get(&call.state.debug, call.state.cr4, number)?;
    Ok(Reply::Done(value))
}
