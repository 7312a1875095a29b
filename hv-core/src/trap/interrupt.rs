//! Interrupts of this CPU. They come while a guest runs, while the CPU idles, or at a
//! preemption point: never with a lock held.

use crate::addr::DomId;
use crate::arch::machine;
use crate::arch::vectors::{self, DeviceVector, Meaning};
use crate::console;
use crate::domain::{registry, virqs};
use crate::event::Virq;
use crate::irq;

/// The serial line received something: dom0 reads it.
fn console_input() {
    if console::receive() {
        virqs::raise(Virq::CONSOLE);
    }
}

/// Says what the local APIC complains of. A device that sends messages with an illegal vector
/// causes one complaint for each, so not every one is told.
#[cold]
fn report_apic_error() {
    let errors = machine::take_apic_errors();
    let cpu = machine::cpu_id().0;
    console::limited_log(format_args!("CPU {cpu}: local APIC error {errors}"));
}

/// Handles interrupt `vector`.
pub fn handle(vector: u8) {
    match vector {
        vectors::TIMER => {
            machine::raise(machine::cpu_id(), machine::WORK_TIMER);
            machine::end_of_interrupt();
        }
        // Whoever sent it left the reason in the work bits.
        vectors::KICK => machine::end_of_interrupt(),
        vectors::TLB_FLUSH => {
            machine::service_flushes();
            machine::end_of_interrupt();
        }
        vectors::APIC_ERROR => {
            report_apic_error();
            machine::end_of_interrupt();
        }
        vectors::SPURIOUS => {}
        _ => match vectors::meaning(vector) {
            Meaning::Device(vector) => device(vector),
            // Nobody sends them. Should a device forge one, it must not block the others.
            Meaning::System | Meaning::GuestCall => machine::end_of_interrupt(),
            // What a masked 8259 still sends needs no answer.
            Meaning::Pic | Meaning::Exception => {}
        },
    }
}

/// Tells whom the line of `vector` is for.
#[inline]
fn device(vector: DeviceVector) {
    let Some(fired) = irq::on_vector(vector) else {
        return;
    };
    if fired.to.domain == DomId::XEN {
        console_input();
    } else if let Some(domain) = registry::get(fired.to.domain) {
        domain.raise_pirq(fired.to.pirq);
    }
}
