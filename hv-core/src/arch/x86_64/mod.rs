//! The x86-64 CPU and the PC around it.

pub mod acpi;
pub mod apic;
pub mod clock;
pub mod cpus;
pub mod efi_runtime;
pub mod features;
pub mod ioapic;
pub mod irqchip;
pub mod isolation;
pub mod leftovers;
mod paging;
pub mod pci;
pub mod physical;
pub mod port;
pub mod power;
mod screen;
pub mod smp;
pub mod speculation;
pub mod stretch;
pub mod tlb;
mod uart_port;
mod xstate;

pub use apic::{start_timer, start_timer_at, stop_timer, take_errors as take_apic_errors};
pub use clock::{read_reference, tsc};
pub use cpus::{count as cpu_count, ids as cpu_ids, online as online_cpus};
pub use ioapic::read_for_guest as io_apic_read;
pub use irqchip::end_of_interrupt;
pub use pci::{pci_read, pci_write};
pub use port::{port_in, port_out};
pub use tlb::{
    MachineTlb, note_flush, service as service_flushes, stack_cache, takes_part, visit_guests,
};

pub use screen::ScreenMemory;

pub use paging::{flush_local, has_1g_pages, init_paging, load_root};
pub mod area;
pub mod context;
pub mod cpu_area;
pub mod descriptors;
pub mod entry;
pub mod fast;
pub mod faults;
mod guard;
pub mod local;

pub use context::*;
pub use fast::{keep_stack_page, publish as publish_fast, resume as resume_fast};
pub use faults::*;
pub use local::*;
pub use uart_port::UartPort;
pub use xstate::{fpu_area_size, mxcsr_mask, set_task_switched, set_xcr0};

/// A pause in a spin loop; answers TLB shoot-down requests meanwhile.
pub fn relax() {
    tlb::service();
    core::hint::spin_loop();
}

/// Whether a CPU panicked and wants all others to stop.
static STOP: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

/// Whether this CPU should stop for good.
#[must_use]
pub fn stop_requested() -> bool {
    STOP.load(core::sync::atomic::Ordering::Acquire)
}

/// Stops all other CPUs.
pub fn stop_others() {
    STOP.store(true, core::sync::atomic::Ordering::Release);
    apic::send_nmi_to_others();
}

/// Stops this CPU for good.
pub fn halt_forever() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// Turns the machine off; returns only if that failed.
pub fn power_off() {
    power::off();
}

/// Enters the sleep state dom0 found in its ACPI tables; returns only if that failed.
pub fn enter_sleep(pm1a: u16, pm1b: u16) {
    power::enter_sleep(pm1a, pm1b);
}

/// Resets the machine.
pub fn reset() -> ! {
    power::reset()
}
