//! User mode: a program of one page, in an address space of its own.

use core::arch::naked_asm;

use xen_abi::errno::ENOMEM;
use xen_abi::xen::{
    HYPERVISOR_STACK_SWITCH, MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L4_TABLE, MMUEXT_UNPIN_TABLE,
};

use super::frames::{self, OwnPage};
use super::mmu::{self, DATA, TABLE};
use super::trap::{self, Frame};
use crate::hypercall::{Errno, raw};
use crate::ring::Page;

/// Where the program is.
const CODE: u64 = 0x40_0000;
/// Top of its stack, in the same page.
const STACK: u64 = CODE + 4096;
/// Pages of the kernel's stack for what comes from user mode.
const KERNEL_STACK: u64 = 4;

/// A program that can be run, on vCPU 0.
#[derive(Debug)]
pub struct Program {
    /// L4 first.
    tables: [OwnPage; 4],
    _page: OwnPage,
}

impl Program {
    /// Puts code into a page and makes an address space for it.
    ///
    /// # Errors
    /// `ENOMEM`: no memory is left; others: the hypervisor's.
    pub fn new(code: &[u8]) -> Result<Self, Errno> {
        let none = Errno(ENOMEM);
        let [l4, l3, l2, l1, page] = [(); 5].map(|()| OwnPage::new());
        let tables = [
            l4.ok_or(none)?,
            l3.ok_or(none)?,
            l2.ok_or(none)?,
            l1.ok_or(none)?,
        ];
        let page = page.ok_or(none)?;
        page.write(0, code.get(..2048).unwrap_or(code));
        let [l4, l3, l2, l1] = &tables;
        let put = |table: &OwnPage, index: usize, page: &OwnPage, rights: u64| {
            table.write(index * 8, &(page.mfn() << 12 | rights).to_ne_bytes());
        };
        put(l4, 0, l3, TABLE);
        put(l3, 0, l2, TABLE);
        put(l2, (CODE >> 21) as usize, l1, TABLE);
        put(l1, 0, &page, DATA);
        for table in &tables {
            table.set_writable(false)?;
        }
        let root = l4.mfn();
        let stack = frames::run(KERNEL_STACK).ok_or(none)? + KERNEL_STACK * 4096;
        // SAFETY: the tables map the program's page alone; the stack is this one's for good.
        unsafe {
            mmu::mmuext(MMUEXT_PIN_L4_TABLE, root, 0)?;
            mmu::mmuext(MMUEXT_NEW_USER_BASEPTR, root, 0)?;
            Errno::check(raw(HYPERVISOR_STACK_SWITCH, [0xe02b, stack, 0, 0, 0]))?;
        }
        Ok(Self {
            tables,
            _page: page,
        })
    }

    /// Runs it from its first byte, until something arrives that the hook leaves; that frame.
    pub fn run(&self) -> Option<Frame> {
        trap::attempt(|| leave(CODE, STACK))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: no vCPU is in user mode.
        unsafe {
            let _ = mmu::mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0);
            let _ = mmu::mmuext(MMUEXT_UNPIN_TABLE, self.tables[0].mfn(), 0);
        }
        for table in &self.tables {
            // One that stays a table faults when it is used as a page: a crash, nothing worse.
            let _ = table.set_writable(true);
        }
    }
}

/// Leaves for user mode by the iret hypercall.
#[unsafe(naked)]
extern "C" fn leave(rip: u64, rsp: u64) -> ! {
    naked_asm!(
        "push {ss}",
        "push rsi",
        "push 0x202",
        "push {cs}",
        "push rdi",
        "push 0",
        "push 0",
        "push 0",
        "push 0",
        "mov eax, 23",
        "syscall",
        "ud2",
        ss = const 0xe02b,
        cs = const 0xe033,
    )
}
