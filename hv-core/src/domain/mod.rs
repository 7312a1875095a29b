//! Domains and their vCPUs: they own the tables of floor 3.
//!
//! Locks: [`registry`] at `Level::Registry`; each table at its own level.

pub mod pages;
pub mod registry;
pub mod vcpu;

pub use vcpu::{Vcpu, VcpuState};

use crate::addr::{DomId, Mfn, VcpuId};
use crate::mm::shared_page::SharedPage;
use crate::pv_emul::io::DomainIo;
use crate::sync::Once;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// A domain: what its vCPUs share.
#[derive(Debug)]
pub struct Domain {
    /// Its number.
    pub id: DomId,
    /// Whether it owns the hardware and may control other domains (dom0).
    pub privileged: bool,
    /// Its virtual CPUs, set once at creation.
    vcpus: Once<Box<[Arc<Vcpu>]>>,
    /// The frame of `shared_info`.
    pub shared_info: Mfn,
    /// View of `shared_info`.
    pub shared: SharedPage,
    /// `vm_assist` bits enabled.
    pub assist: AtomicU64,
    /// I/O ports.
    pub io: DomainIo,
}

impl Domain {
    /// A domain without vCPUs or memory. `shared_info` is a frame owned by it.
    #[must_use]
    pub fn new(id: DomId, privileged: bool, shared_info: Mfn, shared: SharedPage) -> Self {
        Self {
            id,
            privileged,
            vcpus: Once::new(),
            shared_info,
            shared,
            assist: AtomicU64::new(0),
            io: DomainIo::new(privileged),
        }
    }

    /// Gives the domain its vCPUs, once.
    pub fn set_vcpus(&self, vcpus: Box<[Arc<Vcpu>]>) {
        self.vcpus.call_once(|| vcpus);
    }

    /// All vCPUs, by number.
    #[must_use]
    pub fn vcpus(&self) -> &[Arc<Vcpu>] {
        self.vcpus.get().map_or(&[], |v| v)
    }

    /// The vCPU numbered `id`.
    #[must_use]
    pub fn vcpu(&self, id: VcpuId) -> Option<&Arc<Vcpu>> {
        self.vcpus().get(id.0 as usize)
    }

    /// Whether `vm_assist` type `bit` is on.
    #[must_use]
    pub fn assists(&self, bit: u32) -> bool {
        self.assist.load(Ordering::Relaxed) >> bit & 1 != 0
    }
}
