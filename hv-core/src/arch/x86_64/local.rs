//! What only this CPU touches, and how to find it.
#![allow(
    unsafe_code,
    reason = "finds the CPU's own block through the stack pointer"
)]

use super::cpu_area::{AREA_SIZE, DATA_PAGE, ENTRY_AREAS, EntryData, page_va};
use crate::addr::{CpuId, CpuMask, MAX_CPUS, Mfn};
use crate::arch::regs::GuestRegs;
use crate::domain::{Domain, Vcpu, VcpuState};
use crate::fallible::Arc;
use crate::hypercall::Call;
use crate::mm::guest_stack::StackCache;
use crate::sched::UnitId;
use crate::sync::Guard;
use crate::sync::Level;
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The vCPU whose state is loaded on a CPU. The guard is what makes its
/// [`VcpuState`] ours; it is dropped before the vCPU it points into.
#[derive(Debug)]
pub struct Current {
    /// Exclusive use of the state. The lifetime is really that of `vcpu`.
    pub(super) state: Guard<'static, VcpuState>,
    /// The vCPU.
    pub vcpu: Arc<Vcpu>,
    /// Its domain.
    pub domain: Arc<Domain>,
}

/// One CPU's own data. Only code running on that CPU reaches it, hence the cells;
/// it is neither `Send` nor `Sync`.
#[derive(Debug)]
pub struct CpuLocal {
    /// This CPU.
    pub id: CpuId,
    /// The set of this CPU.
    only: CpuMask,
    /// Which vCPU is loaded.
    pub(super) current: UnsafeCell<Option<Current>>,
    /// Locks held, by level (debug builds).
    held_locks: Cell<[u8; Level::COUNT]>,
    /// GDT frames mapped in the window now.
    pub(super) gdt_mapped: Cell<[Option<Mfn>; 14]>,
    /// Pages of the LDT window that are mapped now, a bit each.
    pub(super) ldt_mapped: Cell<u16>,
    /// Kept translations of guest kernel stacks: part of the TLB.
    pub(super) stack_cache: StackCache,
    /// CR4 as loaded now.
    pub(super) cr4: Cell<u64>,
    /// NMIs that came and nobody has been told of.
    pub(super) nmis: AtomicU32,
    /// Where the last of them came.
    pub(super) nmi_rip: AtomicU64,
    /// XCR0 as loaded now.
    pub(super) xcr0: Cell<u64>,
    /// Debug registers as loaded now, at their own index.
    pub(super) debug: [Cell<u64>; 8],
    /// Serial number of the domain whose vCPU was loaded last.
    pub(super) last_vcpu: Cell<(u64, u16)>,
    /// When interrupts were possible last.
    #[cfg(feature = "bounds")]
    pub(super) stretch_began: Cell<u64>,
}

impl CpuLocal {
    /// The data of `cpu`, which does not run yet.
    #[must_use]
    pub fn new(id: CpuId) -> Self {
        Self {
            id,
            only: CpuMask::only(id),
            current: UnsafeCell::new(None),
            held_locks: Cell::new([0; Level::COUNT]),
            gdt_mapped: Cell::new([None; 14]),
            ldt_mapped: Cell::new(0),
            stack_cache: StackCache::new(),
            cr4: Cell::new(0),
            nmis: AtomicU32::new(0),
            nmi_rip: AtomicU64::new(0),
            xcr0: Cell::new(0),
            last_vcpu: Cell::new((0, 0)),
            #[cfg(feature = "bounds")]
            stretch_began: Cell::new(0),
            // As a CPU starts. Source: Intel SDM vol. 3, table 10-1.
            debug: [0, 0, 0, 0, 0, 0, 0, 0x400].map(Cell::new),
        }
    }
}

/// The scheduler should choose again.
pub const WORK_RESCHEDULE: u32 = 1;
/// The CPU's timer went off.
pub const WORK_TIMER: u32 = 2;
/// Another CPU wants this one to stand still for a while.
pub const WORK_STOP: u32 = 4;
/// A debug key was pressed, or the machine is to end after a check.
pub const WORK_INSPECT: u32 = 8;

/// An NMI came.
pub const WORK_NMI: u32 = 16;

/// The word of reasons for `cpu` to look around before its next return to a guest.
fn work_of(cpu: CpuId) -> &'static AtomicU32 {
    let data = page_va(cpu, DATA_PAGE) as *mut EntryData;
    // SAFETY: areas are built before their CPUs are named to anyone, and stay.
    unsafe { &(*data).work }
}

/// Tells `cpu` to look for work of kind `bits` before it returns to a guest. Does
/// not interrupt it; see `kick`.
pub fn raise(cpu: CpuId, bits: u32) {
    work_of(cpu).fetch_or(bits, Ordering::Release);
}

/// Whether this CPU has work to look at.
#[inline]
#[must_use]
pub fn work_pending() -> bool {
    // SAFETY: this CPU's own data.
    unsafe { (*data()).work.load(Ordering::Relaxed) != 0 }
}

/// Takes this CPU's work bits.
#[must_use]
pub fn take_work() -> u32 {
    work_of(cpu_id()).swap(0, Ordering::AcqRel)
}

