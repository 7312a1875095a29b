//! `multicall` (13): several hypercalls in one entry.

use super::mmu::Stretch;
use super::{Call, Error, HypercallResult, Reply};
use crate::addr::GuestVa;
use crate::arch::machine;
use crate::mm::guest_stack;
use xen_abi::xen::{HYPERVISOR_IRET, HYPERVISOR_MULTICALL, MulticallEntry};

/// Entries done between two looks at what else this CPU has to do.
const BATCH: u64 = 32;

/// Runs the `args[1]` entries at `args[0]` in order, storing each result.
///
/// # Errors
/// `EFAULT`: an entry cannot be read or its result not written (earlier entries stay
/// done). As an entry's result, `EINVAL`: a multicall in a multicall.
pub fn multicall(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    const SIZE: u64 = size_of::<MulticallEntry>() as u64;
    let [list, count, ..] = args;
    let mut at = GuestVa(list);
    let count = u64::from(count as u32);
    let mut stretch = Stretch::begin();
    for done in 0..count {
        // An entry may be a list itself, so the number of entries says little.
        if done > 0 && stretch.is_over(done, BATCH) {
            if machine::preempt_point() {
                return Ok(Reply::go_on(args, [at.0, count - done]));
            }
            stretch = Stretch::begin();
        }
        let root = call.state.kernel_root.ok_or(Error::Fault)?;
        let mut entry = match guest_stack::read_arguments::<8>(root, at) {
            Ok([op, result, args @ ..]) => MulticallEntry { op, result, args },
            // Not aligned, or across pages.
            Err(_) => call.guest().read(at)?,
        };
        if entry.op == HYPERVISOR_IRET {
            // Allowed as the last entry: there is no result to store.
            super::return_from_trap(call);
            return Ok(Reply::Done(call.regs.rax));
        }
        let result = match entry.op {
            HYPERVISOR_MULTICALL => Err(Error::Invalid),
            op => super::invoke(call, op, entry.args),
        };
        let value = match result {
            Ok(Reply::Done(value)) => value,
            Ok(Reply::Continue(rest)) => {
                // The entry itself is to go on: it describes its own remainder.
                entry.args = rest;
                call.guest().write(at, &entry)?;
                return Ok(Reply::go_on(args, [at.0, count - done]));
            }
            Err(error) => super::refused(call, entry.op, entry.args, error),
        };
        // The entry may have loaded another root; the one before may be anything by now.
        let root = call.state.kernel_root.ok_or(Error::Fault)?;
        guest_stack::write_argument(root, at.add(8), value)?;
        at = at.add(SIZE);
    }
    Ok(Reply::Done(0))
}
