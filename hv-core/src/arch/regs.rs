//! The guest's general registers as entry code saves them.

/// Registers of a vCPU, in the order entry code pushes them. The layout equals
/// the first 168 bytes of Xen's `cpu_user_regs` (public `arch-x86/xen-x86_64.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct GuestRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Error code of the exception that entered, or 0.
    pub error_code: u32,
    /// Vector that entered; see `arch::x86_64::entry` for the software ones.
    pub vector: u32,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(core::mem::size_of::<GuestRegs>() == 168);
const _: () = assert!(core::mem::offset_of!(GuestRegs, rip) == 128);
