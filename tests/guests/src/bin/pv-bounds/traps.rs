//! Exceptions and instructions that the hypervisor does for a guest.

use crate::row::row;
use core::arch::asm;
use test_guests::hypercall::call_with;
use test_guests::memory::{Page, table_of};
use test_guests::trap;
use xen_abi::physdev::{PHYSDEVOP_SET_IOPL, PhysdevSetIopl};
use xen_abi::xen::{HYPERVISOR_PHYSDEV_OP, VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES};

pub fn rows() {
    row("exception of a guest", || {
        trap::attempt(|| {
            // SAFETY: the exception is expected.
            unsafe { asm!("ud2") };
        })
        .is_some()
    });
    row("cpuid", || {
        // SAFETY: no memory is touched; emulated by force.
        unsafe {
            asm!(
                "push rbx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2", "pop rbx",
                inout("eax") 1 => _, inout("ecx") 0 => _, out("edx") _,
            );
        }
        true
    });
    row("rdmsr, wrmsr", || {
        // SAFETY: EFER is read; FS base, unused here, is set.
        unsafe {
            asm!("rdmsr", in("ecx") 0xc000_0080_u32, out("eax") _, out("edx") _);
            asm!("wrmsr", in("ecx") 0xc000_0100_u32, in("eax") 0, in("edx") 0);
        }
        true
    });
    row("physdev_op set_iopl", || {
        let mut level = PhysdevSetIopl { iopl: 1 };
        call_with(HYPERVISOR_PHYSDEV_OP, PHYSDEVOP_SET_IOPL, &mut level) == 0
    });
    row("in, out", || {
        // SAFETY: a port that delays.
        unsafe { asm!("in al, dx", "out dx, al", in("edx") 0x80, out("eax") _) };
        true
    });
    string_io();
    row("reads of control registers", || {
        // SAFETY: reads only.
        unsafe { asm!("mov {0}, cr0", "mov {0}, cr3", "mov {0}, cr4", out(reg) _) };
        true
    });
    row("write of a page-table entry", || {
        test_guests::hypercall::call(
            xen_abi::xen::HYPERVISOR_VM_ASSIST,
            [
                u64::from(VMASST_CMD_ENABLE),
                u64::from(VMASST_TYPE_WRITABLE_PAGETABLES),
                0,
                0,
                0,
            ],
        );
        let page = Page::take();
        let (table, index) = table_of(page.va(), 1);
        let entry = table.read(index);
        table.write(index, 0);
        table.write(index, entry);
        table.read(index) & 1 == 1
    });
}

/// Bytes read from a port into a page, the longest a count can say.
fn string_io() {
    let page = Page::take();
    row("rep insb of 4096", || {
        // SAFETY: the page is nobody's; port 0x80 has no effect.
        unsafe {
            asm!("rep insb", in("edx") 0x80, inout("rdi") page.va() => _, inout("rcx") 4096_u64 => _);
        }
        true
    });
}
