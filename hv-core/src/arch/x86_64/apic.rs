//! The local APIC of each CPU, in xAPIC (memory) or x2APIC (MSR) mode.
//!
//! All CPUs are in the same mode, chosen once by [`init_boot`]. Register numbers are
//! byte offsets of the xAPIC window; the MSR of a register is `0x800 + offset / 16`.
//! [`init_cpu`] sets every register up, once on each CPU, and nothing else writes the LVT.
//! Source: Intel SDM vol. 3, chapter 11.
#![allow(unsafe_code, reason = "writes APIC registers and MSRs")]

use super::features::Features;
use super::physical::Registers;
use super::port;
use crate::addr::MachAddr;
use crate::arch::apic_timer::TimerMode;
use crate::arch::interrupt::ApicErrors;
use crate::arch::leftovers::{apic_address, thermal_entry};
use crate::arch::platform::Platform;
use crate::arch::vectors;
use crate::sync::Once;
use x86_64::registers::model_specific::Msr;

const ID: usize = 0x20;
const VERSION: usize = 0x30;
const TPR: usize = 0x80;
const EOI: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const ISR: usize = 0x100;
const ESR: usize = 0x280;
const ICR: usize = 0x300;
const ICR_HIGH: usize = 0x310;
const LVT_CMCI: usize = 0x2f0;
const LVT_TIMER: usize = 0x320;
const LVT_THERMAL: usize = 0x330;
const LVT_PERF: usize = 0x340;
const LVT_LINT: [usize; 2] = [0x350, 0x360];
const LVT_ERROR: usize = 0x370;
const TIMER_INITIAL: usize = 0x380;
const TIMER_CURRENT: usize = 0x390;
const TIMER_DIVIDE: usize = 0x3e0;

const LVT_MASKED: u32 = 1 << 16;
const LVT_NMI: u32 = 4 << 8;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const ICR_PENDING: u32 = 1 << 12;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_ALL_BUT_SELF: u32 = 3 << 18;
const DELIVERY_NMI: u32 = 4 << 8;
const DELIVERY_INIT: u32 = 5 << 8;
const DELIVERY_STARTUP: u32 = 6 << 8;

const MSR_APIC_BASE: u32 = 0x1b;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const MSR_X2APIC: u32 = 0x800;
const MSR_TSC_DEADLINE: u32 = 0x6e0;

#[derive(Debug)]
enum Mode {
    Memory(Registers),
    Msr,
}

struct Apic {
    mode: Mode,
    timer: TimerMode,
}

static APIC: Once<Apic> = Once::new();

fn msr_read(number: u32) -> u64 {
    // SAFETY: only the APIC's MSRs, which exist in the mode that was chosen.
    unsafe { Msr::new(number).read() }
}

fn msr_write(number: u32, value: u64) {
    // SAFETY: as above; what is written configures interrupts, not memory.
    unsafe { Msr::new(number).write(value) }
}

impl Apic {
    #[inline]
    fn read(&self, register: usize) -> u32 {
        match &self.mode {
            Mode::Memory(r) => r.read32(register),
            Mode::Msr => msr_read(MSR_X2APIC + register as u32 / 16) as u32,
        }
    }

    #[inline]
    fn write(&self, register: usize, value: u32) {
        match &self.mode {
            Mode::Memory(r) => r.write32(register, value),
            Mode::Msr => msr_write(MSR_X2APIC + register as u32 / 16, u64::from(value)),
        }
    }

    /// Sends what `command` says to `destination`.
    fn send(&self, destination: u32, command: u32) {
        match &self.mode {
            Mode::Memory(r) => {
                // The previous command may still be on its way.
                while r.read32(ICR) & ICR_PENDING != 0 {
                    core::hint::spin_loop();
                }
                r.write32(ICR_HIGH, destination << 24);
                r.write32(ICR, command);
            }
            Mode::Msr => {
                // Unlike a store to memory, this write does not wait for earlier
                // stores to be seen by the CPU that is told (SDM vol. 3, 11.12.3).
                // SAFETY: a fence.
                unsafe { core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags)) };
                let value = u64::from(destination) << 32 | u64::from(command);
                msr_write(MSR_X2APIC + ICR as u32 / 16, value);
            }
        }
    }
}

#[inline]
fn apic() -> &'static Apic {
    APIC.get().expect("apic::init_boot ran")
}

