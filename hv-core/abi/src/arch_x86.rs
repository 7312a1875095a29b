//! The x86-64 part of the interface: registers, contexts, selectors, address ranges.
//!
//! Source: Xen `include/public/arch-x86/xen.h`, `xen-x86_64.h`, `cpuid.h` and `include/public/xen.h` (VGA console).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First address of the hypervisor's range.
pub const HYPERVISOR_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// First address above the hypervisor's range.
pub const HYPERVISOR_VIRT_END: u64 = 0xffff_8800_0000_0000;
/// First address of the read-only machine-to-physical table.
pub const MACH2PHYS_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// First address above the machine-to-physical table.
pub const MACH2PHYS_VIRT_END: u64 = 0xffff_8040_0000_0000;

// Selectors of the reserved part of the GDT.
/// 32-bit code.
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// 64-bit code.
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// Data.
pub const FLAT_RING3_DS32: u16 = 0xe02b;
/// Data in 64-bit mode: null.
pub const FLAT_RING3_DS64: u16 = 0;
/// Stack.
pub const FLAT_RING3_SS64: u16 = 0xe02b;
/// Kernel code.
pub const FLAT_KERNEL_CS: u16 = 0xe033;
/// Kernel stack.
pub const FLAT_KERNEL_SS: u16 = 0xe02b;
/// User code.
pub const FLAT_USER_CS: u16 = 0xe033;
/// User stack.
pub const FLAT_USER_SS: u16 = 0xe02b;
/// First GDT page that is the hypervisor's.
pub const FIRST_RESERVED_GDT_PAGE: usize = 14;
/// First GDT entry that is the hypervisor's.
pub const FIRST_RESERVED_GDT_ENTRY: usize = 7168;

// `set_segment_base`: which base.
/// FS base.
pub const SEGBASE_FS: u32 = 0;
/// User GS base (inactive in the kernel).
pub const SEGBASE_GS_USER: u32 = 1;
/// Kernel GS base.
pub const SEGBASE_GS_KERNEL: u32 = 2;
/// User GS selector.
pub const SEGBASE_GS_USER_SEL: u32 = 3;

// `vcpu_guest_context.flags` and `iret_context.flags`.
/// FPU state is valid.
pub const VGCF_I387_VALID: u64 = 1;
/// The vCPU is in kernel mode.
pub const VGCF_IN_KERNEL: u64 = 4;
/// Failsafe callback masks events.
pub const VGCF_FAILSAFE_DISABLES_EVENTS: u64 = 8;
/// System-call callback masks events.
pub const VGCF_SYSCALL_DISABLES_EVENTS: u64 = 16;
/// The vCPU is up.
pub const VGCF_ONLINE: u64 = 32;
/// Return by SYSRET: rcx and r11 need no restoring.
pub const VGCF_IN_SYSCALL: u64 = 256;

// `trap_info.flags`.
/// Lowest privilege that may raise the vector by `int`.
pub const TI_DPL_MASK: u8 = 3;
/// Mask events on entry.
pub const TI_IF: u8 = 4;

// Hypervisor CPUID leaves.
/// Signature and last leaf.
pub const XEN_CPUID_FIRST_LEAF: u32 = 0x4000_0000;
/// "XenV".
pub const XEN_CPUID_SIGNATURE_EBX: u32 = 0x566e_6558;
/// "MMXe".
pub const XEN_CPUID_SIGNATURE_ECX: u32 = 0x6558_4d4d;
/// "nVMM".
pub const XEN_CPUID_SIGNATURE_EDX: u32 = 0x4d4d_566e;
/// Last leaf less the first.
pub const XEN_CPUID_MAX_NUM_LEAVES: u32 = 5;
/// Leaf 2 ecx: `MMU_PT_UPDATE_PRESERVE_AD` works.
pub const XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD: u32 = 1;
/// Bytes of the forced emulation prefix: `ud2; .ascii "xen"`.
pub const XEN_EMULATE_PREFIX: [u8; 5] = [0x0f, 0x0b, 0x78, 0x65, 0x6e];

