//! The steps themselves.
#![allow(unsafe_code, reason = "moves CPUs onto their own stacks and tables")]

use super::boot_info::BootInfo;
use super::options::Options;
use super::{dom0, efi, ground, hardware, panic};
use crate::addr::{CpuId, Mfn};
use crate::arch::machine::features::Hypervisor;
use crate::arch::machine::{self, area, isolation, speculation};
use crate::domain::notify::SCHEDULER;
use crate::fallible::fault;
use crate::mm::frame_alloc::Request;
use crate::mm::{frame_io, host};
use crate::power;
use crate::pv_mm::absent::{self, Absent};
use crate::sync::Once;
use crate::time::timers;
use crate::trap;
use crate::{console, time};
use core::sync::atomic::{AtomicBool, Ordering};

/// What the boot CPU takes along onto its own stack.
struct Boot {
    info: &'static BootInfo,
    options: Options,
}

static BOOT: Once<Boot> = Once::new();

/// Timers a CPU has room for from the start.
const TIMERS_PER_CPU: usize = 64;

/// Takes the machine over. Called once, on the boot CPU, interrupts off, on the
/// first page tables.
pub fn main(info: &'static BootInfo) -> ! {
    let options = ground::prepare(info);
    power::configure(options.halts(), options.frame_check);
    panic::set_hooks(panic::Hooks {
        stop_others: machine::stop_others,
        describe: machine::describe_current,
    });
    hardware::discover(info, &options);
    console::set_clock(time::now);
    host::init(&info.memory_map);
    make_room_for_cpus();
    BOOT.call_once(|| Boot { info, options });
    area::build(CpuId(0), zeroed_frame);
    // SAFETY: the area was just built; everything worth keeping is in `BOOT`.
    unsafe { area::switch_stack(CpuId(0), on_own_stack) }
}

/// Allocates what the other CPUs need before they run, as many as there are.
fn make_room_for_cpus() {
    let count = machine::cpu_count();
    machine::tlb::make_room(count);
    timers::make_room(count);
    SCHEDULER.make_room(count);
}

/// The boot CPU, on its own stack.
extern "C" fn on_own_stack() -> ! {
    let boot = BOOT.get().expect("`main` filled it");
    // SAFETY: this is CPU 0, in its area.
    unsafe { area::enter(CpuId(0)) };
    choose_mitigations(&boot.options);
    take_part(CpuId(0));
    let mut stack = |cpu| {
        area::build(cpu, zeroed_frame);
        Some(area::stack_top(cpu))
    };
    hardware::start_cpus(&mut stack, other_cpu);
    hardware::listen_to_console();
    isolate();
    tune(&boot.options);
    efi::discover(boot.info, &boot.options);
    dom0::build(boot.info, &boot.options);
    if !boot.options.keep_screen {
        console::leave_screen();
    }
    fail_allocations(&boot.options);
    READY.store(true, Ordering::Release);
    wake_others();
    isolation::arm();
    trap::run_guests()
}

/// Lets allocations fail from now on, to try what becomes of that (`alloc-fail=`).
fn fail_allocations(options: &Options) {
    if options.alloc_fail != 0 {
        log::warn!(
            "alloc-fail={}: of the hypervisor's allocations, one in so many fails",
            options.alloc_fail
        );
        fault::fail_every(options.alloc_fail);
    }
}

/// Whether guests may run: the decision how is made.
static READY: AtomicBool = AtomicBool::new(false);

/// Sets the scheduler's knobs (`sched_credit_tslice_ms=`, `sched_ratelimit_us=`).
fn tune(options: &Options) {
    if SCHEDULER.policy().set_knobs(options.knobs).is_err() {
        log::warn!(
            "sched_credit_tslice_ms={} sched_ratelimit_us={}: out of range, not used \
             (slice 1 to 1000 ms; rate limit 0, or 100 us to a slice)",
            options.knobs.slice_ms,
            options.knobs.ratelimit_us
        );
    }
}

/// Decides what to do about leaks by speculation. Faults can be handled by now, and no other CPU
/// runs.
fn choose_mitigations(options: &Options) {
    let hardware = hardware::hardware();
    let emulated = hardware.features.hypervisor == Some(Hypervisor::Tcg);
    speculation::choose(&options.speculation, hardware.smt, emulated);
    // SAFETY: the boot CPU, in its area, with interrupts off.
    unsafe { area::choose_doors() };
}

/// Keeps the hypervisor's memory out of guests' page tables, and memory out of their absent
/// entries, if that was decided.
fn isolate() {
    let plan = speculation::plan();
    if plan.isolate {
        let mm = host::get();
        for (n, entry) in isolation::enable(zeroed_frame).into_iter().enumerate() {
            mm.set_hypervisor_slot(n, entry);
        }
    }
    if plan.check_absent {
        // Firmware keeps memory of its own below 4 GiB, which no memory map shows.
        let end = Mfn::new(host::get().frames.limit().max(1 << 20));
        let bits = hardware::hardware().features.physical_bits;
        absent::restrict(Absent::beyond(end.addr(), bits));
    }
    speculation::log();
}

/// Any other CPU, on its own stack.
extern "C" fn other_cpu(cpu: CpuId) -> ! {
    machine::init_paging();
    // SAFETY: the CPU runs in its area, which was built before it was started.
    unsafe { area::enter(cpu) };
    take_part(cpu);
    hardware::started(cpu);
    // Asleep: hundreds of CPUs that spin would take their share of power, heat and, where
    // they are somebody's virtual CPUs, time from the one that builds dom0.
    while !READY.load(Ordering::Acquire) {
        machine::wait_for_interrupt();
    }
    isolation::arm();
    trap::run_guests()
}

/// Wakes the CPUs that wait for [`READY`].
fn wake_others() {
    let here = machine::cpu_id();
    for cpu in machine::online_cpus().without(here).iter() {
        machine::kick(cpu);
    }
}

/// Makes this CPU ready to run guests.
fn take_part(cpu: CpuId) {
    // SAFETY: once on each CPU, on the hypervisor's root, before a vCPU is loaded.
    unsafe { machine::init_cpu() };
    machine::leftovers::keep_timer_running(&hardware::hardware().features);
    speculation::start_cpu();
    timers::reserve(core::iter::once(cpu), TIMERS_PER_CPU).expect("memory for a CPU's timers");
    SCHEDULER.add_cpu(cpu);
}

/// A frame of zeroes for the hypervisor's own use.
fn zeroed_frame() -> Mfn {
    let mm = host::get();
    let mfn = mm
        .alloc_hypervisor(Request::anywhere(0))
        .expect("memory for a CPU's area");
    frame_io::fill(&mm.mem, mfn, 0);
    mfn
}
