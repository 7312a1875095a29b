//! From nothing, or from what the server before left.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use xen_abi::xen::VIRQ_DOM_EXC;

use super::super::core::Store;
use super::super::journal::{Journal, RingState};
use super::rings::Rings;
use super::sockets::Sockets;
use super::{Devices, Options, StartError, Worker};
use crate::sys::{DomId, Mfn};

/// What tells this boot from others.
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

impl Worker {
    /// Takes over from the server before, if there was one in this boot.
    pub fn start(
        options: &Options,
        devices: Option<Devices>,
        stop: Arc<OwnedFd>,
    ) -> Result<Self, StartError> {
        let sockets = Sockets::listen(&options.sockets)?;
        let (store, states) = match Journal::read(&options.journal, &boot_id()) {
            Some(records) => {
                tracing::info!("xenstore goes on with {} records", records.len());
                Store::restore(options.quota, records)
            }
            None => (Store::new(options.quota), BTreeMap::new()),
        };
        let mut worker = Self {
            store,
            sockets,
            rings: Rings::new(devices),
            journal: None,
            options: options.clone(),
            stop,
        };
        if worker.rings.devices.is_some() {
            worker.bind_domain_events();
            worker.take_over(&states);
            worker.open_kernel(states.get(&DomId::DOM0))?;
        }
        worker.store.take_records();
        worker.renew();
        Ok(worker)
    }

    fn bind_domain_events(&mut self) {
        let Some(devices) = &self.rings.devices else {
            return;
        };
        match devices.evtchn.bind_virq(VIRQ_DOM_EXC) {
            Ok(port) => self.rings.domains_port = Some(port),
            Err(e) => tracing::error!(
                "VIRQ_DOM_EXC: {e}; xenstore will not notice that domains end: does another \
                 daemon have it?"
            ),
        }
    }

    /// Rings of domains that still live; the others are gone.
    fn take_over(&mut self, states: &BTreeMap<DomId, RingState>) {
        self.check_domains();
        let domains: Vec<_> = self.store.domains().map(|(d, known)| (d, *known)).collect();
        for (domain, known) in domains {
            if domain == DomId::DOM0 {
                continue;
            }
            let state = states.get(&domain).cloned().unwrap_or_default();
            let ring = self.rings.take_over(domain, known.ring, known.port, &state);
            match ring {
                Ok(()) => self.skip_given(domain, &state),
                Err(e) => tracing::error!("xenstore ring of domain {domain}: {e}"),
            }
        }
    }

    fn open_kernel(&mut self, state: Option<&RingState>) -> Result<(), StartError> {
        let system = |source| StartError::System {
            what: "xenstore ring of dom0's kernel".into(),
            source,
        };
        let port = self.rings.open_kernel(state).map_err(system)?;
        self.store.add_domain(DomId::DOM0, Mfn(0), port, [0; 16]);
        if let Some(state) = state {
            self.skip_given(DomId::DOM0, state);
        }
        // The kernel waits for an event before it asks anything.
        self.rings.notify(DomId::DOM0);
        Ok(())
    }

    /// What waited for a domain and is in its ring already.
    fn skip_given(&mut self, domain: DomId, state: &RingState) {
        let Some(ring) = self.rings.rings.get(&domain) else {
            return;
        };
        let given = ring.state().given.wrapping_sub(state.given) as usize;
        let id = self.store.domains().find(|(d, _)| *d == domain);
        if let Some(id) = id.map(|(_, known)| known.connection) {
            let given = given.min(self.store.waiting(id));
            self.store.sent(id, given);
        }
    }
}
