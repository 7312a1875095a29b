//! The machine around the CPU, in the order its parts need each other.
#![allow(unsafe_code, reason = "lends a page to CPUs that start")]

use super::boot_info::BootInfo;
use super::options::{ClockSource, Options};
use crate::addr::{CpuId, DomId, Mfn};
use crate::arch::FrameMem;
use crate::arch::clock::Rates;
use crate::arch::machine::features::{Features, set_protection};
use crate::arch::machine::{self, acpi, apic, clock, cpus, ioapic, leftovers, pci, power, smp};
use crate::arch::platform::Platform;
use crate::arch::topology::Threads;
use crate::mm::early;
use crate::mm::host_map::{self, DirectMap};
use crate::sync::Once;
use crate::{irq, time};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

/// What was found out about the machine.
#[derive(Debug)]
pub struct Hardware {
    /// What the firmware says.
    pub platform: Platform,
    /// What the CPU says.
    pub features: Features,
    /// How fast its counters are.
    pub rates: Rates,
    /// Cores have several threads each, used or not.
    pub smt: bool,
    /// A frame below 640 KiB for starting CPUs.
    low_frame: Option<Mfn>,
}

static HARDWARE: Once<Hardware> = Once::new();

/// What [`discover`] found.
///
/// # Panics
/// Before that.
#[must_use]
pub fn hardware() -> &'static Hardware {
    HARDWARE.get().expect("hardware::discover ran")
}

/// Finds the machine's parts and sets up what the boot CPU needs of them: tables,
/// power, local APIC, clocks, interrupt lines. On the boot CPU, with a heap, before
/// the early allocator hands over.
pub fn discover(info: &BootInfo, options: &Options) -> &'static Hardware {
    let features = Features::detect();
    log::debug!("{features:x?}");
    leftovers::warn_of_errata(&features);
    protect(&features, options);
    let mut platform = if options.acpi {
        acpi::read(info.rsdp_address())
    } else {
        Platform::unknown()
    };
    leave_out(&mut platform, options);
    power::init(&platform.power);
    apic::init_boot(&platform, &features, options.x2apic, options.tsc_deadline);
    let smt = leave_siblings_out(&mut platform, options);
    cpus::init(&platform, options.max_cpus as usize);
    apic::init_cpu(&platform);
    let rates = clock::measure(&platform, &features);
    let rtc = clock::read_rtc(platform.power.rtc_century);
    time::init(rates, time::wallclock::unix_seconds(&rtc));
    if matches!(
        options.clock,
        Some(ClockSource::Hpet | ClockSource::AcpiPm | ClockSource::Pit)
    ) {
        time::distrust_tsc();
    }
    pci::init(&platform.mcfg);
    irq::init(&platform, ioapic::init(&platform));
    irq::allow_messages(options.msi);
    HARDWARE.call_once(|| Hardware {
        platform,
        features,
        rates,
        smt,
        low_frame: early::alloc_low(),
    })
}

/// Chooses SMEP and SMAP.
fn protect(features: &Features, options: &Options) {
    let smap = features.can_use_smap(acpi::qemu_release());
    if features.smap && !smap && options.smap != Some(false) {
        log::warn!("SMAP stays off: this QEMU may apply it to user mode's iretq (fixed in 8.0)");
    }
    set_protection(
        features.smep && options.smep.unwrap_or(true),
        smap && options.smap.unwrap_or(true),
    );
}

/// Leaves one thread of each core if the command line says so (`smt=`). Whether cores have several.
fn leave_siblings_out(platform: &mut Platform, options: &Options) -> bool {
    let threads = Threads::read(machine::cpuid);
    let smt = threads.are_shared(&platform.processors);
    if smt && options.speculation.smt == Some(false) {
        let left_out = threads.leave_siblings_out(&mut platform.processors, apic::id());
        log::info!("smt=off: {left_out} sibling threads are not used");
    }
    smt
}

/// Forgets what the command line says not to use.
fn leave_out(platform: &mut Platform, options: &Options) {
    if !options.io_apic {
        platform.io_apics.clear();
    }
    let clock = options.clock;
    if !options.hpet || matches!(clock, Some(ClockSource::AcpiPm | ClockSource::Pit)) {
        platform.hpet = None;
    }
    if clock == Some(ClockSource::Pit) {
        platform.power.pm_timer = None;
    }
}

/// Starts the other CPUs: each gets the stack `stack_top` makes and goes on in
/// `hook`, which calls [`started`] once it is on its own descriptor tables. Returns
/// how many CPUs run, this one included.
pub fn start_cpus(
    stack_top: &mut dyn FnMut(CpuId) -> Option<u64>,
    hook: extern "C" fn(CpuId) -> !,
) -> usize {
    if cpus::count() == 1 {
        return 1;
    }
    leftovers::note_memory_types();
    let Some(page) = hardware().low_frame else {
        log::error!("no memory below 640 KiB: running on one CPU");
        return 1;
    };
    // SAFETY: the frame is ours alone.
    if unsafe { host_map::map_identity(page) }.is_err() {
        log::error!("no memory to start CPUs with: running on one");
        return 1;
    }
    let page_at = NonNull::new(DirectMap.bytes(page)).expect("the direct map is not at 0");
    let mut plan = smp::Plan {
        root: host_map::root(),
        page,
        page_at,
        stack_top,
        hook,
    };
    // SAFETY: the root and the page are as the plan wants them.
    let running = unsafe { smp::start_others(&mut plan) };
    // SAFETY: every CPU that runs has left the page.
    unsafe { host_map::unmap_identity(page) };
    log::info!("{running} CPUs");
    let others = OTHER_MEMORY_TYPES.load(Ordering::Relaxed);
    if others > 0 {
        log::info!("{others} CPUs had other memory types (MTRR) than the boot CPU, and took its");
    }
    running
}

/// CPUs to which firmware gave other memory types than to the boot CPU.
static OTHER_MEMORY_TYPES: AtomicU32 = AtomicU32::new(0);

/// Reports a started CPU: memory types, local APIC, TSC check, online.
pub fn started(cpu: CpuId) {
    if leftovers::match_memory_types() {
        OTHER_MEMORY_TYPES.fetch_add(1, Ordering::Relaxed);
    }
    // Guests see times of two CPUs no closer than the time from one to the other.
    const MOST_SKEW: u64 = 1_000;
    if smp::settle(cpu, &hardware().platform) > clock::ticks(MOST_SKEW) {
        time::distrust_tsc();
    }
    smp::report(cpu);
}

/// Has the serial line's interrupt come to the hypervisor itself.
pub fn listen_to_console() {
    let Some(isa) = crate::console::set_input_interrupt(true) else {
        return;
    };
    let (gsi, signal) = hardware().platform.isa_irq(isa);
    let to = irq::Binding {
        domain: DomId::XEN,
        pirq: gsi,
    };
    let bound = irq::setup_gsi(gsi, signal.level, signal.active_low)
        .and_then(|()| irq::bind(gsi, to, CpuId(0)));
    if let Err(why) = bound {
        log::warn!("serial input will not be noticed: {why:?}");
    }
}
