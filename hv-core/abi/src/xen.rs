//! Xen's core interface: hypercall numbers, domains, MMU commands, shared and start info.
//!
//! Source: Xen `include/public/xen.h` (4.17). Every struct names its C counterpart.
//! Numbers a guest passes are plain constants, not Rust enums: any other value may arrive.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

// Hypercall numbers (rax).
/// Registers exception handlers.
pub const HYPERVISOR_SET_TRAP_TABLE: u64 = 0;
/// Checked page-table updates.
pub const HYPERVISOR_MMU_UPDATE: u64 = 1;
/// Sets the GDT's frames.
pub const HYPERVISOR_SET_GDT: u64 = 2;
/// Sets the kernel stack.
pub const HYPERVISOR_STACK_SWITCH: u64 = 3;
/// Sets event, failsafe and system-call entry points.
pub const HYPERVISOR_SET_CALLBACKS: u64 = 4;
/// Sets or clears CR0.TS.
pub const HYPERVISOR_FPU_TASKSWITCH: u64 = 5;
/// Old form of `sched_op`.
pub const HYPERVISOR_SCHED_OP_COMPAT: u64 = 6;
/// Operations on the host's platform (hardware domain).
pub const HYPERVISOR_PLATFORM_OP: u64 = 7;
/// Writes a debug register.
pub const HYPERVISOR_SET_DEBUGREG: u64 = 8;
/// Reads a debug register.
pub const HYPERVISOR_GET_DEBUGREG: u64 = 9;
/// Checked write of one segment descriptor.
pub const HYPERVISOR_UPDATE_DESCRIPTOR: u64 = 10;
/// Memory reservation and maps (`XENMEM_*`).
pub const HYPERVISOR_MEMORY_OP: u64 = 12;
/// A batch of hypercalls.
pub const HYPERVISOR_MULTICALL: u64 = 13;
/// Checked update of the L1 entry of one address.
pub const HYPERVISOR_UPDATE_VA_MAPPING: u64 = 14;
/// Sets the one-shot timer.
pub const HYPERVISOR_SET_TIMER_OP: u64 = 15;
/// Old form of `event_channel_op`.
pub const HYPERVISOR_EVENT_CHANNEL_OP_COMPAT: u64 = 16;
/// Version and features (`XENVER_*`).
pub const HYPERVISOR_XEN_VERSION: u64 = 17;
/// Emergency console.
pub const HYPERVISOR_CONSOLE_IO: u64 = 18;
/// Old form of `physdev_op`.
pub const HYPERVISOR_PHYSDEV_OP_COMPAT: u64 = 19;
/// Grant tables (`GNTTABOP_*`).
pub const HYPERVISOR_GRANT_TABLE_OP: u64 = 20;
/// Turns assists on or off.
pub const HYPERVISOR_VM_ASSIST: u64 = 21;
/// `update_va_mapping` with a foreign frame.
pub const HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN: u64 = 22;
/// Returns from an exception.
pub const HYPERVISOR_IRET: u64 = 23;
/// Virtual CPUs (`VCPUOP_*`).
pub const HYPERVISOR_VCPU_OP: u64 = 24;
/// Sets FS/GS bases.
pub const HYPERVISOR_SET_SEGMENT_BASE: u64 = 25;
/// Pins, base pointers, TLB flushes (`MMUEXT_*`).
pub const HYPERVISOR_MMUEXT_OP: u64 = 26;
/// Security module.
pub const HYPERVISOR_XSM_OP: u64 = 27;
/// Registers an NMI handler.
pub const HYPERVISOR_NMI_OP: u64 = 28;
/// Scheduling (`SCHEDOP_*`).
pub const HYPERVISOR_SCHED_OP: u64 = 29;
/// Registers callbacks (`CALLBACKOP_*`).
pub const HYPERVISOR_CALLBACK_OP: u64 = 30;
/// Profiling.
pub const HYPERVISOR_XENOPROF_OP: u64 = 31;
/// Event channels (`EVTCHNOP_*`).
pub const HYPERVISOR_EVENT_CHANNEL_OP: u64 = 32;
/// Physical devices and interrupts (`PHYSDEVOP_*`).
pub const HYPERVISOR_PHYSDEV_OP: u64 = 33;
/// HVM guests.
pub const HYPERVISOR_HVM_OP: u64 = 34;
/// Host control for the toolstack.
pub const HYPERVISOR_SYSCTL: u64 = 35;
/// Domain control for the toolstack.
pub const HYPERVISOR_DOMCTL: u64 = 36;
/// Kexec.
pub const HYPERVISOR_KEXEC_OP: u64 = 37;
/// Removed from Xen.
pub const HYPERVISOR_TMEM_OP: u64 = 38;
/// Argo messages.
pub const HYPERVISOR_ARGO_OP: u64 = 39;
/// Performance counters.
pub const HYPERVISOR_XENPMU_OP: u64 = 40;
/// Device models.
pub const HYPERVISOR_DM_OP: u64 = 41;
/// Hypervisor file system.
pub const HYPERVISOR_HYPFS_OP: u64 = 42;
/// x86: `mca`.
pub const HYPERVISOR_ARCH_0: u64 = 48;
/// x86: continuation of paging `domctl`s.
pub const HYPERVISOR_ARCH_1: u64 = 49;
/// Hypercall number, for the architecture.
pub const HYPERVISOR_ARCH_7: u64 = 55;
/// First number that is no hypercall (Xen's table size).
pub const NR_HYPERCALLS: u64 = 64;

