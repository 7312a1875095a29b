//! This machine's TLB flushes: [`crate::arch::shootdown`] over CR3, INVLPG and IPIs.
#![allow(unsafe_code, reason = "loads CR3")]

use super::{apic, cpus};
use crate::addr::{CpuId, CpuMask, GuestVa, Mfn};
use crate::arch::shootdown::{FlushCpu, Shootdown};
use crate::arch::{FlushStamp, Tlb, vectors};
use crate::mm::guest_stack::StackCache;
use x86_64::VirtAddr;
use x86_64::instructions::tlb as instructions;

static SHOOTDOWN: Shootdown = Shootdown::new();

/// Kept before a CPU runs in its area, where it has none of its own.
struct BootCache(StackCache);

// SAFETY: only the boot CPU uses it, until it runs in its area.
unsafe impl Sync for BootCache {}

static BOOT_CACHE: BootCache = BootCache(StackCache::new());

/// Forgets the kept translations: they are part of the TLB, which is flushed.
#[inline]
fn forget_stacks() {
    stack_cache().clear();
    if super::local::in_area() {
        super::fast::forget_stack_page();
    }
}

/// This CPU's kept translations of guest kernel stacks: part of its TLB.
#[inline]
#[must_use]
pub fn stack_cache() -> &'static StackCache {
    if super::local::in_area() {
        &super::local::local().stack_cache
    } else {
        &BOOT_CACHE.0
    }
}

struct Cpu;

impl FlushCpu for Cpu {
    fn here(&self) -> CpuId {
        super::cpu_id()
    }

    fn flush_all(&self) {
        forget_stacks();
        instructions::flush_all();
    }

    fn flush_page(&self, va: GuestVa) {
        forget_stacks();
        // Not canonical: nothing can be cached of it.
        if let Ok(va) = VirtAddr::try_new(va.0) {
            instructions::flush(va);
        }
    }

    fn interrupt(&self, cpu: CpuId) {
        if let Some(id) = cpus::apic_id(cpu) {
            apic::send(id, vectors::TLB_FLUSH);
        }
    }

    fn pause(&self) {
        core::hint::spin_loop();
    }
}

/// The machine's TLBs.
#[derive(Clone, Copy, Debug)]
pub struct MachineTlb;

impl Tlb for MachineTlb {
    #[inline]
    fn now(&self) -> FlushStamp {
        SHOOTDOWN.now()
    }

    #[inline]
    fn flush_since(&self, stamp: FlushStamp, cpus: &CpuMask) {
        SHOOTDOWN.flush_since(stamp, cpus, &Cpu);
    }

    fn flush(&self, cpus: &CpuMask) {
        SHOOTDOWN.flush(cpus, &Cpu);
    }

    fn flush_page(&self, va: GuestVa, cpus: &CpuMask) {
        SHOOTDOWN.flush_page(va, cpus, &Cpu);
    }
}

/// Makes room for `count` CPUs. Before the second one runs.
pub fn make_room(count: usize) {
    SHOOTDOWN.make_room(count);
}

/// Answers flush requests of other CPUs. Wait loops and the
/// [`TLB_FLUSH`](vectors::TLB_FLUSH) handler call it.
#[inline]
pub fn service() {
    SHOOTDOWN.service(&Cpu);
}

/// Notes that CR3 is about to be loaded by other means than [`load_guest_root`]
/// (the exit path's, with page-table isolation). Call it right before.
#[inline]
pub fn note_flush() {
    forget_stacks();
    SHOOTDOWN.note_flush(super::cpu_id());
}

/// From here on this CPU takes part in flushes. Call it before the first load of a
/// guest root after [`leave_guest_root`]; it notes that load's flush too.
#[inline]
pub fn enter_guest_root() {
    forget_stacks();
    SHOOTDOWN.enter_guest_root(super::cpu_id());
}

/// From here on this CPU is not interrupted for flushes. Call it once the host's own
/// root is loaded: none of the guest's translations, nor its page tables, are in use.
#[inline]
pub fn leave_guest_root() {
    SHOOTDOWN.leave_guest_root(super::cpu_id());
}

/// Whether this CPU takes part in flushes: only then may it walk guests' page tables.
#[inline]
#[must_use]
pub fn takes_part() -> bool {
    SHOOTDOWN.is_active(super::cpu_id())
}

/// Runs `f`, which walks a guest's page tables, on a CPU that has no guest root loaded.
pub fn visit_guests<R>(f: impl FnOnce() -> R) -> R {
    enter_guest_root();
    let result = f();
    leave_guest_root();
    result
}

/// Loads CR3 where a guest root was loaded before, noting the flush.
///
/// # Safety
/// `root` maps the hypervisor and stays a valid root while it is loaded.
#[inline]
pub unsafe fn load_guest_root(root: Mfn) {
    note_flush();
    // SAFETY: the caller vouches for the root.
    unsafe { load_cr3(root) };
}

/// Loads CR3.
///
/// # Safety
/// As [`load_guest_root`].
#[inline]
pub unsafe fn load_cr3(root: Mfn) {
    // SAFETY: the caller vouches for the root. Not `nomem`: memory may now be found
    // elsewhere.
    unsafe {
        core::arch::asm!("mov cr3, {}", in(reg) root.addr().raw(), options(nostack, preserves_flags));
    }
}