/// `struct cpu_user_regs`: a vCPU's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CpuUserRegs {
    /// r15.
    pub r15: u64,
    /// r14.
    pub r14: u64,
    /// r13.
    pub r13: u64,
    /// r12.
    pub r12: u64,
    /// rbp.
    pub rbp: u64,
    /// rbx.
    pub rbx: u64,
    /// r11.
    pub r11: u64,
    /// r10.
    pub r10: u64,
    /// r9.
    pub r9: u64,
    /// r8.
    pub r8: u64,
    /// rax.
    pub rax: u64,
    /// rcx.
    pub rcx: u64,
    /// rdx.
    pub rdx: u64,
    /// rsi.
    pub rsi: u64,
    /// rdi.
    pub rdi: u64,
    /// Private to the hypervisor.
    pub error_code: u32,
    /// Private to the hypervisor.
    pub entry_vector: u32,
    /// rip.
    pub rip: u64,
    /// Code selector.
    pub cs: u16,
    /// Padding.
    pub _pad0: u16,
    /// Event mask at the time.
    pub saved_upcall_mask: u8,
    /// Padding.
    pub _pad1: [u8; 3],
    /// rflags; IF is the inverse of the event mask.
    pub rflags: u64,
    /// rsp.
    pub rsp: u64,
    /// Stack selector.
    pub ss: u16,
    /// Padding.
    pub _pad2: [u16; 3],
    /// es.
    pub es: u16,
    /// Padding.
    pub _pad3: [u16; 3],
    /// ds.
    pub ds: u16,
    /// Padding.
    pub _pad4: [u16; 3],
    /// fs.
    pub fs: u16,
    /// Padding.
    pub _pad5: [u16; 3],
    /// gs.
    pub gs: u16,
    /// Padding.
    pub _pad6: [u16; 3],
}
layout! { CpuUserRegs: 200 { r15: 0, r14: 8, r13: 16, r12: 24, rbp: 32, rbx: 40, r11: 48, r10: 56, r9: 64, r8: 72, rax: 80, rcx: 88, rdx: 96, rsi: 104, rdi: 112, error_code: 120, entry_vector: 124, rip: 128, cs: 136, _pad0: 138, saved_upcall_mask: 140, _pad1: 141, rflags: 144, rsp: 152, ss: 160, _pad2: 162, es: 168, _pad3: 170, ds: 176, _pad4: 178, fs: 184, _pad5: 186, gs: 192, _pad6: 194 } }

/// `struct trap_info`: one exception handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TrapInfo {
    /// Vector.
    pub vector: u8,
    /// `TI_*`.
    pub flags: u8,
    /// Code selector.
    pub cs: u16,
    /// Padding.
    pub _pad: u32,
    /// Handler; 0 ends the table.
    pub address: u64,
}
layout! { TrapInfo: 16 { vector: 0, flags: 1, cs: 2, _pad: 4, address: 8 } }

/// `struct iret_context`: frame of the `iret` hypercall, at the guest's rsp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IretContext {
    /// rax.
    pub rax: u64,
    /// r11.
    pub r11: u64,
    /// rcx.
    pub rcx: u64,
    /// `VGCF_IN_SYSCALL` or 0.
    pub flags: u64,
    /// rip.
    pub rip: u64,
    /// Code selector.
    pub cs: u64,
    /// rflags.
    pub rflags: u64,
    /// rsp.
    pub rsp: u64,
    /// Stack selector.
    pub ss: u64,
}
layout! { IretContext: 72 { rax: 0, r11: 8, rcx: 16, flags: 24, rip: 32, cs: 40, rflags: 48, rsp: 56, ss: 64 } }

