//! Host stand-in for the CPU: what the upper rooms need in order to be compiled
//! and tested under `cargo test`.

use super::{FlushStamp, Tlb};
use crate::addr::{CpuId, CpuMask, GuestVa, Mfn};
use crate::domain::{Domain, Vcpu, VcpuState};
use crate::fallible::Arc;
use crate::sched::UnitId;
use crate::sync::Level;

/// The CPU that asks: a test has one.
#[must_use]
pub fn cpu_id() -> CpuId {
    CpuId(0)
}

/// A pause in a spin loop.
pub fn relax() {
    core::hint::spin_loop();
}

std::thread_local! {
    static HELD: core::cell::RefCell<[u8; Level::COUNT]> = const { core::cell::RefCell::new([0; Level::COUNT]) };
}

/// Runs `f` on this CPU's count of held locks by level.
pub fn with_held_locks<R>(f: impl FnOnce(&mut [u8; Level::COUNT]) -> R) -> R {
    HELD.with(|h| f(&mut h.borrow_mut()))
}

/// The registers of a UART that is not there.
#[derive(Debug)]
pub struct UartPort;

impl UartPort {
    /// The UART at I/O port `base`.
    #[must_use]
    pub fn at(_base: u16) -> Option<Self> {
        Some(Self)
    }
}

impl super::ByteRegs for UartPort {
    fn read(&self, _reg: u16) -> u8 {
        0xff
    }
    fn write(&self, _reg: u16, _value: u8) {}
}

/// The memory of a screen that is not there.
#[derive(Debug)]
pub struct ScreenMemory;

impl super::ScreenMem for ScreenMemory {
    fn size(&self) -> usize {
        0
    }
    fn write(&self, _at: usize, _bytes: &[u8]) {}
    fn settle(&self) {}
}

/// EFI runtime services: there are none.
pub mod efi_runtime {
    #![allow(unsafe_code, reason = "has the real one's signature")]

    use crate::arch::efi::{Service, Services};
    use crate::domain::VcpuState;

    /// The table of services, if they can be called.
    #[must_use]
    pub fn services() -> Option<&'static Services> {
        None
    }

    /// Answers that the service is not supported.
    ///
    /// # Safety
    /// None to keep.
    pub unsafe fn call(_state: &mut VcpuState, _service: Service, _args: &[u64; 5]) -> u64 {
        1 << 63 | 3
    }
}

/// Bytes of an extended-state area.
#[must_use]
pub fn fpu_area_size() -> usize {
    576
}

/// Bits of MXCSR that may be loaded.
#[must_use]
pub fn mxcsr_mask() -> u32 {
    0xffff
}