/// Chooses the modes of registers and timer, silences the 8259s and turns the boot CPU's APIC on,
/// so that [`id`] works; [`init_cpu`] does the rest.
///
/// x2APIC is used where firmware turned it on, where an APIC id needs it, and under a
/// hypervisor; elsewhere devices could not reach all CPUs without interrupt
/// remapping, so it brings nothing. `allow_x2apic` false leaves only the first reason;
/// `allow_deadline` false leaves a timer that counts.
///
/// # Panics
/// If the APIC's registers cannot be mapped.
pub fn init_boot(
    platform: &Platform,
    features: &Features,
    allow_x2apic: bool,
    allow_deadline: bool,
) {
    if platform.has_pic {
        silence_pic();
    }
    let on_already = msr_read(MSR_APIC_BASE) & BASE_X2APIC != 0;
    let wide_ids = platform
        .processors
        .iter()
        .any(|p| p.enabled && p.apic_id > 0xfe);
    let wanted = on_already
        || (allow_x2apic && features.x2apic && (wide_ids || features.hypervisor.is_some()));
    let mode = if wanted {
        Mode::Msr
    } else {
        let address = apic_address(msr_read(MSR_APIC_BASE));
        if address != platform.local_apic {
            log::warn!(
                "the local APIC is at {address:#x}, firmware's tables say {:#x}",
                platform.local_apic
            );
        }
        let at = MachAddr::new(address);
        Mode::Memory(Registers::map(at, 4096).expect("the local APIC can be mapped"))
    };
    let timer = choose_timer(features, allow_deadline);
    let apic = APIC.call_once(|| Apic { mode, timer });
    turn_on(apic);
    log::info!(
        "local APIC: {} mode, version {:#x}, boot CPU has id {}",
        if matches!(apic.mode, Mode::Msr) {
            "x2APIC"
        } else {
            "xAPIC"
        },
        apic.read(VERSION) & 0xff,
        id(),
    );
}

fn choose_timer(features: &Features, allow_deadline: bool) -> TimerMode {
    let cpu = features.timer_cpu();
    TimerMode::choose(&cpu, allow_deadline).unwrap_or_else(|needed| {
        log::warn!(
            "the TSC deadline timer of this CPU has an erratum: it needs microcode {needed:#x} \
             and has {:#x}; timers count instead",
            cpu.microcode
        );
        TimerMode::Count
    })
}

/// Turns on this CPU's APIC in the mode chosen.
fn turn_on(apic: &Apic) {
    let base = msr_read(MSR_APIC_BASE);
    let wanted = match apic.mode {
        Mode::Memory(_) => base | BASE_ENABLE,
        Mode::Msr => base | BASE_ENABLE | BASE_X2APIC,
    };
    if base & BASE_ENABLE == 0 {
        // From disabled there is no way to x2APIC mode but through xAPIC mode. Source:
        // Intel SDM vol. 3, 11.12.5.
        msr_write(MSR_APIC_BASE, base | BASE_ENABLE);
    }
    if base != wanted {
        msr_write(MSR_APIC_BASE, wanted);
    }
}

/// Sets up the APIC of the CPU that asks: everything masked but errors and the
/// timer, and NMI on the pins the firmware names.
pub fn init_cpu(platform: &Platform) {
    let apic = apic();
    turn_on(apic);
    apic.write(SPURIOUS, SOFTWARE_ENABLE | u32::from(vectors::SPURIOUS));
    apic.write(TPR, 0);
    let last_lvt = apic.read(VERSION) >> 16 & 0xff;
    let lints = lint_entries(platform, id());
    for (register, entry) in LVT_LINT.into_iter().zip(lints) {
        apic.write(register, entry);
    }
    if last_lvt >= 4 {
        apic.write(LVT_PERF, LVT_MASKED);
    }
    if last_lvt >= 5 {
        apic.write(LVT_THERMAL, thermal_entry(apic.read(LVT_THERMAL)));
    }
    if last_lvt >= 6 {
        apic.write(LVT_CMCI, LVT_MASKED);
    }
    // What firmware left in service would block everything below it.
    for _ in 0..256 {
        if (0..8).all(|n| apic.read(ISR + 16 * n) == 0) {
            break;
        }
        apic.write(EOI, 0);
    }
    apic.write(ESR, 0);
    apic.write(LVT_ERROR, u32::from(vectors::APIC_ERROR));
    // Divide by one.
    apic.write(TIMER_DIVIDE, 0b1011);
    apic.write(LVT_TIMER, apic.timer.lvt());
    // In memory mode nothing else orders that store and a first deadline, which is written to an
    // MSR (SDM vol. 3, 11.5.4.1).
    // SAFETY: a fence.
    unsafe { core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags)) };
    stop_timer();
}

