//! Hypercalls whose allocations fail, each in turn: the call answers that there is no memory,
//! loses nothing, and works the next time. They run as on the machine, on memory of the test's
//! own process.

use super::*;
use crate::addr::{CpuId, DomId, GuestVa};
use crate::arch::FrameMem;
use crate::arch::platform::Platform;
use crate::domain::notify::SCHEDULER;
use crate::domain::teardown::Progress;
use crate::domain::{Roles, create, registry};
use crate::fallible::testing::{each_failure, live_bytes};
use crate::mm::frame_alloc::Request;
use crate::mm::{HostMm, host, pte};
use crate::pv_mm::{Budget, pin, promote};
use std::sync::{Mutex, MutexGuard, PoisonError};
use xen_abi::arch_x86::VcpuGuestContext;
use xen_abi::{domctl, event_channel, grant_table, memory, sysctl, vcpu, xen};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Where the caller's page tables map its pages, one after the other.
const PAGES: GuestVa = GuestVa(0x40_0000);
const MAPPED: u64 = 16;

/// One test at a time: there is one host.
static HOST: Mutex<()> = Mutex::new(());

/// A domain that makes hypercalls.
struct Caller {
    domain: Arc<Domain>,
    /// Kept until the test ends.
    alone: Option<MutexGuard<'static, ()>>,
}

impl Caller {
    /// A new domain with these roles, with a few pages of its own.
    fn new(roles: Roles) -> Self {
        let alone = HOST.lock().unwrap_or_else(PoisonError::into_inner);
        let mm = host::fake(2048);
        crate::irq::init(&Platform::default(), 24);
        crate::time::start_for_tests();
        SCHEDULER.add_cpu(CpuId(0));
        // Made at its first use, which is not to be in the middle of a test.
        let _ = crate::arch::machine::stack_cache();
        // Accounts are made for many domains at once, and kept.
        for id in (0..DomId::FIRST_RESERVED).step_by(64) {
            mm.accounts.open(DomId(id)).unwrap();
        }
        let mut caller = Self::beside(roles);
        caller.alone = Some(alone);
        caller
    }

    /// Another one in the same test.
    fn beside(roles: Roles) -> Self {
        let mm = host::get();
        let domain = create::create(mm, &wanted(roles)).unwrap();
        create::make_vcpus(&domain, 1).unwrap();
        mm.accounts.get(domain.id).unwrap().set_max(256);
        let root = address_space(mm, &domain);
        domain.vcpus()[0].state.try_lock().unwrap().kernel_root = Some(root);
        Self {
            domain,
            alone: None,
        }
    }

    /// Calls hypercall `number`.
    fn call(&self, number: u32, args: &[u64]) -> Result<u64, Error> {
        let vcpu = &self.domain.vcpus()[0];
        let mut state = vcpu.state.try_lock().unwrap();
        let mut regs = GuestRegs::default();
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        loop {
            let mut call = Call {
                domain: &self.domain,
                vcpu,
                state: &mut state,
                regs: &mut regs,
            };
            match invoke(&mut call, number.into(), all)? {
                Reply::Done(value) => return Ok(value),
                Reply::Continue(rest) => all = rest,
            }
        }
    }

    fn frame(&self, page: u64) -> crate::addr::Mfn {
        let mm = host::get();
        let root = self.root();
        let va = PAGES.add(page * 4096);
        let slot = crate::mm::walk::find_l1(&mm.mem, root, va).unwrap();
        pte::frame(mm.mem.words(slot.table)[slot.index].load(core::sync::atomic::Ordering::Relaxed))
    }

    fn root(&self) -> crate::addr::Mfn {
        let state = self.domain.vcpus()[0].state.try_lock().unwrap();
        state.kernel_root.unwrap()
    }

    /// Puts `value` into the caller's page `page`; its address.
    fn put<T: IntoBytes + Immutable + ?Sized>(&self, page: u64, value: &T) -> u64 {
        let at = PAGES.add(page * 4096);
        crate::mm::guest_space(self.root())
            .write_bytes(at, value.as_bytes())
            .unwrap();
        at.0
    }

    /// What is in its page `page`.
    fn get<T: FromBytes + IntoBytes>(&self, page: u64) -> T {
        let at = PAGES.add(page * 4096);
        crate::mm::guest_space(self.root()).read(at).unwrap()
    }

