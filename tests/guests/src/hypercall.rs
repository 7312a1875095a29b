//! Hypercalls: the bare instruction, and the calls that need a struct around them.

use core::arch::global_asm;
use pv_drivers::hypercall::raw;
use xen_abi::xen::{
    HYPERVISOR_MMU_UPDATE, HYPERVISOR_MMUEXT_OP, HYPERVISOR_UPDATE_VA_MAPPING, MmuUpdate, MmuextOp,
};

/// Address of a value, as hypercalls take it.
pub fn address_of<T: ?Sized>(value: &mut T) -> u64 {
    &raw mut *value as *mut () as u64
}

/// Issues a hypercall.
///
/// Pointers among the arguments must be to buffers of the caller's own, to [`crate::memory::Page`]s
/// or to nothing of this kernel.
pub fn call(number: u64, arguments: [u64; 5]) -> i64 {
    // SAFETY: the caller answers for what the arguments name, as documented.
    unsafe { raw(number, arguments) }
}

// The page of hypercall stubs, which the loader fills: this package's kernels ask for one.
// Note: Xen `include/public/elfnote.h`, type 2.
global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .align 4
    .long 4, 8, 2
    .asciz "Xen"
    .quad hypercall_page

    .section .text.hypercall_page, "ax", @progbits
    .balign 4096
    .globl hypercall_page
hypercall_page:
    .fill 4096, 1, 0xcc
    "#
);

unsafe extern "Rust" {
    static hypercall_page: [u8; 4096];
}

/// Address of the hypercall page.
pub fn hypercall_page_va() -> u64 {
    &raw const hypercall_page as u64
}

/// Issues a hypercall with a command and a pointer to its struct.
pub fn call_with<T>(number: u64, command: u32, argument: &mut T) -> i64 {
    call(number, [u64::from(command), address_of(argument), 0, 0, 0])
}

/// One `mmu_update` for this domain's own tables.
pub fn mmu_update(ptr: u64, val: u64) -> i64 {
    mmu_update_for(ptr, val, u64::from(xen_abi::xen::DOMID_SELF))
}

/// One `mmu_update` with a foreign domain.
pub fn mmu_update_for(ptr: u64, val: u64, domain: u64) -> i64 {
    let mut update = MmuUpdate { ptr, val };
    call(
        HYPERVISOR_MMU_UPDATE,
        [address_of(&mut update), 1, 0, domain, 0],
    )
}

/// One `mmuext_op`.
pub fn mmuext_op(cmd: u32, arg1: u64, arg2: u64) -> i64 {
    let mut op = MmuextOp {
        cmd,
        _pad: 0,
        arg1,
        arg2,
    };
    let domain = u64::from(xen_abi::xen::DOMID_SELF);
    call(HYPERVISOR_MMUEXT_OP, [address_of(&mut op), 1, 0, domain, 0])
}

/// Sets the L1 entry of an address.
pub fn update_va_mapping(va: u64, entry: u64, flags: u64) -> i64 {
    call(HYPERVISOR_UPDATE_VA_MAPPING, [va, entry, flags, 0, 0])
}