// Virtual interrupts.
/// Time base update or timeout; per vCPU.
pub const VIRQ_TIMER: u32 = 0;
/// Request to dump state; per vCPU.
pub const VIRQ_DEBUG: u32 = 1;
/// Input on the emergency console; global.
pub const VIRQ_CONSOLE: u32 = 2;
/// Something happened to some domain; global.
pub const VIRQ_DOM_EXC: u32 = 3;
/// Trace buffer has records; global.
pub const VIRQ_TBUF: u32 = 4;
/// A domain paused for debugging; global.
pub const VIRQ_DEBUGGER: u32 = 6;
/// New profile sample; per vCPU.
pub const VIRQ_XENOPROF: u32 = 7;
/// Hypervisor console wrote bytes; global.
pub const VIRQ_CON_RING: u32 = 8;
/// A physical CPU changed state; global.
pub const VIRQ_PCPU_STATE: u32 = 9;
/// A memory event; global.
pub const VIRQ_MEM_EVENT: u32 = 10;
/// Argo message; global.
pub const VIRQ_ARGO: u32 = 11;
/// Low on memory; global.
pub const VIRQ_ENOMEM: u32 = 12;
/// Performance counter interrupt; per vCPU.
pub const VIRQ_XENPMU: u32 = 13;
/// x86: machine check; global.
pub const VIRQ_ARCH_0: u32 = 16;
/// First number that is no VIRQ.
pub const NR_VIRQS: u32 = 24;

// Kinds of `mmu_update`, in the low two bits of `ptr`.
/// Checked write of a page-table entry at a machine address.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// Update of the machine-to-physical table.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// As 0, keeping accessed and dirty bits.
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
/// As 0, never translating the value.
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;
/// Bit of `count` that marks a continuation of `mmu_update` or `mmuext_op`.
pub const MMU_UPDATE_PREEMPTED: u32 = 0x8000_0000;

