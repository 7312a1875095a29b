//! Page faults of a guest: to the LDT window, to the page-table emulation, or to the
//! guest's own handler.

use super::bounce::{self, Undeliverable};
use super::emulate;
use crate::addr::GuestVa;
use crate::arch::machine;
use crate::hypercall::Call;

/// Page-fault error code bits. Source: Intel SDM vol. 3, 4.7.
const PRESENT: u32 = 1;
const WRITE: u32 = 2;
const RESERVED: u32 = 8;
const FETCH: u32 = 16;

/// Handles the page fault that `call.regs` describes.
///
/// # Errors
/// If the guest must be told and cannot be.
pub fn handle(call: &mut Call<'_>) -> Result<(), Undeliverable> {
    let address = machine::fault_address();
    let code = call.regs.error_code;
    if GuestVa(address).in_hypervisor() {
        if let Some(page) = machine::ldt_window_page(address) {
            return ldt_fault(call, page, address, code);
        }
    } else if call.state.kernel_mode
        && code & (PRESENT | WRITE | RESERVED | FETCH) == PRESENT | WRITE
        && (emulate::page_table_write(call, GuestVa(address))
            || emulate::device_write(call, GuestVa(address)))
    {
        return Ok(());
    }
    bounce::page_fault(call, code, address)
}

/// The CPU looked up a selector in a page of the LDT window that is not mapped yet.
fn ldt_fault(call: &mut Call<'_>, page: u16, address: u64, code: u32) -> Result<(), Undeliverable> {
    let offset = address & 0xfff | u64::from(page) << 12;
    if u64::from(call.state.ldt_entries) * 8 > offset {
        if let Some(frame) = crate::hypercall::descriptors::ldt_page(call, page) {
            machine::map_ldt_page(page, frame);
            return Ok(());
        }
        // The guest's LDT is not mapped there: its own page fault.
        let va = call.state.ldt_base.add(offset);
        return bounce::page_fault(call, code, va.0);
    }
    let selector = (offset & 0xfff8) as u32 | 4;
    bounce::exception(call, 13, Some(selector))
}
