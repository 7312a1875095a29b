//! A virtual CPU: what the guest sees of "its" processor.
//!
//! [`VcpuState`] belongs to whoever holds its lock: the physical CPU that runs the
//! vCPU keeps the guard from schedule-in to schedule-out, so on the hot path it is
//! a plain `&mut`. Others may only `try_lock` it, which succeeds exactly while the
//! vCPU does not run.

use super::Domain;
use super::usage::Usage;
use crate::addr::{CpuId, DomId, GuestVa, Mfn, VcpuId};
use crate::arch::fpu::FpuArea;
use crate::arch::machine;
use crate::arch::regs::GuestRegs;
use crate::arch::xcr0::Xcr0;
use crate::fallible::{self, NoMemory};
use crate::mm::shared_page::InfoSlot;
use crate::pv_emul::CpuView;
use crate::pv_mm::Unfinished;
use crate::sched::UnitId;
use crate::sync::{Level, Lock};
use crate::time::timer_queue::{Timer, TimerId};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A guest's exception handler, from the `set_trap_table` hypercall.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapGate {
    /// Handler; 0 means none.
    pub address: u64,
    /// Code selector, RPL already raised to 3.
    pub cs: u16,
    /// Bits 0-1: lowest privilege allowed to raise it by `int n`; bit 2: mask events.
    pub flags: u8,
}

/// A callback registered by `callback_op`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Callback {
    /// Entry point; 0 means none.
    pub address: u64,
    /// Whether entering it masks events.
    pub mask_events: bool,
}

/// An exception to be delivered to the guest kernel at the next return to guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector, 0 to 31 (or any for `int n`).
    pub vector: u8,
    /// Error code, for vectors that push one.
    pub error_code: Option<u32>,
    /// Faulting address, for page faults.
    pub cr2: Option<u64>,
}

/// What a vCPU owns of the processor.
#[derive(Debug)]
pub struct VcpuState {
    /// General registers while the vCPU does not run.
    pub regs: GuestRegs,
    /// Guest kernel (true) or guest user: which root and which GS base are loaded.
    pub kernel_mode: bool,
    /// Kernel page-table root (a counted L4).
    pub kernel_root: Option<Mfn>,
    /// User page-table root (a counted L4).
    pub user_root: Option<Mfn>,
    /// Kernel stack pointer for entries from user mode.
    pub kernel_sp: u64,
    /// Exception handlers by vector.
    pub traps: Box<[TrapGate; 256]>,
    /// Event upcall.
    pub event_callback: Callback,
    /// Raised when reloading a guest selector faults.
    pub failsafe_callback: Callback,
    /// 64-bit system call entry.
    pub syscall_callback: Callback,
    /// 32-bit `syscall` entry.
    pub syscall32_callback: Callback,
    /// `sysenter` entry.
    pub sysenter_callback: Callback,
    /// NMI entry.
    pub nmi_callback: Callback,
    /// Exception waiting for the return to the guest.
    pub pending: Option<Exception>,
    /// `ds es fs gs` while the vCPU does not run.
    pub selectors: [u16; 4],
    /// FS base while the vCPU does not run.
    pub fs_base: u64,
    /// GS base of the guest kernel while not loaded.
    pub gs_base_kernel: u64,
    /// GS base of guest user mode while not loaded.
    pub gs_base_user: u64,
    /// Virtual CR0.TS.
    pub task_switched: bool,
    /// Virtual CR2.
    pub cr2: u64,
    /// Guest-controlled CR4 bits (TSD, DE, FSGSBASE, OSXSAVE).
    pub cr4: u64,
    /// XCR0.
    pub xcr0: Xcr0,
    /// Debug registers 0-3, 6, 7 at their own index.
    pub debug: [u64; 8],
    /// Virtual I/O privilege level (0-3).
    pub iopl: u8,
    /// I/O permission bitmap in guest kernel space, from PHYSDEVOP_set_iobitmap.
    pub io_bitmap: GuestVa,
    /// Ports that bitmap covers (0: none).
    pub io_bitmap_ports: u32,
    /// Extended state while the vCPU does not run.
    pub fpu: FpuArea,
    /// TSC_AUX.
    pub tsc_aux: u32,
    /// `SPEC_CTRL` as the guest set it.
    pub spec_ctrl: u64,
    /// The CPU that it was loaded on last.
    pub last_cpu: Option<CpuId>,
    /// Guest GDT frames (counted as segment-descriptor pages).
    pub gdt_frames: [Option<Mfn>; 14],
    /// Guest GDT entries.
    pub gdt_entries: u16,
    /// LDT base in guest kernel space.
    pub ldt_base: GuestVa,
    /// LDT entries (0: none).
    pub ldt_entries: u16,
    /// LDT frames looked up so far (counted as segment-descriptor pages).
    pub ldt_frames: [Option<Mfn>; 16],
    /// An NMI was delivered and its `iret` hypercall has not come yet.
    pub nmi_in_progress: bool,
    /// Page-table work that was interrupted.
    pub unfinished: Unfinished,
    /// Its first context was refused, and what it got of that is being taken back.
    pub context_refused: bool,
}