// Commands of `mmuext_op`.
/// Pins a frame as L1 table.
pub const MMUEXT_PIN_L1_TABLE: u32 = 0;
/// Pins a frame as L2 table.
pub const MMUEXT_PIN_L2_TABLE: u32 = 1;
/// Pins a frame as L3 table.
pub const MMUEXT_PIN_L3_TABLE: u32 = 2;
/// Pins a frame as L4 table.
pub const MMUEXT_PIN_L4_TABLE: u32 = 3;
/// Removes a pin.
pub const MMUEXT_UNPIN_TABLE: u32 = 4;
/// Switches the kernel's L4.
pub const MMUEXT_NEW_BASEPTR: u32 = 5;
/// Flushes this vCPU's TLB.
pub const MMUEXT_TLB_FLUSH_LOCAL: u32 = 6;
/// Flushes one address on this vCPU.
pub const MMUEXT_INVLPG_LOCAL: u32 = 7;
/// Flushes the TLBs of some vCPUs.
pub const MMUEXT_TLB_FLUSH_MULTI: u32 = 8;
/// Flushes one address on some vCPUs.
pub const MMUEXT_INVLPG_MULTI: u32 = 9;
/// Flushes all vCPUs' TLBs.
pub const MMUEXT_TLB_FLUSH_ALL: u32 = 10;
/// Flushes one address on all vCPUs.
pub const MMUEXT_INVLPG_ALL: u32 = 11;
/// Writes back and flushes caches.
pub const MMUEXT_FLUSH_CACHE: u32 = 12;
/// Sets the LDT.
pub const MMUEXT_SET_LDT: u32 = 13;
/// Sets the L4 of user mode.
pub const MMUEXT_NEW_USER_BASEPTR: u32 = 15;
/// Zeroes a frame.
pub const MMUEXT_CLEAR_PAGE: u32 = 16;
/// Copies a frame.
pub const MMUEXT_COPY_PAGE: u32 = 17;
/// Flushes caches of all CPUs.
pub const MMUEXT_FLUSH_CACHE_GLOBAL: u32 = 18;
/// Marks a superpage (obsolete).
pub const MMUEXT_MARK_SUPER: u32 = 19;
/// Unmarks a superpage (obsolete).
pub const MMUEXT_UNMARK_SUPER: u32 = 20;

// Flags of `update_va_mapping`.
/// No flush.
pub const UVMF_NONE: u64 = 0;
/// Flush the whole TLB.
pub const UVMF_TLB_FLUSH: u64 = 1;
/// Flush one entry.
pub const UVMF_INVLPG: u64 = 2;
/// Bits that select the flush.
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// The other bits point to a vCPU bitmap.
pub const UVMF_MULTI: u64 = 0;
/// Local flush (a null bitmap pointer).
pub const UVMF_LOCAL: u64 = 0;
/// Flush on all vCPUs.
pub const UVMF_ALL: u64 = 4;

// Commands of `console_io`.
/// Writes bytes.
pub const CONSOLEIO_WRITE: u32 = 0;
/// Reads bytes.
pub const CONSOLEIO_READ: u32 = 1;

// `vm_assist`.
/// Turns an assist on.
pub const VMASST_CMD_ENABLE: u32 = 0;
/// Turns an assist off.
pub const VMASST_CMD_DISABLE: u32 = 1;
/// 32-bit guests: emulate 4 GiB segments.
pub const VMASST_TYPE_4GB_SEGMENTS: u32 = 0;
/// 32-bit guests: trap on that emulation.
pub const VMASST_TYPE_4GB_SEGMENTS_NOTIFY: u32 = 1;
/// Emulate direct writes to page tables.
pub const VMASST_TYPE_WRITABLE_PAGETABLES: u32 = 2;
/// 32-bit guests: page directories above 4 GiB.
pub const VMASST_TYPE_PAE_EXTENDED_CR3: u32 = 3;
/// IOPL in pushed flags and real privilege rules.
pub const VMASST_TYPE_ARCHITECTURAL_IOPL: u32 = 4;
/// Mark runstate updates in progress.
pub const VMASST_TYPE_RUNSTATE_UPDATE_FLAG: u32 = 5;
/// No machine-to-physical table in user page tables.
pub const VMASST_TYPE_M2P_STRICT: u32 = 32;

// Domain identifiers.
/// First number that is no ordinary domain.
pub const DOMID_FIRST_RESERVED: u16 = 0x7ff0;
/// The caller.
pub const DOMID_SELF: u16 = 0x7ff0;
/// Owner of device memory.
pub const DOMID_IO: u16 = 0x7ff1;
/// Owner of the hypervisor's frames.
pub const DOMID_XEN: u16 = 0x7ff2;
/// Owner of shared copy-on-write pages.
pub const DOMID_COW: u16 = 0x7ff3;
/// Nobody.
pub const DOMID_INVALID: u16 = 0x7ff4;
/// The idle domain.
pub const DOMID_IDLE: u16 = 0x7fff;
/// Bits of a domain identifier.
pub const DOMID_MASK: u16 = 0x7fff;

