//! What the server needs of dom0's kernel and of the hypervisor.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::ctl::Xen;
use crate::sys::{
    Access, DomId, Evtchn, GntDev, LinuxEvtchn, LinuxGntDev, LinuxXenbusBackend, Mfn, SharedPages,
    XenbusBackend,
};

/// A domain as the hypervisor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Living {
    /// What tells it from another one that had its number.
    pub handle: [u8; 16],
    /// Its kernel has stopped.
    pub shut_down: bool,
    /// It is being destroyed.
    pub dying: bool,
}

/// What the server asks the hypervisor.
pub trait Hypervisor: Send {
    /// A domain; `None` if there is none.
    ///
    /// # Errors
    /// The hypervisor's.
    fn living(&self, domain: DomId) -> io::Result<Option<Living>>;

    /// Maps a frame of a domain, for a ring that is not granted.
    ///
    /// # Errors
    /// The hypervisor's.
    fn map(&self, domain: DomId, frame: Mfn) -> io::Result<SharedPages>;
}

impl Hypervisor for Xen {
    fn living(&self, domain: DomId) -> io::Result<Option<Living>> {
        match self.domain_info(domain) {
            Ok(info) => Ok(Some(Living {
                handle: info.handle,
                shut_down: info.shutdown.is_some(),
                dying: info.dying,
            })),
            Err(e) if e.is_no_domain() => Ok(None),
            Err(e) => Err(io::Error::other(e)),
        }
    }

    fn map(&self, domain: DomId, frame: Mfn) -> io::Result<SharedPages> {
        let mapped = self.map_all(domain, &[frame], Access::Write);
        mapped.map_err(io::Error::other)
    }
}

/// The ways to rings and events.
pub struct Devices {
    /// Event channels, of this server alone.
    pub evtchn: Arc<dyn Evtchn>,
    /// Granted pages.
    pub gntdev: Arc<dyn GntDev>,
    /// The kernel's own ring.
    pub xenbus: Arc<dyn XenbusBackend>,
    /// Domains.
    pub hypervisor: Box<dyn Hypervisor>,
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Devices")
    }
}

impl Devices {
    /// Those of dom0.
    ///
    /// # Errors
    /// This is no dom0, or not for this user; the text names the device.
    pub fn open() -> io::Result<Self> {
        fn named<T>(name: &str, device: io::Result<T>) -> io::Result<T> {
            device.map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))
        }
        let evtchn = named("/dev/xen/evtchn", LinuxEvtchn::open())?;
        let gntdev = named("/dev/xen/gntdev", LinuxGntDev::open())?;
        let hypervisor = Xen::open().map_err(io::Error::other)?;
        Ok(Self {
            evtchn: Arc::new(evtchn),
            gntdev: Arc::new(gntdev),
            xenbus: Arc::new(LinuxXenbusBackend),
            hypervisor: Box::new(hypervisor),
        })
    }
}