/// The time stamp counter: nanoseconds here.
#[must_use]
pub fn tsc() -> u64 {
    use std::time::Instant;
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// The counter the clocks were measured against.
#[must_use]
pub fn read_reference() -> u64 {
    tsc()
}

/// Stops this CPU's timer.
pub fn stop_timer() {}

/// Starts this CPU's timer, to fire after `_ticks`.
pub fn start_timer(_ticks: u32) {}

/// Starts this CPU's timer, to fire when the TSC passes `_tsc`.
pub fn start_timer_at(_tsc: u64) {}

/// Drops the cached lines of a frame: there are none.
pub fn flush_cache(_frame: &[core::sync::atomic::AtomicU64; 512]) {}

/// Interrupt controllers: a test brings its own chip, so these do nothing.
pub mod irqchip {
    use crate::addr::CpuId;
    use crate::arch::interrupt::Source;
    use crate::arch::vectors::DeviceVector;

    /// Makes a source interrupt a CPU.
    #[must_use]
    pub fn route(_source: &Source, _vector: DeviceVector, _cpu: CpuId) -> bool {
        true
    }

    /// Masks or unmasks a source.
    pub fn set_masked(_source: &Source, _masked: bool) {}

    /// Turns a message off.
    pub fn release(_source: &Source) {}

    /// Ends the interrupt in service.
    pub fn end_of_interrupt() {}

    /// Where a function's MSI-X table is.
    #[must_use]
    pub fn msix_table(
        _device: crate::arch::msi::PciAddress,
    ) -> Option<(crate::addr::MachAddr, u64)> {
        None
    }
}

/// What is done about speculation: nothing.
pub mod speculation {
    use crate::arch::speculation::Shown;

    /// What guests are told.
    #[must_use]
    pub fn shown() -> Shown {
        Shown::default()
    }

    /// The guest's value of `SPEC_CTRL`.
    pub fn load_guest_value(_wanted: u64) {}

    /// Makes branch prediction forget.
    pub fn command_prediction(_command: u64) {}
}

/// Sets up paging: nothing to do.
pub fn init_paging() {}

/// Whether the CPU has pages of 1 GiB.
#[must_use]
pub fn has_1g_pages() -> bool {
    true
}

/// Loads a page-table root: tests have no use for one.
///
/// # Safety
/// None to keep.
#[allow(unsafe_code, reason = "the real CPU's function is unsafe")]
pub unsafe fn load_root(_root: crate::addr::Mfn) {}

/// Flushes this CPU's translation of one address: there is none.
pub fn flush_local(_va: u64) {}

/// TLBs of a machine without any.
#[derive(Clone, Copy, Debug)]
pub struct MachineTlb;

impl Tlb for MachineTlb {
    fn now(&self) -> FlushStamp {
        FlushStamp(0)
    }
    fn flush_since(&self, _: FlushStamp, _: &CpuMask) {}
    fn flush(&self, _: &CpuMask) {}
    fn flush_page(&self, _: GuestVa, _: &CpuMask) {}
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

/// Whether this CPU takes part in flushes.
#[must_use]
pub fn takes_part() -> bool {
    true
}

/// Runs `f`, which walks a guest's page tables.
pub fn visit_guests<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Functions that on the host do nothing, because no vCPU is ever loaded there.
macro_rules! nothing {
    ($($(#[$doc:meta])* $name:ident($($arg:ty),*);)*) => {
        $($(#[$doc])* pub fn $name($(_: $arg),*) {})*
    };
}
nothing! {
    /// Marks the flush of a CR3 load.
    note_flush();
    /// Makes a CPU ask its scheduler.
    kick(CpuId);
    /// Notes work for a CPU.
    raise(CpuId, u32);
    /// Waits for an interrupt.
    wait_for_interrupt();
    /// Goes from guest user to guest kernel or back.
    toggle_mode(&mut VcpuState);
    /// Loads the root of the mode the vCPU is in.
    load_vcpu_root(&VcpuState);
    /// Makes the GDT window show the vCPU's frames.
    load_gdt(&VcpuState);
    /// Loads the LDT descriptor.
    load_ldt(&VcpuState);
    /// Shows a frame in the LDT window.
    map_ldt_page(u16, Mfn);
    /// Sets CR0.TS.
    set_task_switched(bool);
    /// Loads CR4 bits.
    load_guest_cr4(u64);
    /// Loads XCR0.
    set_xcr0(super::xcr0::Xcr0);
    /// Loads a debug register.
    set_debug_register(u8, u64);
    /// Sets TSC_AUX.
    set_tsc_aux(u32);
    /// Sets the FS base.
    set_fs_base(u64);
    /// Sets the GS base.
    set_gs_base(u64);
    /// Sets the other GS base.
    set_inactive_gs_base(u64);
    /// Loads the user's GS selector.
    load_user_gs(u16);
    /// Logs the NMIs that were noted.
    report_nmis();
    /// Writes back the caches.
    wbinvd();
    /// Writes a port.
    port_out(u16, u8, u32);
    /// Writes PCI configuration space.
    pci_write(u16, u16, u8, u32);
    /// Lets interrupts in.
    let_interrupts_in();
    /// Ends the interrupt in service.
    service_flushes();
    /// Ends the interrupt.
    end_of_interrupt();
    /// Turns the machine off.
    power_off();
    /// Enters an ACPI sleep state.
    enter_sleep(u16, u16);
}

/// Functions that on the host answer what a machine without guests answers.
macro_rules! constant {
    ($($(#[$doc:meta])* $name:ident($($arg:ty),*) -> $t:ty = $value:expr;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name($(_: $arg),*) -> $t { $value })*
    };
}
constant! {
    /// Takes the local APIC's errors.
    take_apic_errors() -> super::interrupt::ApicErrors = super::interrupt::ApicErrors(0);
    /// Takes the work bits.
    take_work() -> u32 = 0;
    /// Whether there is work.
    work_pending() -> bool = false;
    /// The unit of the loaded vCPU.
    loaded_unit() -> Option<UnitId> = None;
    /// Gives the loaded vCPU up.
    unload() -> Option<(Arc<Domain>, Arc<Vcpu>)> = None;
    /// Whether a long operation should stop.
    preempt_point() -> bool = false;
    /// The address of the last page fault.
    fault_address() -> u64 = 0;
    /// DR6's status bits.
    take_dr6() -> u64 = 0;
    /// Page of the LDT window.
    ldt_window_page(u64) -> Option<u16> = None;
    /// Reads an MSR.
    read_msr_checked(u32) -> Option<u64> = None;
    /// Reads the FS base.
    fs_base() -> u64 = 0;
    /// Reads the GS base.
    gs_base() -> u64 = 0;
    /// Reads the other GS base.
    inactive_gs_base() -> u64 = 0;
    /// Reads a port.
    port_in(u16, u8) -> u32 = u32::MAX;
    /// Reads PCI configuration space.
    pci_read(u16, u16, u8) -> u32 = u32::MAX;
    /// Reads a register of an I/O APIC.
    io_apic_read(u64, u32) -> Option<u32> = None;
    /// CPUs that run.
    online_cpus() -> CpuMask = CpuMask::first(1);
    /// CPUs there are.
    cpu_count() -> usize = 1;
    /// What firmware calls a CPU.
    cpu_ids(CpuId) -> Option<super::CpuIds> = None;
    /// Executes CPUID.
    cpuid(u32, u32) -> [u32; 4] = [0; 4];
}

/// Loads a vCPU.
pub fn load(_: Arc<Domain>, _: Arc<Vcpu>, _: crate::sync::Guard<'_, VcpuState>) -> bool {
    true
}

/// Stops this CPU for good.
pub fn halt_forever() -> ! {
    panic!("halted")
}

/// Resets the machine.
pub fn reset() -> ! {
    panic!("reset")
}

/// The set of this CPU.
#[must_use]
pub fn this_cpu() -> &'static CpuMask {
    const ONE: CpuMask = CpuMask::only(CpuId(0));
    &ONE
}

/// This CPU's kept translations: each test thread has its own.
#[allow(clippy::disallowed_methods, reason = "on a host")]
#[must_use]
pub fn stack_cache() -> &'static crate::mm::guest_stack::StackCache {
    std::thread_local! {
        static CACHE: &'static crate::mm::guest_stack::StackCache =
            Box::leak(Box::new(crate::mm::guest_stack::StackCache::new()));
    }
    CACHE.with(|c| *c)
}

/// Tells entry code of a stack page: there is none.
pub fn keep_stack_page(_page: u64, _at: *mut u8) {}
