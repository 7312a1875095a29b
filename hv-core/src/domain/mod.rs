//! Domains and their vCPUs: they own the tables of floor 3.
//!
//! Locks: [`registry`] at `Level::Registry`; each table at its own level.

pub mod clock;
pub mod context;
pub mod cpuid;
pub mod create;
pub mod devices;
pub mod grants;
pub mod life;
pub mod notify;
pub mod pages;
pub mod pirq_eoi;
pub mod ports;
pub mod registry;
pub mod rights;
mod roles;
pub mod shutdown;
pub mod teardown;
pub mod usage;
pub mod vcpu;
pub mod virqs;
pub mod wallclock;
pub mod watchdog;

pub use roles::Roles;
pub use vcpu::{Vcpu, VcpuState};

use crate::addr::{DomId, Mfn, VcpuId};
use crate::arch::index;
use crate::event::PortTable;
use crate::fallible::Arc;
use crate::grant::GrantTable;
use crate::mm::shared_page::SharedPage;
use crate::pv_emul::cpuid::Policy;
use crate::pv_emul::io::DomainIo;
use crate::sched::GroupId;
use crate::sync::{Level, Lock, Once};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use life::Life;
use pirq_eoi::PirqEoiMap;

/// The next domain's serial number.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// A domain: what its vCPUs share.
#[derive(Debug)]
pub struct Domain {
    /// Its number.
    pub id: DomId,
    /// What tells it from all others that have or had its number; from 1.
    pub serial: u64,
    /// Whether it owns the hardware and may control other domains (dom0).
    pub privileged: bool,
    /// What it is there for.
    pub roles: Roles,
    /// Its virtual CPUs and their scheduling group, set once.
    vcpus: Once<(GroupId, Box<[Arc<Vcpu>]>)>,
    /// How many vCPUs it is to have.
    pub max_vcpus: u32,
    /// Where it is in its life.
    pub life: Life,
    /// What it sees of CPUID if not what every guest does; set as it first runs.
    cpuid: Once<Option<Box<Policy>>>,
    /// The frame of `shared_info`.
    pub shared_info: Mfn,
    /// View of `shared_info`.
    pub shared: SharedPage,
    /// `vm_assist` bits enabled.
    pub assist: AtomicU64,
    /// I/O ports.
    pub io: DomainIo,
    /// Device memory and interrupts that tools gave it.
    pub devices: devices::Devices,
    /// Which physical interrupts it has to end.
    pub pirq_eoi: PirqEoiMap,
    /// Its UUID, low half first.
    handle: [AtomicU64; 2],
    /// Its event channels.
    pub events: PortTable,
    /// Its grants.
    pub grants: GrantTable,
    /// Memory map its toolstack gave it; empty: none.
    pub memory_map: Lock<Box<[xen_abi::memory::E820Entry]>>,
    /// vCPUs blocked in a poll.
    pub pollers: AtomicU32,
    /// Why it shut down; `u32::MAX`: it did not.
    pub shutdown: AtomicU32,
    /// Absent hypercalls the log has named, a bit a number.
    pub absent_noted: AtomicU64,
    /// Attempts at what it has no right to.
    pub denied: usage::Denied,
    /// Why it will have shut down, whatever the reason then given; `u32::MAX`: not
    /// decided.
    shutdown_code: AtomicU32,
    /// Its port that is told when it has suspended itself; 0: none.
    pub suspend_port: AtomicU32,
    /// Watchdogs.
    pub watchdogs: watchdog::Watchdogs,
}

/// What a domain is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its number.
    pub id: DomId,
    /// What it is there for.
    pub roles: Roles,
    /// A hypervisor frame owned by it.
    pub shared_info: Mfn,
    /// View of that frame.
    pub shared: SharedPage,
    /// An empty table.
    pub events: PortTable,
    /// An empty table.
    pub grants: GrantTable,
    /// How many vCPUs it is to have.
    pub max_vcpus: u32,
    /// Its life so far.
    pub life: Life,
}

