//! The per-CPU entry area: everything the processor itself needs at a fixed place
//! when a guest enters the hypervisor.
//!
//! CPU *n* has the 4 MiB at `ENTRY_AREAS + n * 4 MiB` (L4 slot 259):
//!
//! | pages | what | access |
//! |---|---|---|
//! | 0 | system-call stubs (one frame, mapped for every CPU) | RX |
//! | 1 | [`EntryData`]: scratch, pointers and, at its end, the guest's registers | RW |
//! | 2 | IDT (one frame, mapped for every CPU) | R |
//! | 3 | TSS | RW |
//! | 4-19 | stacks of NMI, machine check, double fault, debug (guard + 3 pages each) | RW |
//! | 32-46 | GDT: 14 pages of the guest's, then ours | RW |
//! | 48-63 | window on the guest's LDT | RW |
//! | 513-528 | hypervisor stack (page 512 is its guard) | RW |
//!
//! Because every stack of a CPU lies in its area, `rsp` rounded down finds
//! the CPU's data without a segment register; GS stays the guest's.
//!
//! With page-table isolation on, a guest's tables map of all this only what entry
//! code touches before it loads the hypervisor's root: the first 2 MiB, which are one
//! L1 table, and not the hypervisor stack in the second.

use crate::addr::CpuId;
use crate::arch::regs::GuestRegs;
use core::mem::offset_of;
use core::sync::atomic::AtomicU32;

/// First byte of CPU 0's area.
pub const ENTRY_AREAS: u64 = 0xffff_8180_0000_0000;
/// Bytes from one CPU's area to the next.
pub const AREA_SIZE: u64 = 4 << 20;
/// Page of the system-call stubs.
pub const STUB_PAGE: u64 = 0;
/// Page of [`EntryData`].
pub const DATA_PAGE: u64 = 1;
/// Page of the IDT.
pub const IDT_PAGE: u64 = 2;
/// Page of the TSS.
pub const TSS_PAGE: u64 = 3;
/// First page of the first IST stack's guard.
pub const IST_PAGE: u64 = 4;
/// Pages from one IST stack to the next, the guard included.
pub const IST_STRIDE: u64 = 4;
/// IST stacks in use: NMI, machine check, double fault, debug.
pub const IST_COUNT: u64 = 4;
/// First page of the GDT window.
pub const GDT_PAGE: u64 = 32;
/// Pages of the GDT that are the guest's.
pub const GDT_GUEST_PAGES: u64 = 14;
/// First page of the LDT window.
pub const LDT_PAGE: u64 = 48;
/// Pages of the LDT window (8192 entries of 8 bytes).
pub const LDT_PAGES: u64 = 16;
/// First page of the hypervisor stack.
pub const STACK_PAGE: u64 = 513;
/// Pages of the hypervisor stack.
pub const STACK_PAGES: u64 = 16;

/// Address of `page` in the area of `cpu`.
#[must_use]
pub const fn page_va(cpu: CpuId, page: u64) -> u64 {
    ENTRY_AREAS + cpu.0 as u64 * AREA_SIZE + page * 4096
}

/// What entry code reads and writes, one page.
#[repr(C, align(4096))]
pub struct EntryData {
    /// The guest's `rsp` while a system call has no register to spare.
    pub scratch_rsp: u64,
    /// Top of the hypervisor stack.
    pub stack_top: u64,
    /// Where the 64-bit system-call stub goes on.
    pub syscall_entry: u64,
    /// Where the compatibility-mode system-call stub goes on.
    pub syscall32_entry: u64,
    /// The hypervisor's root, or 0 when guests run on tables that map it all.
    pub host_cr3: u64,
    /// The guest root to load on the way out, when `host_cr3` is not 0.
    pub guest_cr3: u64,
    /// This CPU's `CpuLocal`.
    pub local: u64,
    /// The guest's `rax` while entry code needs a register.
    pub scratch_rax: u64,
    /// Reasons to look around before the next return to a guest; other CPUs set them.
    pub work: AtomicU32,
    /// Where the guest is, if entry code may handle its system calls and returns by
    /// itself: [`SLOW`], [`IN_USER`] or [`IN_KERNEL`].
    pub mode: u32,
    /// What entry code needs for that; see `fast`.
    pub fast: Fast,
    /// Page number of the guest address that `stack_at` shows; all ones: none. A TLB
    /// entry like those of `mm::guest_stack`, under the kernel's root.
    pub stack_page: u64,
    /// That page as the hypervisor sees it.
    pub stack_at: u64,
    /// The guest's `rdx` while entry code needs a register.
    pub scratch_rdx: u64,
    /// What is done about speculation when a guest enters (`arch::speculation::enter`).
    pub enter: u32,
    /// What is done about speculation before a guest runs (`arch::speculation::leave`).
    pub leave: u32,
    /// `SPEC_CTRL` while the hypervisor runs.
    pub spec_ctrl: u32,
    /// `SPEC_CTRL` while the guest runs.
    pub guest_spec_ctrl: u32,
    /// Operand of the `verw` that clears the CPU's buffers: a selector it may write through.
    pub selector: u64,
    pad: [u64; (4096 - 168 - 22 * 8) / 8],
    /// The registers of the guest that entered. The stack of every entry from a
    /// guest starts at its end.
    pub frame: GuestRegs,
}

/// Copies of a vCPU's state for entry code, true while a guest runs and
/// [`EntryData::mode`] is not [`SLOW`].
#[repr(C)]
pub struct Fast {
    /// CR3 of the guest kernel.
    pub kernel_cr3: u64,
    /// CR3 of guest user mode.
    pub user_cr3: u64,
    /// The system-call callback.
    pub syscall_rip: u64,
    /// 1 if that callback masks events.
    pub syscall_mask: u64,
    /// Kernel stack pointer for entries from user mode.
    pub kernel_sp: u64,
    /// The vCPU's `vcpu_info`.
    pub info: u64,
    /// Whether the vCPU's state allows entry code to act at all.
    pub usable: u64,
}

/// Rust handles every entry.
pub const SLOW: u32 = 0;
/// The guest is in user mode.
pub const IN_USER: u32 = 1;
/// The guest is in kernel mode.
pub const IN_KERNEL: u32 = 2;

const _: () = assert!(size_of::<EntryData>() == 4096);
const _: () = assert!(offset_of!(EntryData, frame) == FRAME_OFFSET as usize);
const _: () = assert!(offset_of!(EntryData, stack_top) == 8);
const _: () = assert!(offset_of!(EntryData, syscall_entry) == 16);
const _: () = assert!(offset_of!(EntryData, syscall32_entry) == 24);
const _: () = assert!(offset_of!(EntryData, host_cr3) == 32);
const _: () = assert!(offset_of!(EntryData, guest_cr3) == 40);
const _: () = assert!(offset_of!(EntryData, local) == 48);
const _: () = assert!(offset_of!(EntryData, scratch_rax) == 56);

/// Offset of the guest's registers in [`EntryData`].
pub const FRAME_OFFSET: u64 = 4096 - 168;
