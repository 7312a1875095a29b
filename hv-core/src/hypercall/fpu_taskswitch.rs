//! `fpu_taskswitch` (5): virtual CR0.TS.

use super::{Call, HypercallResult, Reply};
use crate::arch::machine;

/// Sets (`args[0]` not 0) or clears TS: while it is set, the guest's next use of the
/// FPU raises #NM.
///
/// # Errors
/// None.
#[inline]
pub fn fpu_taskswitch(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let set = args[0] as u32 != 0;
    if call.state.task_switched != set {
        call.state.task_switched = set;
        machine::set_task_switched(set);
    }
    Ok(Reply::Done(0))
}