/// The entries of the two pins of the CPU with APIC id `me`: NMI where the firmware says so.
fn lint_entries(platform: &Platform, me: u32) -> [u32; 2] {
    let acpi_id = platform
        .processors
        .iter()
        .find(|p| p.apic_id == me)
        .map(|p| p.acpi_id);
    let mut entries = [LVT_MASKED; 2];
    for nmi in &platform.local_nmis {
        if nmi.acpi_id.is_none() || nmi.acpi_id == acpi_id {
            entries[usize::from(nmi.lint & 1)] = LVT_NMI;
        }
    }
    entries
}

/// Moves the 8259s off the exception vectors and masks all their lines.
fn silence_pic() {
    // ICW1 (with ICW4, edge), ICW2 (base), ICW3 (cascade on line 2), ICW4 (8086).
    let sequence = [
        (0x20u16, 0x11u8),
        (0xa0, 0x11),
        (0x21, vectors::PIC),
        (0xa1, vectors::PIC + 8),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ];
    for (port, value) in sequence {
        // SAFETY: the interrupt controllers' own ports; all lines end up masked.
        unsafe { port::write8(port, value) };
    }
}

/// Whether CPUs with APIC ids of more than 8 bits can be told anything.
#[must_use]
pub fn names_wide_ids() -> bool {
    matches!(apic().mode, Mode::Msr)
}

/// The APIC id of the CPU that asks.
#[must_use]
pub fn id() -> u32 {
    let apic = apic();
    match apic.mode {
        Mode::Memory(_) => apic.read(ID) >> 24,
        Mode::Msr => apic.read(ID),
    }
}

/// Ends the interrupt in service.
#[inline]
pub fn eoi() {
    apic().write(EOI, 0);
}

/// Interrupts the CPU with APIC id `to` at `vector`.
#[inline]
pub fn send(to: u32, vector: u8) {
    apic().send(to, ICR_ASSERT | u32::from(vector));
}

/// Sends an NMI to every other CPU, started or not waiting for start-up. Usable from
/// a panic.
pub fn send_nmi_to_others() {
    if let Some(apic) = APIC.get() {
        apic.send(0, ICR_ALL_BUT_SELF | ICR_ASSERT | DELIVERY_NMI);
    }
}

/// Sends an NMI to the CPU with APIC id `to`.
pub fn send_nmi(to: u32) {
    apic().send(to, ICR_ASSERT | DELIVERY_NMI);
}

/// Resets the CPU with APIC id `to`; it then waits for [`send_startup`].
pub fn send_init(to: u32) {
    apic().send(to, ICR_ASSERT | DELIVERY_INIT);
}

/// Starts the CPU with APIC id `to` in real mode at physical address `page << 12`.
pub fn send_startup(to: u32, page: u8) {
    apic().send(to, ICR_ASSERT | DELIVERY_STARTUP | u32::from(page));
}

/// Reads and clears the error register.
#[must_use]
pub fn take_errors() -> ApicErrors {
    let apic = apic();
    // The write makes the register show what came since the last one.
    apic.write(ESR, 0);
    ApicErrors(apic.read(ESR))
}

/// Starts this CPU's timer: it fires after `ticks`.
#[inline]
pub fn start_timer(ticks: u32) {
    apic().write(TIMER_INITIAL, ticks);
}

/// Starts this CPU's timer: it fires when the TSC passes `tsc`.
#[inline]
pub fn start_timer_at(tsc: u64) {
    // 0 would stop it.
    msr_write(MSR_TSC_DEADLINE, tsc.max(1));
}

/// Stops this CPU's timer.
#[inline]
pub fn stop_timer() {
    match apic().timer {
        TimerMode::TscDeadline => msr_write(MSR_TSC_DEADLINE, 0),
        TimerMode::Count => apic().write(TIMER_INITIAL, 0),
    }
}

/// How timers work.
#[must_use]
pub fn timer_mode() -> TimerMode {
    apic().timer
}

/// What is left of the ticks [`start_timer`] was given.
#[must_use]
pub(super) fn timer_left() -> u32 {
    apic().read(TIMER_CURRENT)
}
