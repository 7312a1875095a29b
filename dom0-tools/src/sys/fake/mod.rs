//! Stand-ins for dom0's devices and for the hypervisor behind them, for tests on any Linux.
//!
//! A [`Machine`] has memory, domains, event channels and grants. Its devices are those of dom0;
//! its other methods do what guests would do.

mod channels;
pub mod guest;
mod hypervisor;
mod ram;
mod vcpus;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Access, DomId, GntDev, GrantRef, Mfn, Port, SharedPages, XenbusBackend};
use channels::Channels;
pub use channels::FakeEvtchn;
use hypervisor::Hypervisor;
use ram::Ram;

/// Frames of a machine: 256 MiB, of which only those that are written take memory.
const FRAMES: u64 = 65536;
/// The frame of dom0's own xenstore ring.
const XENSTORE_RING: Mfn = Mfn(1);
/// First frame of the machine-to-physical table.
const M2P: Mfn = Mfn(2);
/// Its frames: eight bytes for each of the machine's.
const M2P_FRAMES: u64 = FRAMES * 8 / PAGE_BYTES;
const PAGE_BYTES: u64 = super::PAGE_SIZE as u64;

/// A machine with a hypervisor and dom0. Clones are the same machine.
#[derive(Clone)]
pub struct Machine(Arc<Parts>);

struct Parts {
    ram: Ram,
    state: Mutex<State>,
}

/// What changes.
struct State {
    channels: Channels,
    grants: HashMap<(DomId, GrantRef), Mfn>,
    /// The next frame to hand out.
    free: u64,
    xenstore_port: Port,
    hypervisor: Hypervisor,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine on which only dom0 runs.
    ///
    /// # Panics
    /// If the system gives no memory.
    #[must_use]
    pub fn new() -> Self {
        let mut channels = Channels::default();
        // Dom0's kernel keeps a port for the program that serves xenstore.
        let xenstore_port = channels.keep(DomId::DOM0, DomId::DOM0);
        Self(Arc::new(Parts {
            ram: Ram::new(FRAMES).expect("memory for a fake machine"),
            state: Mutex::new(State {
                channels,
                grants: HashMap::new(),
                free: M2P.0 + M2P_FRAMES,
                xenstore_port,
                hypervisor: Hypervisor::default(),
            }),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that fails while it holds the lock has said why already.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames mapped one after another, as dom0 or a guest sees them.
    ///
    /// # Errors
    /// `EINVAL`: there is no such frame.
    pub fn map(&self, frames: &[Mfn], access: Access) -> io::Result<SharedPages> {
        self.0.ram.map(frames, access)
    }

    /// A domain grants a zeroed page of its own to dom0; returns the domain's view of it.
    ///
    /// # Panics
    /// If the machine has no frame left.
    pub fn grant(&self, domain: DomId, grant: GrantRef) -> SharedPages {
        let mut state = self.state();
        let mfn = Mfn(state.free);
        state.free += 1;
        state.grants.insert((domain, grant), mfn);
        self.map(&[mfn], Access::Write)
            .expect("a frame of the fake machine")
    }

    /// A domain takes a grant back.
    pub fn end_grant(&self, domain: DomId, grant: GrantRef) {
        self.state().grants.remove(&(domain, grant));
    }

    /// A domain, or tools on its behalf, keeps a port for another one.
    pub fn keep_port(&self, domain: DomId, other: DomId) -> Port {
        self.state().channels.keep(domain, other)
    }

    /// A guest sends an event through its port.
    pub fn guest_notifies(&self, domain: DomId, port: Port) {
        self.state().channels.send(domain, port);
    }

    /// How many events came to a guest's port since this was asked last.
    pub fn guest_events(&self, domain: DomId, port: Port) -> usize {
        self.state().channels.take_events(domain, port)
    }

    /// The program that holds dom0's event channels ends: all it has bound is given back.
    pub fn close_evtchn(&self) {
        self.state().channels.close_held();
    }

    /// Ports of a domain.
    #[must_use]
    pub fn ports(&self, domain: DomId) -> usize {
        self.state().channels.count(domain)
    }

    /// A domain's event channels and grants end, as when it dies.
    pub fn end_domain(&self, domain: DomId) {
        let mut state = self.state();
        state.channels.close_all(domain);
        state.grants.retain(|&(d, _), _| d != domain);
    }

    /// The hypervisor raises a virtual interrupt of dom0.
    pub fn raise_virq(&self, virq: u32) {
        self.state().channels.raise(virq);
    }

    /// Dom0's event channels, as one program holds them.
    #[must_use]
    pub fn evtchn(&self) -> FakeEvtchn {
        FakeEvtchn::new(self.clone())
    }
}

impl GntDev for Machine {
    fn map(&self, grants: &[(DomId, GrantRef)], access: Access) -> io::Result<SharedPages> {
        let frames: Option<Vec<Mfn>> = {
            let state = self.state();
            let mfn = |grant| state.grants.get(grant).copied();
            grants.iter().map(mfn).collect()
        };
        let frames = frames.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        self.0.ram.map(&frames, access)
    }

    fn set_max(&self, _: u32) -> io::Result<()> {
        Ok(())
    }
}

impl XenbusBackend for Machine {
    fn ring(&self) -> io::Result<(SharedPages, Port)> {
        let page = self.0.ram.map(&[XENSTORE_RING], Access::Write)?;
        Ok((page, self.state().xenstore_port))
    }
}
