//! Telling vCPUs: from an event delivery to a wake-up or an interrupt of the CPU
//! that runs the vCPU.

use super::{Domain, Vcpu, registry};
use crate::addr::VcpuId;
use crate::arch::machine;
use crate::event::{Delivery, HasPorts, PortTable, Receiver, Sent, Virq};
use crate::irq;
use crate::mm::shared_page::{InfoWindow, SharedPage};
use crate::sched::{Credit, System};
use core::sync::atomic::Ordering;

/// The scheduler of this host.
pub static SCHEDULER: System = System::new(Credit::new());

impl Receiver for Domain {
    fn shared_info(&self) -> SharedPage {
        self.shared
    }

    fn vcpu_info(&self, vcpu: VcpuId) -> Option<InfoWindow> {
        self.vcpu(vcpu)?.info.get()
    }

    fn silence(&self, pirq: u32) {
        irq::unbind(pirq, self.id);
    }
}

impl HasPorts for Domain {
    fn ports(&self) -> &PortTable {
        &self.events
    }
}

impl Domain {
    /// Does what an event delivery asks for. No lock above the run queues is held.
    #[inline]
    pub fn notify(&self, delivery: Delivery) {
        if let Some(id) = delivery.kick
            && let Some(vcpu) = self.vcpu(id)
        {
            vcpu.notify();
        }
        if delivery.raised.is_some() && self.pollers.load(Ordering::SeqCst) != 0 {
            self.wake_pollers();
        }
    }

    /// Sends an event by one of its ports, on its behalf. One that leads nowhere tells nobody.
    pub fn send_event(&self, port: u32) {
        match self.events.send(port, self) {
            Ok(Sent::Local(delivery)) => self.notify(delivery),
            Ok(Sent::Remote { domain, port: far }) => {
                if let Some(peer) = registry::get(domain) {
                    let delivery = peer.events.receive(far, self.id, port, &*peer);
                    peer.notify(delivery);
                }
            }
            Ok(Sent::Dropped) | Err(_) => {}
        }
    }

    /// Raises a virtual interrupt.
    pub fn raise_virq(&self, vcpu: VcpuId, virq: Virq) {
        let delivery = self.events.set_virq(vcpu, virq, self);
        self.notify(delivery);
    }

    /// Raises a physical interrupt.
    pub fn raise_pirq(&self, pirq: u32) {
        let delivery = self.events.set_pirq(pirq, self);
        self.notify(delivery);
    }

    #[cold]
    fn wake_pollers(&self) {
        let now = crate::time::now();
        for vcpu in self.vcpus() {
            if let Some(cpu) = SCHEDULER.wake_poller(vcpu.unit, now) {
                machine::kick(cpu);
            }
        }
    }
}

impl Vcpu {
    /// An event is due: wakes the vCPU, or makes it leave the guest if it runs.
    #[inline]
    pub fn notify(&self) {
        let Some(cpu) = SCHEDULER.notify(self.unit, crate::time::now()) else {
            return;
        };
        // On this CPU it is looked at anyway before the guest goes on.
        if cpu != machine::cpu_id() || !SCHEDULER.is_on_cpu(self.unit) {
            machine::kick(cpu);
        }
    }
}
