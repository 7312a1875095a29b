//! `stack_switch` (3): the kernel's stack for entries from user mode.

use super::{Call, HypercallResult, Reply};

/// Notes `args[1]` as the kernel's stack pointer. The selector `args[0]` has no use in
/// 64-bit mode. A bad stack shows when it is used.
///
/// # Errors
/// None.
#[inline]
pub fn stack_switch(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    call.state.kernel_sp = args[1];
    Ok(Reply::Done(0))
}