/// The stack pointer. Every stack of a CPU lies in its area, so whatever is derived
/// from the high bits is the same all over the CPU's code: `pure`.
#[inline]
fn stack_pointer() -> u64 {
    let rsp: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rsp", out(reg) rsp, options(pure, nomem, nostack, preserves_flags));
    }
    rsp
}

/// Whether this CPU runs in its area (or is still on the boot stack).
#[inline]
#[must_use]
pub fn in_area() -> bool {
    stack_pointer().wrapping_sub(ENTRY_AREAS) < MAX_CPUS as u64 * AREA_SIZE
}

/// The CPU that asks (the boot CPU while it is still on the boot stack).
#[inline]
#[must_use]
pub fn cpu_id() -> CpuId {
    let index = stack_pointer().wrapping_sub(ENTRY_AREAS) / AREA_SIZE;
    CpuId(if index < MAX_CPUS as u64 {
        index as u16
    } else {
        0
    })
}

/// This CPU's entry data. Meaningless before the CPU runs in its area, which all code
/// above `start` does.
#[inline]
#[must_use]
pub fn data() -> *mut EntryData {
    debug_assert!(in_area());
    ((stack_pointer() & !(AREA_SIZE - 1)) + DATA_PAGE * 4096) as *mut EntryData
}

/// This CPU's own data.
#[inline]
#[must_use]
pub fn local() -> &'static CpuLocal {
    // SAFETY: `local` was set up for this CPU before it ran in its area and is never
    // freed; the type is not Sync, so the reference stays on this CPU.
    unsafe { &*((*data()).local as *const CpuLocal) }
}

/// The set of this CPU. Kept, so that asking for it costs nothing.
#[inline]
#[must_use]
pub fn this_cpu() -> &'static CpuMask {
    &local().only
}

static BOOT_HELD: [AtomicU8; Level::COUNT] = [const { AtomicU8::new(0) }; Level::COUNT];

/// Runs `f` on this CPU's count of held locks by level.
pub fn with_held_locks<R>(f: impl FnOnce(&mut [u8; Level::COUNT]) -> R) -> R {
    if in_area() {
        let mut held = local().held_locks.get();
        let result = f(&mut held);
        local().held_locks.set(held);
        return result;
    }
    let mut held = core::array::from_fn(|n| BOOT_HELD[n].load(Ordering::Relaxed));
    let result = f(&mut held);
    for (slot, n) in BOOT_HELD.iter().zip(held) {
        slot.store(n, Ordering::Relaxed);
    }
    result
}

/// The vCPU loaded on this CPU, lent to the trap path together with its registers.
///
/// # Panics
/// If none is loaded.
///
/// # Safety
/// The caller is the only holder of such a loan: entry code calls one Rust function
/// at a time, which takes the loan once and lets go of it before it switches vCPUs.
#[inline]
pub unsafe fn lend<'a>(regs: *mut GuestRegs) -> Call<'a> {
    // SAFETY: `current` changes only in `context`, which runs without a loan.
    let current = unsafe { (*local().current.get()).as_mut() }.expect("a vCPU is loaded");
    super::fast::take_back(&mut current.state);
    Call {
        domain: &current.domain,
        vcpu: &current.vcpu,
        state: &mut current.state,
        // SAFETY: the frame in this CPU's entry data, which nobody else uses.
        regs: unsafe { &mut *regs },
    }
}

/// The unit of the vCPU loaded on this CPU.
#[must_use]
pub fn loaded_unit() -> Option<UnitId> {
    // SAFETY: no loan is out; this only looks.
    unsafe { (*local().current.get()).as_ref().map(|c| c.vcpu.unit) }
}

/// Makes `cpu` ask the scheduler before it goes on with a guest.
pub fn kick(cpu: CpuId) {
    raise(cpu, WORK_RESCHEDULE);
    if cpu != cpu_id()
        && let Some(id) = super::cpus::apic_id(cpu)
    {
        super::apic::send(id, crate::arch::vectors::KICK);
    }
}

/// Sleeps until an interrupt, unless there is work already.
pub fn wait_for_interrupt() {
    if work_pending() {
        return;
    }
    super::speculation::before_halt();
    super::stretch::end();
    // SAFETY: interrupts open only with the halt (STI holds them back for one
    // instruction), so a wake-up between the look above and here is not lost.
    // Handlers run on this stack and come back; see `trap::host_trap`.
    unsafe { core::arch::asm!("sti", "hlt", "cli", options(nostack)) };
    super::stretch::begin();
    super::speculation::after_halt();
}

/// Says which vCPU this CPU runs, for a dying hypervisor's report.
pub fn describe_current(out: &mut dyn core::fmt::Write) {
    if !in_area() {
        return;
    }
    // SAFETY: looks only; whoever held the loan of the vCPU does not go on.
    let current = unsafe { &*local().current.get() };
    // The report's writer takes everything.
    let _ = match current {
        Some(c) => writeln!(out, "domain {} vCPU {}", c.domain.id.0, c.vcpu.id.0),
        None => writeln!(out, "no vCPU"),
    };
}