// `start_info.flags`.
/// The domain is privileged.
pub const SIF_PRIVILEGED: u32 = 1;
/// The initial control domain.
pub const SIF_INITDOMAIN: u32 = 2;
/// `mod_start` is a multiboot module list.
pub const SIF_MULTIBOOT_MOD: u32 = 4;
/// `mod_start` is a PFN.
pub const SIF_MOD_START_PFN: u32 = 8;
/// Tools understand the virtually mapped P2M.
pub const SIF_VIRT_P2M_4TOOLS: u32 = 0x10;
/// Power management bits.
pub const SIF_PM_MASK: u32 = 0xff00;
/// Bytes of `start_info.cmd_line`, with its NUL.
pub const MAX_GUEST_CMDLINE: usize = 1024;
/// vCPUs with a `vcpu_info` in `shared_info`.
pub const XEN_LEGACY_MAX_VCPUS: usize = 32;
/// Ports of the 2-level event interface.
pub const EVTCHN_2L_NR_CHANNELS: usize = 4096;
/// `vcpu_time_info.flags`: TSCs are synchronised.
pub const XEN_PVCLOCK_TSC_STABLE_BIT: u8 = 1;
/// `vcpu_time_info.flags`: the guest was stopped.
pub const XEN_PVCLOCK_GUEST_STOPPED: u8 = 2;

/// `struct mmu_update`: one element of `mmu_update`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MmuUpdate {
    /// Machine address of the entry; low two bits are the kind.
    pub ptr: u64,
    /// New value.
    pub val: u64,
}
layout! { MmuUpdate: 16 { ptr: 0, val: 8 } }

/// `struct mmuext_op`: one element of `mmuext_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MmuextOp {
    /// `MMUEXT_*`.
    pub cmd: u32,
    /// Padding.
    pub _pad: u32,
    /// Union: MFN, or linear address.
    pub arg1: u64,
    /// Union: number of entries (low 32 bits), pointer to a vCPU mask, or source MFN.
    pub arg2: u64,
}
layout! { MmuextOp: 24 { cmd: 0, _pad: 4, arg1: 8, arg2: 16 } }

/// `struct multicall_entry`: one call of a multicall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MulticallEntry {
    /// Hypercall number.
    pub op: u64,
    /// Its result.
    pub result: u64,
    /// Its arguments.
    pub args: [u64; 6],
}
layout! { MulticallEntry: 64 { op: 0, result: 8, args: 16 } }

/// `struct vcpu_time_info`: scale from TSC to system time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while an update is in progress.
    pub version: u32,
    /// Padding.
    pub pad0: u32,
    /// TSC at the last update.
    pub tsc_timestamp: u64,
    /// Nanoseconds since boot at the last update.
    pub system_time: u64,
    /// 32.32 fraction, nanoseconds per shifted TSC tick.
    pub tsc_to_system_mul: u32,
    /// Left shift of the TSC delta (right if negative).
    pub tsc_shift: i8,
    /// `XEN_PVCLOCK_*`.
    pub flags: u8,
    /// Padding.
    pub pad1: [u8; 2],
}
layout! { VcpuTimeInfo: 32 { version: 0, pad0: 4, tsc_timestamp: 8, system_time: 16, tsc_to_system_mul: 24, tsc_shift: 28, flags: 29, pad1: 30 } }

/// `struct vcpu_info`: event state and time of one vCPU (written concurrently by both sides).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuInfo {
    /// Non-zero: events wait.
    pub evtchn_upcall_pending: u8,
    /// Non-zero: no upcalls.
    pub evtchn_upcall_mask: u8,
    /// Padding.
    pub _pad: [u8; 6],
    /// One bit per word of `evtchn_pending`.
    pub evtchn_pending_sel: u64,
    /// x86 part.
    pub arch: ArchVcpuInfo,
    /// Time.
    pub time: VcpuTimeInfo,
}
layout! { VcpuInfo: 64 { evtchn_upcall_pending: 0, evtchn_upcall_mask: 1, _pad: 2, evtchn_pending_sel: 8, arch: 16, time: 32 } }

/// `struct arch_vcpu_info`: x86 part of `vcpu_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ArchVcpuInfo {
    /// Faulting address of the last page fault.
    pub cr2: u64,
    /// Padding.
    pub pad: u64,
}
layout! { ArchVcpuInfo: 16 { cr2: 0, pad: 8 } }

