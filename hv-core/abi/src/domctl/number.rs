//! Commands and flags.

// Commands.

/// Makes a domain.
pub const XEN_DOMCTL_CREATEDOMAIN: u32 = 1;
/// Ends a domain.
pub const XEN_DOMCTL_DESTROYDOMAIN: u32 = 2;
/// Stops a domain's vCPUs; counted.
pub const XEN_DOMCTL_PAUSEDOMAIN: u32 = 3;
/// Takes one pause back.
pub const XEN_DOMCTL_UNPAUSEDOMAIN: u32 = 4;
/// What a domain is and has; of the first from the named number on.
pub const XEN_DOMCTL_GETDOMAININFO: u32 = 5;
/// On which CPUs a vCPU may run.
pub const XEN_DOMCTL_SETVCPUAFFINITY: u32 = 9;
/// Shadow page tables, log-dirty mode.
pub const XEN_DOMCTL_SHADOW_OP: u32 = 10;
/// How much memory a domain may have.
pub const XEN_DOMCTL_MAX_MEM: u32 = 11;
/// Gives a vCPU its state.
pub const XEN_DOMCTL_SETVCPUCONTEXT: u32 = 12;
/// Reads a vCPU's state.
pub const XEN_DOMCTL_GETVCPUCONTEXT: u32 = 13;
/// What a vCPU does and did.
pub const XEN_DOMCTL_GETVCPUINFO: u32 = 14;
/// Makes the vCPUs.
pub const XEN_DOMCTL_MAX_VCPUS: u32 = 15;
/// Scheduling parameters of a domain.
pub const XEN_DOMCTL_SCHEDULER_OP: u32 = 16;
/// Sets the UUID.
pub const XEN_DOMCTL_SETDOMAINHANDLE: u32 = 17;
/// Whether a debugger controls the domain.
pub const XEN_DOMCTL_SETDEBUGGING: u32 = 18;
/// Gives or takes a physical interrupt.
pub const XEN_DOMCTL_IRQ_PERMISSION: u32 = 19;
/// Gives or takes device memory.
pub const XEN_DOMCTL_IOMEM_PERMISSION: u32 = 20;
/// Gives or takes I/O ports.
pub const XEN_DOMCTL_IOPORT_PERMISSION: u32 = 21;
/// Fills a page with hypercall stubs.
pub const XEN_DOMCTL_HYPERCALL_INIT: u32 = 22;
/// Shifts the domain's wall clock.
pub const XEN_DOMCTL_SETTIMEOFFSET: u32 = 24;
/// On which CPUs a vCPU may run.
pub const XEN_DOMCTL_GETVCPUAFFINITY: u32 = 25;
/// Lets a suspended domain go on.
pub const XEN_DOMCTL_RESUMEDOMAIN: u32 = 27;
/// Sends an NMI or presses a button.
pub const XEN_DOMCTL_SENDTRIGGER: u32 = 28;
/// Tells a port when the domain dies.
pub const XEN_DOMCTL_SUBSCRIBE: u32 = 29;
/// Word size of the guest, in bits.
pub const XEN_DOMCTL_SET_ADDRESS_SIZE: u32 = 35;
/// Word size of the guest, in bits.
pub const XEN_DOMCTL_GET_ADDRESS_SIZE: u32 = 36;
/// Puts a device behind the domain's IOMMU tables.
pub const XEN_DOMCTL_ASSIGN_DEVICE: u32 = 37;
/// More of a vCPU's state.
pub const XEN_DOMCTL_SET_EXT_VCPUCONTEXT: u32 = 42;
/// More of a vCPU's state.
pub const XEN_DOMCTL_GET_EXT_VCPUCONTEXT: u32 = 43;
/// Whether a device could be assigned.
pub const XEN_DOMCTL_TEST_ASSIGN_DEVICE: u32 = 45;
/// Takes a device back.
pub const XEN_DOMCTL_DEASSIGN_DEVICE: u32 = 47;
/// Devices that can be assigned together only.
pub const XEN_DOMCTL_GET_DEVICE_GROUP: u32 = 50;
/// How the time stamp counter behaves.
pub const XEN_DOMCTL_SETTSCINFO: u32 = 60;
/// How the time stamp counter behaves.
pub const XEN_DOMCTL_GETTSCINFO: u32 = 59;
/// What frames are.
pub const XEN_DOMCTL_GETPAGEFRAMEINFO3: u32 = 61;
/// Extended processor state.
pub const XEN_DOMCTL_SETVCPUEXTSTATE: u32 = 62;
/// Extended processor state.
pub const XEN_DOMCTL_GETVCPUEXTSTATE: u32 = 63;
/// Gives a global virtual interrupt to the domain.
pub const XEN_DOMCTL_SET_VIRQ_HANDLER: u32 = 66;
/// From which NUMA nodes memory comes.
pub const XEN_DOMCTL_SETNODEAFFINITY: u32 = 68;
/// From which NUMA nodes memory comes.
pub const XEN_DOMCTL_GETNODEAFFINITY: u32 = 69;
/// Model-specific registers of a vCPU.
pub const XEN_DOMCTL_GET_VCPU_MSRS: u32 = 72;
/// Model-specific registers of a vCPU.
pub const XEN_DOMCTL_SET_VCPU_MSRS: u32 = 73;
/// Virtual NUMA nodes.
pub const XEN_DOMCTL_SETVNUMAINFO: u32 = 74;
/// Prepares a domain for another kernel.
pub const XEN_DOMCTL_SOFT_RESET: u32 = 79;
/// CPUID leaves and MSRs a domain sees.
pub const XEN_DOMCTL_GET_CPU_POLICY: u32 = 82;
/// CPUID leaves and MSRs a domain sees.
pub const XEN_DOMCTL_SET_CPU_POLICY: u32 = 83;