    /// A control call about `domain`.
    fn domctl<T: IntoBytes + Immutable>(
        &self,
        cmd: u32,
        domain: DomId,
        body: &T,
    ) -> Result<u64, Error> {
        let mut op = domctl::XenDomctl::new_zeroed();
        op.cmd = cmd;
        op.interface_version = domctl::XEN_DOMCTL_INTERFACE_VERSION;
        op.domain = domain.0;
        let body = body.as_bytes();
        op.u.as_mut_bytes()[..body.len()].copy_from_slice(body);
        let at = self.put(0, &op);
        self.call(xen::HYPERVISOR_DOMCTL as u32, &[at])
    }

    /// A domain that the caller makes.
    fn make(&self) -> Result<DomId, Error> {
        let mut body = domctl::XenDomctlCreatedomain::new_zeroed();
        body.max_vcpus = 2;
        body.max_evtchn_port = 1023;
        body.max_grant_frames = 4;
        body.max_maptrack_frames = 4;
        self.domctl(domctl::XEN_DOMCTL_CREATEDOMAIN, DomId(0), &body)?;
        Ok(DomId(self.get::<domctl::XenDomctl>(0).domain))
    }

    fn make_vcpus(&self, of: DomId) -> Result<u64, Error> {
        self.domctl(domctl::XEN_DOMCTL_MAX_VCPUS, of, &2_u32)
    }

    fn destroy(&self, domain: DomId) {
        self.domctl(domctl::XEN_DOMCTL_DESTROYDOMAIN, domain, &0_u32)
            .unwrap();
        registry::reap(host::get());
        assert!(registry::get(domain).is_none(), "something refers to it");
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mm = host::get();
        self.domain.begin_death(mm);
        while self.domain.take_apart(mm) == Progress::More {}
    }
}

fn wanted(roles: Roles) -> create::Wanted {
    create::Wanted {
        id: None,
        roles,
        handle: [0; 16],
        vcpus: 1,
        pirqs: 0,
        max_port: 131_071,
        grant_frames: 8,
        maptrack_frames: 8,
    }
}

/// Page tables that map a few pages of the domain's at [`PAGES`]; the root, counted for a vCPU.
fn address_space(mm: &HostMm, domain: &Domain) -> crate::addr::Mfn {
    use core::sync::atomic::Ordering::Relaxed;
    let page = || mm.alloc_for(domain.id, Request::anywhere(0)).unwrap();
    let tables = [page(), page(), page(), page()];
    let flags = pte::P | pte::RW | pte::US;
    for level in 0..3 {
        let index = PAGES.index(4 - level as u32);
        let entry = pte::make(tables[level + 1], flags);
        mm.mem.words(tables[level])[index].store(entry, Relaxed);
    }
    for n in 0..MAPPED {
        let index = PAGES.add(n * 4096).index(1);
        mm.mem.words(tables[3])[index].store(pte::make(page(), flags), Relaxed);
    }
    let rights = domain.rights();
    pin::pin(mm, &rights, tables[0], 4, &Budget::endless()).unwrap();
    promote::acquire_table(mm, &rights, tables[0], 4, &Budget::endless()).unwrap();
    tables[0]
}

/// Runs `f` with each of its allocations failing in turn, twice: what is made once for all is
/// there at the second time, and then nothing may be lost.
fn sweep<R>(name: &str, mut f: impl FnMut() -> Result<R, Error>) {
    let failures = each_failure(&mut f);
    assert!(failures > 0, "{name}: nothing was allocated");
    let before = (live_bytes(), host::get().alloc.free_frames());
    each_failure(&mut f);
    let after = (live_bytes(), host::get().alloc.free_frames());
    assert_eq!(after, before, "{name}: memory is lost");
}

#[test]
fn domains_are_made_or_not_at_all() {
    let dom0 = Caller::new(Roles::DOM0);
    sweep("createdomain", || dom0.make().map(|id| dom0.destroy(id)));
    sweep("max_vcpus", || {
        let id = dom0.make()?;
        let made = dom0.make_vcpus(id);
        if made.is_err() {
            // A failure leaves the domain as it was.
            assert!(registry::get(id).unwrap().vcpus().is_empty());
        }
        dom0.destroy(id);
        made
    });
}