/// `struct arch_shared_info`: x86 part of `shared_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ArchSharedInfo {
    /// Entries of the P2M.
    pub max_pfn: u64,
    /// MFN of the P2M tree's root.
    pub pfn_to_mfn_frame_list_list: u64,
    /// `XEN_NMIREASON_*`.
    pub nmi_reason: u64,
    /// Root of the address space of `p2m_vaddr`.
    pub p2m_cr3: u64,
    /// Address of the linear P2M.
    pub p2m_vaddr: u64,
    /// Counts changes of the P2M's mapping.
    pub p2m_generation: u64,
}
layout! { ArchSharedInfo: 48 { max_pfn: 0, pfn_to_mfn_frame_list_list: 8, nmi_reason: 16, p2m_cr3: 24, p2m_vaddr: 32, p2m_generation: 40 } }

/// `struct shared_info`: the page a domain shares with the hypervisor (written concurrently by both sides).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SharedInfo {
    /// The first vCPUs' state.
    pub vcpu_info: [VcpuInfo; XEN_LEGACY_MAX_VCPUS],
    /// One bit per port: pending.
    pub evtchn_pending: [u64; 64],
    /// One bit per port: masked.
    pub evtchn_mask: [u64; 64],
    /// Wall clock's sequence number.
    pub wc_version: u32,
    /// Seconds of Unix time at system time 0, low half.
    pub wc_sec: u32,
    /// Nanoseconds of it.
    pub wc_nsec: u32,
    /// Seconds, high half.
    pub wc_sec_hi: u32,
    /// x86 part.
    pub arch: ArchSharedInfo,
}
layout! { SharedInfo: 3136 { vcpu_info: 0, evtchn_pending: 2048, evtchn_mask: 2560, wc_version: 3072, wc_sec: 3076, wc_nsec: 3080, wc_sec_hi: 3084, arch: 3088 } }

/// `struct start_info`: what a PV kernel finds at the address in rsi.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StartInfo {
    /// `"xen-<version>-<platform>"`, NUL-padded.
    pub magic: [u8; 32],
    /// Pages of the domain.
    pub nr_pages: u64,
    /// Machine address of the shared info page.
    pub shared_info: u64,
    /// `SIF_*`.
    pub flags: u32,
    /// Padding.
    pub _pad0: u32,
    /// MFN of the xenstore ring.
    pub store_mfn: u64,
    /// Port of the xenstore ring.
    pub store_evtchn: u32,
    /// Padding.
    pub _pad1: u32,
    /// Union: domU: MFN of the console ring; dom0: see [`StartInfo::dom0_console`].
    pub console_mfn: u64,
    /// Union: domU: port of the console ring.
    pub console_evtchn: u32,
    /// Padding.
    pub _pad2: u32,
    /// Virtual address of the L4 table.
    pub pt_base: u64,
    /// Number of boot page tables.
    pub nr_pt_frames: u64,
    /// Virtual address of the P2M list.
    pub mfn_list: u64,
    /// Virtual address of the module, or its PFN.
    pub mod_start: u64,
    /// Bytes of the module.
    pub mod_len: u64,
    /// Command line, NUL-terminated.
    pub cmd_line: [u8; MAX_GUEST_CMDLINE],
    /// First PFN of the P2M's frames.
    pub first_p2m_pfn: u64,
    /// Number of the P2M's frames, its page tables included.
    pub nr_p2m_frames: u64,
}
layout! { StartInfo: 1168 { magic: 0, nr_pages: 32, shared_info: 40, flags: 48, _pad0: 52, store_mfn: 56, store_evtchn: 64, _pad1: 68, console_mfn: 72, console_evtchn: 80, _pad2: 84, pt_base: 88, nr_pt_frames: 96, mfn_list: 104, mod_start: 112, mod_len: 120, cmd_line: 128, first_p2m_pfn: 1152, nr_p2m_frames: 1160 } }
impl StartInfo {
    /// The console union as dom0 reads it: offset and size of [`Dom0VgaConsoleInfo`](crate::arch_x86::Dom0VgaConsoleInfo)
    /// in bytes from the start of this struct.
    #[must_use]
    pub const fn dom0_console(&self) -> (u32, u32) {
        (self.console_mfn as u32, (self.console_mfn >> 32) as u32)
    }

    /// Sets the console union as dom0 reads it.
    pub const fn set_dom0_console(&mut self, info_off: u32, info_size: u32) {
        self.console_mfn = info_off as u64 | (info_size as u64) << 32;
    }
}