/// `struct vcpu_guest_context`: whole state of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuGuestContext {
    /// FXSAVE image.
    pub fpu_ctxt: [u8; 512],
    /// `VGCF_*`.
    pub flags: u64,
    /// Registers.
    pub user_regs: CpuUserRegs,
    /// Exception handlers.
    pub trap_ctxt: [TrapInfo; 256],
    /// LDT's linear address.
    pub ldt_base: u64,
    /// LDT's entries.
    pub ldt_ents: u64,
    /// GDT's MFNs.
    pub gdt_frames: [u64; 16],
    /// GDT's entries.
    pub gdt_ents: u64,
    /// Kernel stack selector.
    pub kernel_ss: u64,
    /// Kernel stack pointer.
    pub kernel_sp: u64,
    /// CR0-CR7; 3 kernel L4, 1 user L4, as `mfn << 12`.
    pub ctrlreg: [u64; 8],
    /// DR0-DR7.
    pub debugreg: [u64; 8],
    /// Event entry point.
    pub event_callback_eip: u64,
    /// Failsafe entry point.
    pub failsafe_callback_eip: u64,
    /// System-call entry point.
    pub syscall_callback_eip: u64,
    /// Bitmap of `VMASST_TYPE_*`.
    pub vm_assist: u64,
    /// FS base.
    pub fs_base: u64,
    /// Kernel GS base.
    pub gs_base_kernel: u64,
    /// User GS base.
    pub gs_base_user: u64,
}
layout! { VcpuGuestContext: 5168 { fpu_ctxt: 0, flags: 512, user_regs: 520, trap_ctxt: 720, ldt_base: 4816, ldt_ents: 4824, gdt_frames: 4832, gdt_ents: 4960, kernel_ss: 4968, kernel_sp: 4976, ctrlreg: 4984, debugreg: 5048, event_callback_eip: 5112, failsafe_callback_eip: 5120, syscall_callback_eip: 5128, vm_assist: 5136, fs_base: 5144, gs_base_kernel: 5152, gs_base_user: 5160 } }

// `dom0_vga_console_info.video_type`.
/// 80x25 text.
pub const XEN_VGATYPE_TEXT_MODE_3: u8 = 0x03;
/// VESA linear frame buffer.
pub const XEN_VGATYPE_VESA_LFB: u8 = 0x23;
/// EFI frame buffer.
pub const XEN_VGATYPE_EFI_LFB: u8 = 0x70;

/// `struct dom0_vga_console_info`: the screen as the hypervisor leaves it to dom0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Dom0VgaConsoleInfo {
    /// `XEN_VGATYPE_*`.
    pub video_type: u8,
    /// Padding.
    pub _pad: [u8; 3],
    /// Union: [`VesaLfb`], or [`TextMode3`] in its first 10 bytes.
    pub u: VesaLfb,
}
layout! { Dom0VgaConsoleInfo: 40 { video_type: 0, _pad: 1, u: 4 } }

/// Frame buffer part of `struct dom0_vga_console_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VesaLfb {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Bytes.
    pub bytes_per_line: u16,
    /// Bits.
    pub bits_per_pixel: u16,
    /// Physical address, low half.
    pub lfb_base: u32,
    /// Units of 64 KiB.
    pub lfb_size: u32,
    /// Bit position of red.
    pub red_pos: u8,
    /// Bits of red.
    pub red_size: u8,
    /// Bit position of green.
    pub green_pos: u8,
    /// Bits of green.
    pub green_size: u8,
    /// Bit position of blue.
    pub blue_pos: u8,
    /// Bits of blue.
    pub blue_size: u8,
    /// Bit position of the rest.
    pub rsvd_pos: u8,
    /// Bits of the rest.
    pub rsvd_size: u8,
    /// VESA capabilities.
    pub gbl_caps: u32,
    /// VESA mode attributes.
    pub mode_attrs: u16,
    /// Padding.
    pub pad: u16,
    /// Physical address, high half.
    pub ext_lfb_base: u32,
}
layout! { VesaLfb: 36 { width: 0, height: 2, bytes_per_line: 4, bits_per_pixel: 6, lfb_base: 8, lfb_size: 12, red_pos: 16, red_size: 17, green_pos: 18, green_size: 19, blue_pos: 20, blue_size: 21, rsvd_pos: 22, rsvd_size: 23, gbl_caps: 24, mode_attrs: 28, pad: 30, ext_lfb_base: 32 } }

/// Text part of `struct dom0_vga_console_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TextMode3 {
    /// Pixels.
    pub font_height: u16,
    /// Column.
    pub cursor_x: u16,
    /// Row.
    pub cursor_y: u16,
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}
layout! { TextMode3: 10 { font_height: 0, cursor_x: 2, cursor_y: 4, rows: 6, columns: 8 } }