impl Domain {
    /// A domain without vCPUs or memory. `shared_info` is a frame owned by it.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let privileged = parts.roles.contains(Roles::HARDWARE | Roles::CONTROL);
        Self {
            id: parts.id,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            privileged,
            roles: parts.roles,
            vcpus: Once::new(),
            max_vcpus: parts.max_vcpus,
            life: parts.life,
            cpuid: Once::new(),
            shared_info: parts.shared_info,
            shared: parts.shared,
            assist: AtomicU64::new(0),
            io: DomainIo::new(privileged),
            devices: devices::Devices::new(),
            pirq_eoi: PirqEoiMap::new(),
            handle: [const { AtomicU64::new(0) }; 2],
            events: parts.events,
            grants: parts.grants,
            memory_map: Lock::new(Level::DomainPages, Box::default()),
            pollers: AtomicU32::new(0),
            absent_noted: AtomicU64::new(0),
            denied: usage::Denied::new(),
            shutdown: AtomicU32::new(u32::MAX),
            shutdown_code: AtomicU32::new(u32::MAX),
            suspend_port: AtomicU32::new(0),
            watchdogs: watchdog::Watchdogs::new(parts.id),
        }
    }

    /// Gives the domain its vCPUs, once.
    pub fn set_vcpus(&self, group: GroupId, vcpus: Box<[Arc<Vcpu>]>) {
        self.vcpus.call_once(|| (group, vcpus));
    }

    /// The scheduling group of its vCPUs, once it has some.
    #[must_use]
    pub fn group(&self) -> Option<GroupId> {
        self.vcpus.get().map(|(group, _)| *group)
    }

    /// All vCPUs, by number.
    #[must_use]
    pub fn vcpus(&self) -> &[Arc<Vcpu>] {
        self.vcpus.get().map_or(&[], |(_, v)| v)
    }

    /// The vCPU numbered `id`.
    #[must_use]
    pub fn vcpu(&self, id: VcpuId) -> Option<&Arc<Vcpu>> {
        index::get(self.vcpus(), id.0 as usize)
    }

    /// Decides the reason of a later shutdown (`SCHEDOP_shutdown_code`); the first
    /// decision stands.
    pub fn set_shutdown_code(&self, code: u8) {
        let _ = self.shutdown_code.compare_exchange(
            u32::MAX,
            code.into(),
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
    }

    /// The reason of a shutdown for which `given` is given.
    #[must_use]
    pub fn shutdown_reason(&self, given: u32) -> u32 {
        match self.shutdown_code.load(Ordering::SeqCst) {
            u32::MAX => given,
            decided => decided,
        }
    }

    /// The UUID tools gave it, or zeros.
    #[must_use]
    pub fn handle(&self) -> [u8; 16] {
        let mut all = [0; 16];
        for (part, word) in all.chunks_exact_mut(8).zip(&self.handle) {
            part.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        all
    }

    /// Sets its UUID.
    pub fn set_handle(&self, handle: [u8; 16]) {
        let value = u128::from_le_bytes(handle);
        self.handle[0].store(value as u64, Ordering::Relaxed);
        self.handle[1].store((value >> 64) as u64, Ordering::Relaxed);
    }

    /// Whether `vm_assist` type `bit` is on.
    #[must_use]
    pub fn assists(&self, bit: u32) -> bool {
        self.assist.load(Ordering::Relaxed) >> bit & 1 != 0
    }

    /// Whether I/O privilege levels are the architecture's: the kernel's is that of ring 0, its
    /// frames show it, and `iret` changes it.
    #[must_use]
    pub fn architectural_iopl(&self) -> bool {
        self.assists(xen_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL)
    }
}

impl Domain {
    /// Masks the events of every vCPU there may be, as a domain starts.
    fn mask_events(&self) {
        for n in 0..xen_abi::xen::XEN_LEGACY_MAX_VCPUS {
            self.shared.u8_at(n * 64 + 1).store(1, Ordering::Relaxed);
        }
    }

    /// Gives `vcpu` its place in the shared-info page (if it has one there) with the
    /// event mask set, as a vCPU starts.
    pub fn place_info(&self, vcpu: &Vcpu) {
        const IN_SHARED_INFO: usize = xen_abi::xen::XEN_LEGACY_MAX_VCPUS;
        let n = usize::from(vcpu.id.0);
        if n < IN_SHARED_INFO && vcpu.info.set(self.shared, n * 64) {
            self.shared.u8_at(n * 64 + 1).store(1, Ordering::Relaxed);
        }
    }
}

/// The page of hypercall stubs: 32 bytes a number.
///
/// `push rcx; push r11; mov $n, %eax; syscall; pop r11; pop rcx; ret`; the stub of
/// `iret` is jumped to and keeps `rax`. Source: Xen's PV interface.
#[must_use]
pub fn hypercall_page() -> [u8; 4096] {
    const IRET: usize = xen_abi::xen::HYPERVISOR_IRET as usize;
    let mut page = [0xcc; 4096];
    for (n, slot) in page.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let [a, b, c, d] = (n as u32).to_le_bytes();
        if n == IRET {
            let code = [0x51, 0x41, 0x53, 0x50, 0xb8, a, b, c, d, 0x0f, 0x05];
            slot[..code.len()].copy_from_slice(&code);
        } else {
            let code = [
                0x51, 0x41, 0x53, 0xb8, a, b, c, d, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3,
            ];
            slot[..code.len()].copy_from_slice(&code);
        }
    }
    page
}
