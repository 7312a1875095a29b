//! As much of a hypervisor as building, saving and restoring a domain ask of one.
//!
//! It follows the addresses that calls name, but only into the buffer that a call lends it.

use std::collections::BTreeMap;
use std::io;

use xen_abi::domctl::*;
use xen_abi::event_channel::{EVTCHNOP_ALLOC_UNBOUND, EvtchnAllocUnbound};
use xen_abi::memory::*;
use xen_abi::sysctl::{
    XEN_SYSCTL_GET_CPU_POLICY, XEN_SYSCTL_GETDOMAININFOLIST, XEN_SYSCTL_PHYSINFO, XenSysctl,
    XenSysctlCpuPolicy, XenSysctlGetdomaininfolist, XenSysctlPhysinfo,
};
use xen_abi::version::XENVER_VERSION;
use xen_abi::xen::{
    HYPERVISOR_DOMCTL, HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_MEMORY_OP, HYPERVISOR_MMUEXT_OP,
    HYPERVISOR_SYSCTL, HYPERVISOR_XEN_VERSION, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L4_TABLE, MmuextOp,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::super::{Access, Buffer, DomId, Foreign, Mfn, Privcmd, Resource, SharedPages};
use super::vcpus::Vcpus;
use super::{M2P, M2P_FRAMES, Machine, Ram, State};

/// A domain, as far as it matters here.
#[derive(Debug)]
pub(super) struct Domain {
    handle: [u8; 16],
    vcpus: u32,
    max_pages: u64,
    /// Its memory, and the PFN each frame was asked for at.
    pub frames: BTreeMap<Mfn, u64>,
    pub shared_info: Mfn,
    grant_table: Mfn,
    /// Pinned page tables, and their levels.
    pub tables: BTreeMap<Mfn, u32>,
    pub states: Vcpus,
    /// How often it was paused.
    paused: u32,
    /// Why its kernel stopped.
    pub shutdown: Option<u8>,
}

impl Domain {
    /// The frame at a PFN.
    pub fn frame(&self, pfn: u64) -> Option<Mfn> {
        let found = self.frames.iter().find(|&(_, &at)| at == pfn);
        found.map(|(&mfn, _)| mfn)
    }

    fn info(&self, id: u16) -> XenDomctlGetdomaininfo {
        let mut info = XenDomctlGetdomaininfo::new_zeroed();
        info.domain = id;
        if self.paused > 0 {
            info.flags |= XEN_DOMINF_PAUSED;
        }
        if let Some(reason) = self.shutdown {
            info.flags |= XEN_DOMINF_SHUTDOWN | u32::from(reason) << XEN_DOMINF_SHUTDOWNSHIFT;
        }
        info.handle = self.handle;
        info.tot_pages = self.frames.len() as u64;
        info.max_pages = self.max_pages;
        info.shared_info_frame = self.shared_info.0;
        info.nr_online_vcpus = self.states.online();
        info.max_vcpu_id = self.vcpus.wrapping_sub(1);
        info
    }

    /// One pause more, or one less.
    fn pause(&mut self, more: bool) -> Answer<()> {
        let count = match more {
            true => self.paused.checked_add(1),
            false => self.paused.checked_sub(1),
        };
        self.paused = count.ok_or(libc::EINVAL)?;
        Ok(())
    }
}

/// What the hypervisor knows.
#[derive(Debug, Default)]
pub(super) struct Hypervisor {
    pub domains: BTreeMap<u16, Domain>,
    /// Frames that domains gave back.
    freed: Vec<Mfn>,
    /// Calls until one fails, and how.
    fault: Option<(usize, i32)>,
}

pub(super) type Answer<T> = Result<T, i32>;

impl State {
    fn take_frame(&mut self) -> Answer<Mfn> {
        if let Some(mfn) = self.hypervisor.freed.pop() {
            return Ok(mfn);
        }
        if self.free >= super::FRAMES {
            return Err(libc::ENOMEM);
        }
        self.free += 1;
        Ok(Mfn(self.free - 1))
    }

    fn free_frames(&self) -> u64 {
        super::FRAMES - self.free + self.hypervisor.freed.len() as u64
    }

    pub fn domain(&mut self, id: u16) -> Answer<&mut Domain> {
        self.hypervisor.domains.get_mut(&id).ok_or(libc::ESRCH)
    }

    /// Counts a call; the one that is to fail does.
    fn count(&mut self) -> Answer<()> {
        match &mut self.hypervisor.fault {
            Some((0, errno)) => {
                let errno = *errno;
                self.hypervisor.fault = None;
                Err(errno)
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn create(&mut self, params: &XenDomctlCreatedomain) -> Answer<u16> {
        let id = (1..).find(|id| !self.hypervisor.domains.contains_key(id));
        let id = id.ok_or(libc::ENOSPC)?;
        let domain = Domain {
            handle: params.handle,
            vcpus: params.max_vcpus,
            max_pages: 0,
            frames: BTreeMap::new(),
            shared_info: self.take_frame()?,
            grant_table: self.take_frame()?,
            tables: BTreeMap::new(),
            states: Vcpus::default(),
            paused: 1,
            shutdown: None,
        };
        self.hypervisor.domains.insert(id, domain);
        Ok(id)
    }

    fn destroy(&mut self, id: u16) -> Answer<()> {
        let domain = self.hypervisor.domains.remove(&id).ok_or(libc::ESRCH)?;
        let freed = &mut self.hypervisor.freed;
        freed.extend(domain.frames.into_keys());
        freed.extend([domain.shared_info, domain.grant_table]);
        self.channels.close_all(DomId(id));
        Ok(())
    }

    fn domctl(&mut self, call: &mut XenDomctl, buffer: &mut Buffer) -> Answer<()> {
        if call.interface_version != XEN_DOMCTL_INTERFACE_VERSION {
            return Err(libc::EACCES);
        }
        let id = call.domain;
        match call.cmd {
            XEN_DOMCTL_CREATEDOMAIN => {
                call.domain = self.create(&argument(&call.u))?;
                Ok(())
            }
            XEN_DOMCTL_DESTROYDOMAIN => self.destroy(id),
            XEN_DOMCTL_GETDOMAININFO => {
                let info = self.domain(id)?.info(id);
                answer(&mut call.u, &info);
                Ok(())
            }
            XEN_DOMCTL_SETDOMAINHANDLE => {
                let wanted: XenDomctlSetdomainhandle = argument(&call.u);
                self.domain(id)?.handle = wanted.handle;
                Ok(())
            }
            XEN_DOMCTL_PAUSEDOMAIN => self.domain(id)?.pause(true),
            XEN_DOMCTL_UNPAUSEDOMAIN => self.domain(id)?.pause(false),
            XEN_DOMCTL_RESUMEDOMAIN => {
                let stopped = self.domain(id)?.shutdown.take();
                stopped.map(drop).ok_or(libc::EINVAL)
            }
            XEN_DOMCTL_GETPAGEFRAMEINFO3 => {
                let wanted: XenDomctlGetpageframeinfo3 = argument(&call.u);
                self.frame_types(id, &wanted, buffer)
            }
            XEN_DOMCTL_MAX_VCPUS => {
                let wanted: XenDomctlMaxVcpus = argument(&call.u);
                let right = self.domain(id)?.vcpus == wanted.max;
                right.then_some(()).ok_or(libc::EINVAL)
            }
            XEN_DOMCTL_MAX_MEM => {
                let wanted: XenDomctlMaxMem = argument(&call.u);
                self.domain(id)?.max_pages = wanted.max_memkb / 4;
                Ok(())
            }
            XEN_DOMCTL_HYPERCALL_INIT
            | XEN_DOMCTL_SETTSCINFO
            | XEN_DOMCTL_GETTSCINFO
            | XEN_DOMCTL_SET_CPU_POLICY
            | XEN_DOMCTL_GET_CPU_POLICY => self.domain(id).map(drop),
            command => {
                let domain = self.domain(id)?;
                domain.states.domctl(command, &mut call.u, buffer)
            }
        }
    }

    /// Page tables are what was pinned as such; what a domain does not own is none.
    fn frame_types(
        &mut self,
        id: u16,
        wanted: &XenDomctlGetpageframeinfo3,
        buffer: &mut Buffer,
    ) -> Answer<()> {
        let domain = self.domain(id)?;
        for entry in list(buffer, wanted.array, wanted.num)? {
            let mfn = Mfn(u64::from_le_bytes(*entry));
            let kind = match (domain.frames.contains_key(&mfn), domain.tables.get(&mfn)) {
                (false, _) => XEN_DOMCTL_PFINFO_XTAB,
                (true, None) => XEN_DOMCTL_PFINFO_NOTAB,
                (true, Some(level)) => level << 28 | XEN_DOMCTL_PFINFO_LPINTAB,
            };
            *entry = u64::from(kind).to_le_bytes();
        }
        Ok(())
    }

    fn pin(&mut self, id: u16, operations: u64, count: u64, buffer: &mut Buffer) -> Answer<()> {
        for n in 0..count {
            let op: MmuextOp = read(buffer, operations + n * size_of::<MmuextOp>() as u64)?;
            if !(MMUEXT_PIN_L1_TABLE..=MMUEXT_PIN_L4_TABLE).contains(&op.cmd) {
                return Err(libc::ENOSYS);
            }
            let (mfn, level) = (Mfn(op.arg1), op.cmd - MMUEXT_PIN_L1_TABLE + 1);
            let domain = self.domain(id)?;
            if !domain.frames.contains_key(&mfn) {
                return Err(libc::EINVAL);
            }
            domain.tables.insert(mfn, level);
        }
        Ok(())
    }

    fn populate(
        &mut self,
        call: &XenMemoryReservation,
        buffer: &mut Buffer,
        ram: &Ram,
    ) -> Answer<u64> {
        let block = 1 << call.extent_order;
        for (done, entry) in list(buffer, call.extent_start, call.nr_extents)?
            .iter_mut()
            .enumerate()
        {
            let at = u64::from_le_bytes(*entry);
            let domain = self.domain(call.domid)?;
            // A block is of consecutive frames, so of fresh ones.
            let fresh = call.extent_order != 0;
            if domain.frames.len() as u64 + block > domain.max_pages
                || fresh && self.free + block > super::FRAMES
            {
                return Ok(done as u64);
            }
            let first = if fresh {
                self.free += block;
                Mfn(self.free - block)
            } else {
                match self.take_frame() {
                    Ok(mfn) => mfn,
                    Err(_) => return Ok(done as u64),
                }
            };
            let frames = (0..block).map(|n| (Mfn(first.0 + n), at + n));
            self.domain(call.domid)?.frames.extend(frames);
            let pfns: Vec<u64> = (at..at + block).collect();
            ram.write(M2P.0 * super::PAGE_BYTES + first.0 * 8, pfns.as_bytes());
            *entry = first.0.to_le_bytes();
        }
        Ok(call.nr_extents)
    }

    fn memory_op(&mut self, arguments: [u64; 5], buffer: &mut Buffer, ram: &Ram) -> Answer<u64> {
        match arguments[0] as u32 {
            XENMEM_POPULATE_PHYSMAP => {
                let call = read(buffer, arguments[1])?;
                self.populate(&call, buffer, ram)
            }
            XENMEM_MAXIMUM_RAM_PAGE => Ok(super::FRAMES - 1),
            XENMEM_MACHPHYS_MFN_LIST => {
                let mut call: XenMachphysMfnList = read(buffer, arguments[1])?;
                call.nr_extents = call.max_extents.min(1);
                for entry in list(buffer, call.extent_start, call.nr_extents.into())? {
                    *entry = M2P.0.to_le_bytes();
                }
                write(buffer, arguments[1], &call)
            }
            XENMEM_CLAIM_PAGES => {
                let call: XenMemoryReservation = read(buffer, arguments[1])?;
                self.domain(call.domid)?;
                let fits = call.nr_extents <= self.free_frames();
                fits.then_some(0).ok_or(libc::ENOMEM)
            }
            XENMEM_SET_MEMORY_MAP => {
                let call: XenForeignMemoryMap = read(buffer, arguments[1])?;
                self.domain(call.domid).map(|_| 0)
            }
            _ => Err(libc::ENOSYS),
        }
    }

    fn sysctl(&mut self, call: &mut XenSysctl, buffer: &mut Buffer) -> Answer<()> {
        match call.cmd {
            XEN_SYSCTL_PHYSINFO => {
                let mut info = XenSysctlPhysinfo::new_zeroed();
                info.total_pages = super::FRAMES;
                info.free_pages = self.free_frames();
                answer(&mut call.u, &info);
            }
            // A policy is empty.
            XEN_SYSCTL_GET_CPU_POLICY => answer(&mut call.u, &XenSysctlCpuPolicy::new_zeroed()),
            XEN_SYSCTL_GETDOMAININFOLIST => {
                let mut wanted: XenSysctlGetdomaininfolist = argument(&call.u);
                let domains = self.hypervisor.domains.range(wanted.first_domain..);
                let mut at = wanted.buffer;
                wanted.num_domains = 0;
                for (&id, domain) in domains.take(wanted.max_domains as usize) {
                    write(buffer, at, &domain.info(id))?;
                    at += size_of::<XenDomctlGetdomaininfo>() as u64;
                    wanted.num_domains += 1;
                }
                answer(&mut call.u, &wanted);
            }
            _ => return Err(libc::ENOSYS),
        }
        Ok(())
    }

    fn hypercall(
        &mut self,
        number: u64,
        arguments: [u64; 5],
        buffer: &mut Buffer,
        ram: &Ram,
    ) -> Answer<u64> {
        match number {
            HYPERVISOR_DOMCTL => {
                let mut call: XenDomctl = read(buffer, arguments[0])?;
                self.domctl(&mut call, buffer)?;
                write(buffer, arguments[0], &call)
            }
            HYPERVISOR_SYSCTL => {
                let mut call: XenSysctl = read(buffer, arguments[0])?;
                self.sysctl(&mut call, buffer)?;
                write(buffer, arguments[0], &call)
            }
            HYPERVISOR_MEMORY_OP => self.memory_op(arguments, buffer, ram),
            HYPERVISOR_MMUEXT_OP => {
                let [operations, count, _, domain, _] = arguments;
                self.pin(domain as u16, operations, count, buffer)
                    .map(|()| 0)
            }
            HYPERVISOR_EVENT_CHANNEL_OP if arguments[0] == u64::from(EVTCHNOP_ALLOC_UNBOUND) => {
                let mut call: EvtchnAllocUnbound = read(buffer, arguments[1])?;
                self.domain(call.dom)?;
                let port = self.channels.keep(DomId(call.dom), DomId(call.remote_dom));
                call.port = port.0;
                write(buffer, arguments[1], &call)
            }
            // Its texts are all empty.
            HYPERVISOR_XEN_VERSION if arguments[0] == u64::from(XENVER_VERSION) => Ok(4 << 16 | 17),
            HYPERVISOR_XEN_VERSION => Ok(0),
            _ => Err(libc::ENOSYS),
        }
    }
}

/// A list of numbers.
fn list(buffer: &mut Buffer, address: u64, entries: u64) -> Answer<&mut [[u8; 8]]> {
    let bytes = usize::try_from(entries).ok().and_then(|n| n.checked_mul(8));
    let bytes = buffer.at_mut(address, bytes.ok_or(libc::E2BIG)?);
    Ok(bytes.ok_or(libc::EFAULT)?.as_chunks_mut().0)
}

pub(super) fn read<T: FromBytes>(buffer: &mut Buffer, address: u64) -> Answer<T> {
    let bytes = buffer.at_mut(address, size_of::<T>());
    bytes
        .and_then(|bytes| T::read_from_bytes(bytes).ok())
        .ok_or(libc::EFAULT)
}

pub(super) fn write<T: IntoBytes + Immutable + ?Sized>(
    buffer: &mut Buffer,
    address: u64,
    value: &T,
) -> Answer<u64> {
    let bytes = buffer
        .at_mut(address, size_of_val(value))
        .ok_or(libc::EFAULT)?;
    bytes.copy_from_slice(value.as_bytes());
    Ok(0)
}

/// A command's own struct.
pub(super) fn argument<T: FromBytes>(payload: &[u64; 16]) -> T {
    let (value, _) = T::read_from_prefix(payload.as_bytes()).expect("no struct is larger");
    value
}

pub(super) fn answer<T: IntoBytes + Immutable>(payload: &mut [u64; 16], value: &T) {
    payload.as_mut_bytes()[..size_of::<T>()].copy_from_slice(value.as_bytes());
}

impl Machine {
    /// The call to the hypervisor after `calls` more fails.
    pub fn fail_after(&self, calls: usize, errno: i32) {
        self.state().hypervisor.fault = Some((calls, errno));
    }

    /// Whether a failure that was ordered is still to come; it does not come any more.
    pub fn end_fault(&self) -> bool {
        self.state().hypervisor.fault.take().is_some()
    }

    /// Domains beside dom0.
    #[must_use]
    pub fn domains(&self) -> usize {
        self.state().hypervisor.domains.len()
    }

    /// Frames that nobody has.
    #[must_use]
    pub fn free_frames(&self) -> u64 {
        self.state().free_frames()
    }
}

impl Privcmd for Machine {
    fn buffer(&self, bytes: usize) -> io::Result<Buffer> {
        Buffer::locked(bytes)
    }

    fn hypercall(&self, number: u64, arguments: [u64; 5], buffer: &mut Buffer) -> io::Result<u64> {
        let mut state = self.state();
        let done = state.count();
        let done = done.and_then(|()| state.hypercall(number, arguments, buffer, &self.0.ram));
        done.map_err(io::Error::from_raw_os_error)
    }

    fn map_foreign(&self, domain: DomId, frames: &[Mfn], access: Access) -> io::Result<Foreign> {
        let mut state = self.state();
        let failed = state.count().and_then(|()| {
            if domain == DomId::XEN {
                let table = M2P.0..M2P.0 + M2P_FRAMES;
                return Ok(strangers(frames, |mfn| table.contains(&mfn.0)));
            }
            let domain = state.domain(domain.0)?;
            let owned = |mfn| mfn == domain.shared_info || domain.frames.contains_key(&mfn);
            Ok(strangers(frames, owned))
        });
        let failed = failed.map_err(io::Error::from_raw_os_error)?;
        drop(state);
        let pages = self.0.ram.map(frames, access)?;
        Ok(Foreign { pages, failed })
    }

    fn map_resource(&self, domain: DomId, _: Resource) -> io::Result<SharedPages> {
        let mut state = self.state();
        let table = state
            .count()
            .and_then(|()| Ok(state.domain(domain.0)?.grant_table));
        drop(state);
        let table = table.map_err(io::Error::from_raw_os_error)?;
        self.0.ram.map(&[table], Access::Write)
    }
}

/// The frames that cannot be mapped, as [`Foreign`] has them.
fn strangers(frames: &[Mfn], owned: impl Fn(Mfn) -> bool) -> Vec<(usize, i32)> {
    let failed = frames.iter().enumerate().filter(|&(_, &mfn)| !owned(mfn));
    failed.map(|(index, _)| (index, libc::EINVAL)).collect()
}