#[test]
fn tools_look_at_domains_and_change_them() {
    let dom0 = Caller::new(Roles::DOM0);
    let of_new = |f: &dyn Fn(DomId) -> Result<u64, Error>| {
        let id = dom0.make()?;
        let done = dom0.make_vcpus(id).and_then(|_| f(id));
        dom0.destroy(id);
        done
    };
    let context = |id| {
        let mut body = domctl::XenDomctlVcpucontext::new_zeroed();
        body.ctxt = PAGES.add(4096).0;
        dom0.put(
            1,
            &*VcpuGuestContext::new_box_zeroed().map_err(|_| Error::NoMemory)?,
        );
        match dom0.domctl(domctl::XEN_DOMCTL_SETVCPUCONTEXT, id, &body) {
            // It names no page tables.
            Err(Error::Invalid) => Ok(0),
            other => other,
        }
    };
    sweep("setvcpucontext", || of_new(&context));
    let states = |id| {
        let mut body = domctl::XenDomctlVcpuextstate::new_zeroed();
        body.buffer = PAGES.add(4096).0;
        body.size = 4096;
        dom0.domctl(domctl::XEN_DOMCTL_GETVCPUEXTSTATE, id, &body)?;
        let size = 16 + crate::arch::machine::fpu_area_size() as u64;
        body.size = size;
        match dom0.domctl(domctl::XEN_DOMCTL_SETVCPUEXTSTATE, id, &body) {
            // This CPU has no states.
            Err(Error::Invalid) => Ok(0),
            other => other,
        }
    };
    sweep("vcpuextstate", || of_new(&states));
    let policy = |id| {
        let mut body = domctl::XenDomctlCpuPolicy::new_zeroed();
        body.leaves = PAGES.add(4096).0;
        body.nr_leaves = 128;
        dom0.domctl(domctl::XEN_DOMCTL_GET_CPU_POLICY, id, &body)?;
        body.nr_leaves = 4;
        dom0.domctl(domctl::XEN_DOMCTL_SET_CPU_POLICY, id, &body)
    };
    sweep("cpu_policy", || of_new(&policy));
    let ports = |id| {
        let mut body = domctl::XenDomctlIoportPermission::new_zeroed();
        body.first_port = 0x300;
        body.nr_ports = 8;
        body.allow_access = 1;
        dom0.domctl(domctl::XEN_DOMCTL_IOPORT_PERMISSION, id, &body)
    };
    sweep("ioport_permission", || of_new(&ports));
    let map = |id: DomId| {
        let mut body = memory::XenForeignMemoryMap::new_zeroed();
        body.domid = id.0;
        body.map.nr_entries = 100;
        body.map.buffer = PAGES.add(4096).0;
        let at = dom0.put(0, &body);
        dom0.call(
            xen::HYPERVISOR_MEMORY_OP as u32,
            &[memory::XENMEM_SET_MEMORY_MAP.into(), at],
        )
    };
    sweep("set_memory_map", || of_new(&map));
}

#[test]
fn a_guest_asks_for_its_memory_map_without_any_memory() {
    let guest = Caller::new(Roles::empty());
    let entries = crate::fallible::boxed_slice(70, |n| memory::E820Entry::new(n as u64, 1, 1));
    *guest.domain.memory_map.lock() = entries.unwrap();
    let mut map = memory::XenMemoryMap::new_zeroed();
    map.nr_entries = 64;
    map.buffer = PAGES.add(4096).0;
    let asked = || {
        let at = guest.put(0, &map);
        let args = [memory::XENMEM_MEMORY_MAP.into(), at];
        guest.call(xen::HYPERVISOR_MEMORY_OP as u32, &args)
    };
    assert_eq!(each_failure(asked), 0, "it allocates");
    assert_eq!(guest.get::<memory::XenMemoryMap>(0).nr_entries, 64);
    let seen: [memory::E820Entry; 64] = guest.get(1);
    assert!((0..64).all(|n| seen[n].addr() == n as u64));
}

