//! Counters: the TSC, what its rate is measured against, and the battery clock.
//!
//! Measuring takes [`WINDOW_NANOS`] once per boot.
//! Sources: IA-PC HPET specification 1.0a, 2.3; ACPI 6.5, 4.8.3.3 (PM timer); Intel
//! 8254 data sheet; Motorola MC146818A data sheet.
#![allow(unsafe_code, reason = "reads counters by port and instruction")]

use super::features::Features;
use super::physical::{MappedRegister, Registers};
use super::{apic, port};
use crate::addr::MachAddr;
use crate::arch::apic_timer::TimerMode;
use crate::arch::clock::{CpuTimer, Rates, Reference, RtcFields, rate_against};
use crate::arch::platform::{Platform, Register};
use crate::sync::{Level, Lock, Once};
use core::sync::atomic::{AtomicU64, Ordering};

/// The time stamp counter of the CPU that asks.
#[must_use]
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: an unprivileged instruction without side effects.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// TSC ticks a microsecond, once measured.
static TSC_MHZ: AtomicU64 = AtomicU64::new(0);

/// TSC ticks in `nanos`, rounded up to whole microseconds' worth. For time limits.
#[must_use]
pub fn ticks(nanos: u64) -> u64 {
    nanos.div_ceil(1000) * TSC_MHZ.load(Ordering::Relaxed)
}

/// Waits at least `nanos`.
pub fn delay(nanos: u64) {
    let start = tsc();
    while tsc().wrapping_sub(start) < ticks(nanos) {
        core::hint::spin_loop();
    }
}

const WINDOW_NANOS: u64 = 10_000_000;

#[derive(Debug)]
enum Counter {
    Hpet(Registers, Reference),
    PmTimer(MappedRegister, Reference),
    /// Channel 2, counting down from 0xffff.
    Pit,
}

static COUNTER: Once<Counter> = Once::new();

const HPET_CAPABILITIES: usize = 0x00;
const HPET_CONFIG: usize = 0x10;
const HPET_COUNTER: usize = 0xf0;
const HPET_MOST_FEMTOS: u64 = 100_000_000;

const PIT: Reference = Reference {
    name: "PIT",
    hz: 1_193_182,
    mask: 0xffff,
};

impl Counter {
    fn hpet(at: MachAddr) -> Option<Self> {
        let r = Registers::map(at, 0x400)?;
        let capabilities = r.read64(HPET_CAPABILITIES);
        let femtos = capabilities >> 32;
        if femtos == 0 || femtos > HPET_MOST_FEMTOS {
            return None;
        }
        // Count, without taking over the PIT's and RTC's interrupts.
        r.write64(HPET_CONFIG, r.read64(HPET_CONFIG) & !3 | 1);
        let wide = capabilities >> 13 & 1 != 0;
        let reference = Reference {
            name: "HPET",
            hz: 1_000_000_000_000_000 / femtos,
            mask: if wide { u64::MAX } else { 0xffff_ffff },
        };
        Some(Self::Hpet(r, reference))
    }

    fn pm_timer(register: Register, wide: bool) -> Option<Self> {
        let reference = Reference {
            name: "PM timer",
            hz: 3_579_545,
            mask: if wide { 0xffff_ffff } else { 0xff_ffff },
        };
        Some(Self::PmTimer(MappedRegister::map(register)?, reference))
    }

    fn pit() -> Self {
        // Gate of channel 2 on, speaker off; mode 0, low then high byte, from 0xffff.
        // SAFETY: the timer's channel 2 is nobody else's.
        unsafe {
            let gate = port::read8(0x61) & !2 | 1;
            port::write8(0x61, gate);
            port::write8(0x43, 0xb0);
            port::write8(0x42, 0xff);
            port::write8(0x42, 0xff);
        }
        Self::Pit
    }

    fn reference(&self) -> Reference {
        match self {
            Self::Hpet(_, r) | Self::PmTimer(_, r) => *r,
            Self::Pit => PIT,
        }
    }

    fn read(&self) -> u64 {
        match self {
            // Two 32-bit halves would tear; a 64-bit read of a 64-bit counter does not.
            Self::Hpet(r, reference) if reference.mask == u64::MAX => r.read64(HPET_COUNTER),
            Self::Hpet(r, _) => u64::from(r.read32(HPET_COUNTER)),
            Self::PmTimer(timer, r) => u64::from(timer.read32()) & r.mask,
            Self::Pit => {
                // SAFETY: latches and reads channel 2.
                let down = unsafe {
                    port::write8(0x43, 0x80);
                    u64::from(port::read8(0x42)) | u64::from(port::read8(0x42)) << 8
                };
                0xffff - down
            }
        }
    }
}

/// The counter the rates were measured against.
///
/// # Panics
/// Before [`measure`].
#[must_use]
pub fn read_reference() -> u64 {
    COUNTER.get().expect("clock::measure ran").read()
}

/// The TSC and another counter at (nearly) one moment: of a few tries, the one that
/// took the least time.
fn together(read: impl Fn() -> u64) -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..5 {
        let before = tsc();
        let value = read();
        let took = tsc().wrapping_sub(before);
        if took < best.0 {
            best = (took, before.wrapping_add(took / 2), value);
        }
    }
    (best.1, best.2)
}