impl VcpuState {
    /// The state of a vCPU nobody has initialised.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn new() -> Result<Self, NoMemory> {
        Ok(Self {
            regs: GuestRegs::default(),
            kernel_mode: true,
            kernel_root: None,
            user_root: None,
            kernel_sp: 0,
            traps: fallible::boxed([TrapGate::default(); 256])?,
            event_callback: Callback::default(),
            failsafe_callback: Callback::default(),
            syscall_callback: Callback::default(),
            syscall32_callback: Callback::default(),
            sysenter_callback: Callback::default(),
            nmi_callback: Callback::default(),
            pending: None,
            selectors: [0; 4],
            fs_base: 0,
            gs_base_kernel: 0,
            gs_base_user: 0,
            task_switched: false,
            cr2: 0,
            cr4: 0,
            xcr0: Xcr0::X87_SSE,
            debug: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            iopl: 0,
            io_bitmap: GuestVa(0),
            io_bitmap_ports: 0,
            fpu: FpuArea::new(machine::fpu_area_size())?,
            tsc_aux: 0,
            spec_ctrl: 0,
            last_cpu: None,
            gdt_frames: [None; 14],
            gdt_entries: 0,
            ldt_base: GuestVa(0),
            ldt_entries: 0,
            ldt_frames: [None; 16],
            nmi_in_progress: false,
            unfinished: Unfinished::new(),
            context_refused: false,
        })
    }

    /// What [`pv_emul`](crate::pv_emul) needs of this state and of vCPU `id` of
    /// `domain`, whose registers are `regs`.
    #[must_use]
    #[inline]
    pub fn emulation_view<'a>(
        &'a mut self,
        regs: &'a mut GuestRegs,
        domain: &Domain,
        id: VcpuId,
    ) -> CpuView<'a> {
        CpuView {
            regs,
            kernel_mode: self.kernel_mode,
            boot_vcpu: id.0 == 0,
            hardware_domain: domain.privileged,
            architectural_iopl: domain.architectural_iopl(),
            kernel_root: self.kernel_root,
            task_switched: &mut self.task_switched,
            cr2: &mut self.cr2,
            cr4: &mut self.cr4,
            xcr0: &mut self.xcr0,
            debug: &mut self.debug,
            tsc_aux: &mut self.tsc_aux,
            spec_ctrl: &mut self.spec_ctrl,
            iopl: self.iopl,
            io_bitmap: (self.io_bitmap, self.io_bitmap_ports),
        }
    }
}

/// A virtual CPU: the parts other CPUs may touch.
#[derive(Debug)]
pub struct Vcpu {
    /// Its number within the domain.
    pub id: VcpuId,
    /// Its domain's number.
    pub domain: DomId,
    /// What the scheduler calls it.
    pub unit: UnitId,
    /// The state its running CPU owns.
    pub state: Lock<VcpuState>,
    /// Where its `vcpu_info` is.
    pub info: InfoSlot,
    /// Whether `VCPUOP_initialise` (or the builder) gave it a context.
    pub initialised: AtomicBool,
    /// An NMI is waiting to be delivered.
    pub nmi_pending: AtomicBool,
    /// Guest address of its run-state area; 0: none.
    pub runstate_area: AtomicU64,
    /// One-shot timer.
    pub singleshot: Timer,
    /// Periodic timer.
    pub periodic: Timer,
    /// Period of that in nanoseconds; 0: stopped.
    pub period: AtomicU64,
    /// End of a poll.
    pub poll: Timer,
    /// Whether it counts among its domain's pollers. It may long have woken; then it
    /// stops counting when it is next loaded.
    pub polling: AtomicBool,
    /// What it has used.
    pub usage: Usage,
    /// Whether the guest has registered a `vcpu_info`.
    pub info_moved: AtomicBool,
    /// The frame of that plus 1, of which a writable reference is held; 0: none.
    info_frame: AtomicU64,
}

impl Vcpu {
    /// A vCPU that is down and has no context yet.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn new(domain: DomId, id: VcpuId, unit: UnitId) -> Result<Self, NoMemory> {
        Ok(Self {
            id,
            domain,
            unit,
            state: Lock::new(Level::VcpuState, VcpuState::new()?),
            info: InfoSlot::default(),
            initialised: AtomicBool::new(false),
            nmi_pending: AtomicBool::new(false),
            runstate_area: AtomicU64::new(0),
            singleshot: Timer::new(TimerId::Singleshot(domain, id)),
            periodic: Timer::new(TimerId::Periodic(domain, id)),
            period: AtomicU64::new(0),
            poll: Timer::new(TimerId::Poll(domain, id)),
            polling: AtomicBool::new(false),
            usage: Usage::default(),
            info_moved: AtomicBool::new(false),
            info_frame: AtomicU64::new(0),
        })
    }

    /// Notes that it polls no longer.
    #[inline]
    pub fn stop_polling(&self, domain: &Domain) {
        if self.polling.load(Ordering::Relaxed) && self.polling.swap(false, Ordering::SeqCst) {
            domain.pollers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Notes the frame of the registered `vcpu_info`, whose writable reference is now
    /// the vCPU's.
    pub fn set_info_frame(&self, frame: Mfn) {
        self.info_frame.store(frame.raw() + 1, Ordering::Release);
    }

    /// The frame of the registered `vcpu_info`, which stays the vCPU's.
    #[must_use]
    pub fn info_frame(&self) -> Option<Mfn> {
        let raw = self.info_frame.load(Ordering::Acquire);
        raw.checked_sub(1).map(Mfn::new)
    }

    /// The frame of the registered `vcpu_info`; whoever takes it gives its writable
    /// reference back, once nothing uses the vCPU any more.
    pub fn take_info_frame(&self) -> Option<Mfn> {
        let raw = self.info_frame.swap(0, Ordering::AcqRel);
        raw.checked_sub(1).map(Mfn::new)
    }

    /// Whether an event upcall is due: pending and not masked.
    #[must_use]
    #[inline]
    pub fn upcall_due(&self) -> bool {
        self.info.get().is_some_and(|i| {
            i.upcall_pending().load(Ordering::Acquire) != 0
                && i.upcall_mask().load(Ordering::Relaxed) == 0
        })
    }
}