// Flags of `createdomain`.

/// A hardware-assisted guest.
pub const XEN_DOMCTL_CDF_HVM: u32 = 1 << 0;
/// Serves xenstore.
pub const XEN_DOMCTL_CDF_XS_DOMAIN: u32 = 1 << 4;
/// Highest version of the grant table, in `grant_opts`.
pub const XEN_DOMCTL_GRANT_VERSION_MASK: u32 = 0xf;

// Flags of `getdomaininfo`.

/// Being destroyed.
pub const XEN_DOMINF_DYING: u32 = 1 << 0;
/// Its kernel has stopped; the reason is in bits 16 to 23.
pub const XEN_DOMINF_SHUTDOWN: u32 = 1 << 2;
/// Paused by tools.
pub const XEN_DOMINF_PAUSED: u32 = 1 << 3;
/// No vCPU has anything to do.
pub const XEN_DOMINF_BLOCKED: u32 = 1 << 4;
/// A vCPU is on a CPU.
pub const XEN_DOMINF_RUNNING: u32 = 1 << 5;
/// A debugger controls it.
pub const XEN_DOMINF_DEBUGGED: u32 = 1 << 6;
/// Serves xenstore.
pub const XEN_DOMINF_XS_DOMAIN: u32 = 1 << 7;
/// Lowest bit of the reason.
pub const XEN_DOMINF_SHUTDOWNSHIFT: u32 = 16;
/// It has no vCPUs.
pub const XEN_INVALID_MAX_VCPU_ID: u32 = 0xffff_ffff;

// Types of frames, in the upper bits of a frame number.

/// Plain memory.
pub const XEN_DOMCTL_PFINFO_NOTAB: u32 = 0;
/// A page table; level 4 is four times as much.
pub const XEN_DOMCTL_PFINFO_L1TAB: u32 = 1 << 28;
/// Pinned.
pub const XEN_DOMCTL_PFINFO_LPINTAB: u32 = 1 << 31;
/// None of the domain's.
pub const XEN_DOMCTL_PFINFO_XTAB: u32 = 0xf << 28;
/// To be allocated only.
pub const XEN_DOMCTL_PFINFO_XALLOC: u32 = 0xe << 28;
/// Broken.
pub const XEN_DOMCTL_PFINFO_BROKEN: u32 = 0xd << 28;
/// All of these bits.
pub const XEN_DOMCTL_PFINFO_LTAB_MASK: u32 = 0xf << 28;

// Other numbers.

/// CPUs a vCPU may run on.
pub const XEN_VCPUAFFINITY_HARD: u32 = 1 << 0;
/// CPUs it should run on.
pub const XEN_VCPUAFFINITY_SOFT: u32 = 1 << 1;
/// Ends an override of its own.
pub const XEN_VCPUAFFINITY_FORCE: u32 = 1 << 2;
/// The credit scheduler.
pub const XEN_SCHEDULER_CREDIT: u32 = 5;
/// Sets a domain's parameters.
pub const XEN_DOMCTL_SCHEDOP_PUTINFO: u32 = 0;
/// Reads them.
pub const XEN_DOMCTL_SCHEDOP_GETINFO: u32 = 1;
/// Sets those of vCPUs.
pub const XEN_DOMCTL_SCHEDOP_PUTVCPUINFO: u32 = 2;
/// Reads those.
pub const XEN_DOMCTL_SCHEDOP_GETVCPUINFO: u32 = 3;
/// An NMI.
pub const XEN_DOMCTL_SENDTRIGGER_NMI: u32 = 0;
/// Ends shadow mode.
pub const XEN_DOMCTL_SHADOW_OP_OFF: u32 = 0;