/// Measures the TSC, and the APIC timer if it counts, against the best counter there is: HPET,
/// PM timer, PIT. Local APIC must be set up.
///
/// # Panics
/// If none of them counts.
pub fn measure(platform: &Platform, features: &Features) -> Rates {
    let power = &platform.power;
    let candidates: [&dyn Fn() -> Option<Counter>; 3] = [
        &|| platform.hpet.and_then(Counter::hpet),
        &|| {
            power
                .pm_timer
                .and_then(|r| Counter::pm_timer(r, power.pm_timer_32bit))
        },
        &|| Some(Counter::pit()),
    ];
    for candidate in candidates {
        let Some(counter) = candidate() else { continue };
        let Some((tsc_hz, timer)) = measure_against(&counter) else {
            log::warn!("{} does not count", counter.reference().name);
            continue;
        };
        TSC_MHZ.store(tsc_hz.div_ceil(1_000_000), Ordering::Relaxed);
        let reference = counter.reference();
        COUNTER.call_once(|| counter);
        log::info!(
            "TSC {}.{:03} MHz ({}), {timer}, measured against {}",
            tsc_hz / 1_000_000,
            tsc_hz / 1000 % 1000,
            if features.invariant_tsc {
                "invariant"
            } else {
                "not said to be invariant"
            },
            reference.name,
        );
        return Rates {
            tsc_hz,
            tsc_invariant: features.invariant_tsc,
            timer,
            reference,
        };
    }
    panic!("no counter to measure the TSC against");
}

/// TSC ticks a second, and the APIC timer's rate if it has one of its own.
fn measure_against(counter: &Counter) -> Option<(u64, CpuTimer)> {
    let reference = counter.reference();
    let window = reference.hz * WINDOW_NANOS / 1_000_000_000;
    let counts = apic::timer_mode() == TimerMode::Count;
    if counts {
        // Far more than it can count in the window, so it does not fire.
        apic::start_timer(u32::MAX);
    }
    let counted = || {
        if counts {
            u64::from(u32::MAX - apic::timer_left())
        } else {
            0
        }
    };
    let (tsc0, ref0) = together(|| counter.read());
    let (apic_tsc0, apic0) = together(counted);
    // A counter that stands still must not hold the boot up: no TSC makes this many
    // ticks in the window.
    let give_up = tsc0.wrapping_add(1_000_000_000);
    while counter.read().wrapping_sub(ref0) & reference.mask < window {
        if tsc().wrapping_sub(give_up).cast_signed() > 0 {
            break;
        }
        core::hint::spin_loop();
    }
    let (tsc1, ref1) = together(|| counter.read());
    let (apic_tsc1, apic1) = together(counted);
    apic::stop_timer();
    let ref_ticks = ref1.wrapping_sub(ref0) & reference.mask;
    if ref_ticks < window {
        return None;
    }
    let tsc_hz = rate_against(tsc1.wrapping_sub(tsc0), ref_ticks, &reference)?;
    if !counts {
        return Some((tsc_hz, CpuTimer::TscDeadline));
    }
    let as_reference = Reference {
        name: "TSC",
        hz: tsc_hz,
        mask: u64::MAX,
    };
    let hz = rate_against(
        apic1.wrapping_sub(apic0),
        apic_tsc1.wrapping_sub(apic_tsc0),
        &as_reference,
    )?;
    Some((tsc_hz, CpuTimer::Count { hz }))
}

/// Guards the battery clock's index and data ports.
static RTC: Lock<()> = Lock::new(Level::Device, ());

/// Reads a register of the battery clock.
#[must_use]
pub fn rtc_read(index: u8) -> u8 {
    let _guard = RTC.lock();
    rtc_read_locked(index)
}

/// Writes a register of the battery clock.
pub fn rtc_write(index: u8, value: u8) {
    let _guard = RTC.lock();
    // SAFETY: CMOS holds settings and the date, no hypervisor state. Bit 7 of the
    // index port would turn NMIs off.
    unsafe {
        port::write8(0x70, index & 0x7f);
        port::write8(0x71, value);
    }
}

fn rtc_read_locked(index: u8) -> u8 {
    // SAFETY: as in `rtc_write`; reads here only acknowledge the clock's interrupt.
    unsafe {
        port::write8(0x70, index & 0x7f);
        port::read8(0x71)
    }
}

/// The battery clock's registers, read while they do not change. `century` is the CMOS
/// index of the century, or 0.
#[must_use]
pub fn read_rtc(century: u8) -> RtcFields {
    let _guard = RTC.lock();
    let mut last = rtc_fields(century);
    for _ in 0..5 {
        let again = rtc_fields(century);
        if again == last {
            break;
        }
        last = again;
    }
    last
}

fn rtc_fields(century: u8) -> RtcFields {
    // Within 244 us of a step the update bit rises first; the step takes 2 ms at most.
    for _ in 0..10_000 {
        if rtc_read_locked(0x0a) & 0x80 == 0 {
            break;
        }
    }
    RtcFields {
        second: rtc_read_locked(0),
        minute: rtc_read_locked(2),
        hour: rtc_read_locked(4),
        day: rtc_read_locked(7),
        month: rtc_read_locked(8),
        year: rtc_read_locked(9),
        century: if century == 0 {
            0
        } else {
            rtc_read_locked(century)
        },
        status_b: rtc_read_locked(0x0b),
    }
}