#[test]
fn guests_grow_what_is_kept_for_them() {
    let guest = Caller::new(Roles::empty());
    for _ in 0..600 {
        each_failure(|| {
            let op = event_channel::EvtchnAllocUnbound {
                dom: DomId::SELF.0,
                remote_dom: DomId::SELF.0,
                port: 0,
            };
            let at = guest.put(0, &op);
            let args = [event_channel::EVTCHNOP_ALLOC_UNBOUND.into(), at];
            guest.call(xen::HYPERVISOR_EVENT_CHANNEL_OP as u32, &args)
        });
    }
    each_failure(|| {
        let mut op = event_channel::EvtchnInitControl::new_zeroed();
        op.control_gfn = guest.frame(2).raw();
        let at = guest.put(0, &op);
        let args = [event_channel::EVTCHNOP_INIT_CONTROL.into(), at];
        guest.call(xen::HYPERVISOR_EVENT_CHANNEL_OP as u32, &args)
    });
    for frames in 2..=8_u32 {
        each_failure(|| {
            let mut op = grant_table::GnttabSetupTable::new_zeroed();
            op.dom = DomId::SELF.0;
            op.nr_frames = frames;
            op.frame_list = PAGES.add(4096).0;
            let at = guest.put(0, &op);
            let args = [grant_table::GNTTABOP_SETUP_TABLE.into(), at, 1];
            guest.call(xen::HYPERVISOR_GRANT_TABLE_OP as u32, &args)?;
            // Its own status says that there is no memory.
            match guest.get::<grant_table::GnttabSetupTable>(0).status {
                grant_table::GNTST_OKAY => Ok(0),
                _ => Err(Error::NoMemory),
            }
        });
        assert_eq!(guest.domain.grants.size().0, frames);
    }
    each_failure(|| {
        let op = vcpu::VcpuSetPeriodicTimer { period_ns: 1 << 40 };
        let at = guest.put(0, &op);
        let args = [vcpu::VCPUOP_SET_PERIODIC_TIMER.into(), 0, at];
        guest.call(xen::HYPERVISOR_VCPU_OP as u32, &args)
    });
}

#[test]
fn lists_of_domains_need_no_memory() {
    let dom0 = Caller::new(Roles::DOM0);
    let asked = || {
        let mut op = sysctl::XenSysctl::new_zeroed();
        op.cmd = sysctl::XEN_SYSCTL_GETDOMAININFOLIST;
        op.interface_version = sysctl::XEN_SYSCTL_INTERFACE_VERSION;
        let mut body = sysctl::XenSysctlGetdomaininfolist::new_zeroed();
        body.max_domains = 4;
        body.buffer = PAGES.add(4096).0;
        op.u.as_mut_bytes()[..body.as_bytes().len()].copy_from_slice(body.as_bytes());
        let at = dom0.put(0, &op);
        dom0.call(xen::HYPERVISOR_SYSCTL as u32, &[at])
    };
    assert_eq!(each_failure(asked), 0, "it allocates");
}

#[test]
fn a_dying_domain_gets_no_frame_by_exchange() {
    let guest = Caller::new(Roles::empty());
    let mm = host::get();
    let account = mm.accounts.get(guest.domain.id).unwrap();
    let before = (account.total(), mm.alloc.free_frames());
    account.set_dying();
    let got = mm.alloc_in_exchange(guest.domain.id, Request::anywhere(0));
    assert!(got.is_err());
    assert_eq!((account.total(), mm.alloc.free_frames()), before);
}

#[test]
fn who_may_not_ask_about_domains_removes_none() {
    let dom0 = Caller::new(Roles::DOM0);
    let id = dom0.make().unwrap();
    // Dead, and referred to by this test until the guest below asks.
    let dead = registry::get(id).unwrap();
    dom0.domctl(domctl::XEN_DOMCTL_DESTROYDOMAIN, id, &0_u32)
        .unwrap();
    drop(dead);
    let guest = Caller::beside(Roles::empty());
    let asked = guest.domctl(domctl::XEN_DOMCTL_GETDOMAININFO, DomId(1), &[0_u64; 12]);
    assert_eq!(asked, Err(Error::NotPermitted));
    assert!(registry::get(id).is_some(), "it was removed");
    registry::reap(host::get());
    assert!(registry::get(id).is_none());
}

#[test]
fn no_domain_takes_the_reserve() {
    let guest = Caller::new(Roles::empty());
    let mm = host::get();
    mm.accounts.get(guest.domain.id).unwrap().set_max(4096);
    let free = mm.alloc.free_frames();
    mm.set_reserve(free - 10);
    let more = |order| mm.alloc_for(guest.domain.id, Request::anywhere(order));
    assert!(more(4).is_err() && mm.claim(guest.domain.id, 4000).is_err());
    let got: std::vec::Vec<_> = (0..20).map_while(|_| more(0).ok()).collect();
    assert_eq!(got.len(), 10);
    assert!(mm.alloc_shared(guest.domain.id).is_none());
    assert!(
        mm.alloc_in_exchange(guest.domain.id, Request::anywhere(0))
            .is_err()
    );
    assert_eq!(mm.free_for_domains(), 0);
    // The hypervisor itself does.
    let own = mm.alloc_hypervisor(Request::anywhere(3)).unwrap();
    mm.free_hypervisor(own, 3);
    mm.set_reserve(0);
}
