//! All rings, and the ways to them.

use std::collections::BTreeMap;
use std::io;

use super::super::core::Host;
use super::super::journal::RingState;
use super::super::wire::Errno;
use super::devices::{Devices, Living};
use super::ring::Ring;
use crate::sys::{Access, DomId, GrantRef, Mfn, Port, SharedPages};

/// The grant by which every domain's builder grants its ring.
///
/// Source: Xen `include/public/grant_table.h`, `GNTTAB_RESERVED_XENSTORE`.
const RING_GRANT: GrantRef = GrantRef(1);

/// Rings of domains.
#[derive(Debug)]
pub(super) struct Rings {
    pub devices: Option<Devices>,
    pub rings: BTreeMap<DomId, Ring>,
    /// Where the hypervisor tells that a domain ended.
    pub domains_port: Option<Port>,
}

impl Rings {
    pub fn new(devices: Option<Devices>) -> Self {
        Self {
            devices,
            rings: BTreeMap::new(),
            domains_port: None,
        }
    }

    /// Dom0's end of a domain's channel and its ring.
    fn open(&self, domain: DomId, frame: Mfn, port: Port) -> io::Result<(SharedPages, Port)> {
        let devices = self.devices.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let granted = devices.gntdev.map(&[(domain, RING_GRANT)], Access::Write);
        let page = granted.or_else(|_| devices.hypervisor.map(domain, frame))?;
        let local = devices.evtchn.bind_interdomain(domain, port)?;
        Ok((page, local))
    }

    /// Takes dom0's kernel's ring over: as it stands, or where the server before left it.
    pub fn open_kernel(&mut self, state: Option<&RingState>) -> io::Result<Port> {
        let devices = self.devices.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let (page, remote) = devices.xenbus.ring()?;
        let local = devices.evtchn.bind_interdomain(DomId::DOM0, remote)?;
        let ring = match state {
            Some(state) => Ring::attach_at(page, local, state),
            None => Ring::attach(page, local),
        };
        self.rings.insert(DomId::DOM0, ring);
        Ok(remote)
    }

    /// Takes a domain's ring over from the server before.
    pub fn take_over(
        &mut self,
        domain: DomId,
        frame: Mfn,
        port: Port,
        state: &RingState,
    ) -> io::Result<()> {
        let (page, local) = self.open(domain, frame, port)?;
        let ring = Ring::attach_at(page, local, state);
        self.rings.insert(domain, ring);
        Ok(())
    }

    /// The ring at dom0's end of a channel has something to look at.
    pub fn wake(&mut self, port: Port) {
        for ring in self.rings.values_mut().filter(|ring| ring.port == port) {
            ring.active = !ring.fault;
        }
    }

    /// Lets a domain know that something in its ring changed.
    pub fn notify(&self, domain: DomId) {
        if let (Some(devices), Some(ring)) = (&self.devices, self.rings.get(&domain)) {
            // A domain that is gone needs no event.
            let _ = devices.evtchn.notify(ring.port);
        }
    }

    /// A domain as the hypervisor sees it.
    pub fn living(&self, domain: DomId) -> io::Result<Option<Living>> {
        let devices = self.devices.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        devices.hypervisor.living(domain)
    }
}

impl Host for Rings {
    fn connect(&mut self, domain: DomId, frame: Mfn, port: Port) -> Result<(), Errno> {
        let why = |e: io::Error| {
            tracing::warn!("xenstore ring of domain {domain}, port {port}: {e}");
            match e.raw_os_error() {
                Some(libc::ESRCH) => Errno::ENOENT,
                _ => Errno::EINVAL,
            }
        };
        if let Some(devices) = &self.devices
            && let Some(ring) = self.rings.get_mut(&domain)
        {
            // Closed first: the domain may name the port that is bound.
            let _ = devices.evtchn.unbind(ring.port);
            let bound = devices.evtchn.bind_interdomain(domain, port);
            ring.port = bound.map_err(why)?;
            ring.begin_anew();
            return Ok(());
        }
        let (page, local) = self.open(domain, frame, port).map_err(why)?;
        let mut ring = Ring::attach(page, local);
        ring.begin_anew();
        self.rings.insert(domain, ring);
        Ok(())
    }

    fn disconnect(&mut self, domain: DomId) {
        if let (Some(devices), Some(ring)) = (&self.devices, self.rings.remove(&domain)) {
            // The hypervisor may have closed it already.
            let _ = devices.evtchn.unbind(ring.port);
        }
    }

    fn handle(&mut self, domain: DomId) -> [u8; 16] {
        let living = self.living(domain).ok().flatten();
        living.map(|living| living.handle).unwrap_or_default()
    }
}
