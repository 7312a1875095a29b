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

impl GuestRegs {
    /// General register `n`, by its number in instruction encodings (0 `rax` to 15
    /// `r15`; Intel SDM volume 2, table 2-2). Only the low four bits count.
    #[must_use]
    #[inline]
    pub const fn gpr(&self, n: u8) -> u64 {
        match n & 15 {
            0 => self.rax,
            1 => self.rcx,
            2 => self.rdx,
            3 => self.rbx,
            4 => self.rsp,
            5 => self.rbp,
            6 => self.rsi,
            7 => self.rdi,
            8 => self.r8,
            9 => self.r9,
            10 => self.r10,
            11 => self.r11,
            12 => self.r12,
            13 => self.r13,
            14 => self.r14,
            _ => self.r15,
        }
    }

    /// General register `n`, to be written; numbered as for [`GuestRegs::gpr`].
    #[inline]
    pub const fn gpr_mut(&mut self, n: u8) -> &mut u64 {
        match n & 15 {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => &mut self.rsp,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            _ => &mut self.r15,
        }
    }
}

/// Carry. Bits of `rflags`: Intel SDM volume 1, section 3.4.3.
pub const RFLAGS_CF: u64 = 1 << 0;
/// Parity of the low byte.
pub const RFLAGS_PF: u64 = 1 << 2;
/// Carry out of bit 3.
pub const RFLAGS_AF: u64 = 1 << 4;
/// Zero.
pub const RFLAGS_ZF: u64 = 1 << 6;
/// Sign.
pub const RFLAGS_SF: u64 = 1 << 7;
/// Single step.
pub const RFLAGS_TF: u64 = 1 << 8;
/// Interrupts enabled.
pub const RFLAGS_IF: u64 = 1 << 9;
/// String instructions go down.
pub const RFLAGS_DF: u64 = 1 << 10;
/// Signed overflow.
pub const RFLAGS_OF: u64 = 1 << 11;
/// I/O privilege level.
pub const RFLAGS_IOPL: u64 = 3 << RFLAGS_IOPL_SHIFT;
/// Where that begins.
pub const RFLAGS_IOPL_SHIFT: u32 = 12;
/// Nested task.
pub const RFLAGS_NT: u64 = 1 << 14;
/// Instruction breakpoints off for one instruction.
pub const RFLAGS_RF: u64 = 1 << 16;
/// Virtual 8086 mode.
pub const RFLAGS_VM: u64 = 1 << 17;
/// Alignment checks (user mode); access to user pages (supervisor, with SMAP).
pub const RFLAGS_AC: u64 = 1 << 18;
