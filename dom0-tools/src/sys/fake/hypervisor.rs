//! As much of a hypervisor as building a domain asks of one.
//!
//! It follows the addresses that calls name, but only into the buffer that a call lends it.

use std::collections::BTreeMap;
use std::io;

use xen_abi::domctl::*;
use xen_abi::event_channel::{EVTCHNOP_ALLOC_UNBOUND, EvtchnAllocUnbound};
use xen_abi::memory::*;
use xen_abi::sysctl::{XEN_SYSCTL_PHYSINFO, XenSysctl, XenSysctlPhysinfo};
use xen_abi::xen::{
    HYPERVISOR_DOMCTL, HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_MEMORY_OP, HYPERVISOR_MMUEXT_OP,
    HYPERVISOR_SYSCTL,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::super::{Access, Buffer, DomId, Foreign, Mfn, Privcmd, Resource, SharedPages};
use super::{Machine, State};

/// A domain, as far as it matters here.
#[derive(Debug)]
struct Domain {
    handle: [u8; 16],
    vcpus: u32,
    max_pages: u64,
    frames: Vec<Mfn>,
    shared_info: Mfn,
    grant_table: Mfn,
    has_context: bool,
}

/// What the hypervisor knows.
#[derive(Debug, Default)]
pub(super) struct Hypervisor {
    domains: BTreeMap<u16, Domain>,
    /// Frames that domains gave back.
    freed: Vec<Mfn>,
    /// Calls until one fails, and how.
    fault: Option<(usize, i32)>,
}

type Answer<T> = Result<T, i32>;

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

    fn domain(&mut self, id: u16) -> Answer<&mut Domain> {
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
            frames: Vec::new(),
            shared_info: self.take_frame()?,
            grant_table: self.take_frame()?,
            has_context: false,
        };
        self.hypervisor.domains.insert(id, domain);
        Ok(id)
    }

    fn destroy(&mut self, id: u16) -> Answer<()> {
        let domain = self.hypervisor.domains.remove(&id).ok_or(libc::ESRCH)?;
        let freed = &mut self.hypervisor.freed;
        freed.extend(domain.frames);
        freed.extend([domain.shared_info, domain.grant_table]);
        self.channels.close_all(DomId(id));
        Ok(())
    }

    fn info(&mut self, id: u16) -> Answer<XenDomctlGetdomaininfo> {
        let domain = self.domain(id)?;
        let mut info = XenDomctlGetdomaininfo::new_zeroed();
        info.domain = id;
        info.flags = XEN_DOMINF_PAUSED;
        info.handle = domain.handle;
        info.tot_pages = domain.frames.len() as u64;
        info.max_pages = domain.max_pages;
        info.shared_info_frame = domain.shared_info.0;
        info.nr_online_vcpus = u32::from(domain.has_context);
        info.max_vcpu_id = domain.vcpus.wrapping_sub(1);
        Ok(info)
    }

    fn domctl(&mut self, call: &mut XenDomctl) -> Answer<()> {
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
                let info = self.info(id)?;
                answer(&mut call.u, &info);
                Ok(())
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
            XEN_DOMCTL_SETVCPUCONTEXT => {
                self.domain(id)?.has_context = true;
                Ok(())
            }
            XEN_DOMCTL_HYPERCALL_INIT
            | XEN_DOMCTL_UNPAUSEDOMAIN
            | XEN_DOMCTL_SETTSCINFO
            | XEN_DOMCTL_SET_CPU_POLICY
            | XEN_DOMCTL_SET_EXT_VCPUCONTEXT
            | XEN_DOMCTL_SETVCPUEXTSTATE
            | XEN_DOMCTL_SET_VCPU_MSRS => self.domain(id).map(drop),
            _ => Err(libc::ENOSYS),
        }
    }

    fn populate(&mut self, call: &XenMemoryReservation, buffer: &mut Buffer) -> Answer<u64> {
        let bytes = usize::try_from(call.nr_extents).map_err(|_| libc::E2BIG)? * 8;
        let list = buffer
            .at_mut(call.extent_start, bytes)
            .ok_or(libc::EFAULT)?;
        for (done, entry) in list.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let domain = self.domain(call.domid)?;
            let pages = domain.frames.len() as u64 + (1 << call.extent_order);
            // A block is of consecutive frames, so of fresh ones.
            let fresh = call.extent_order != 0;
            if pages > domain.max_pages
                || fresh && self.free + (1 << call.extent_order) > super::FRAMES
            {
                return Ok(done as u64);
            }
            let mut first = None;
            for _ in 0..1 << call.extent_order {
                let mfn = if fresh {
                    self.free += 1;
                    Mfn(self.free - 1)
                } else {
                    match self.take_frame() {
                        Ok(mfn) => mfn,
                        Err(_) => return Ok(done as u64),
                    }
                };
                first.get_or_insert(mfn);
                self.domain(call.domid)?.frames.push(mfn);
            }
            *entry = first.unwrap_or_default().0.to_le_bytes();
        }
        Ok(call.nr_extents)
    }

    fn memory_op(&mut self, arguments: [u64; 5], buffer: &mut Buffer) -> Answer<u64> {
        match arguments[0] as u32 {
            XENMEM_POPULATE_PHYSMAP => {
                let call = read(buffer, arguments[1])?;
                self.populate(&call, buffer)
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

    fn hypercall(&mut self, number: u64, arguments: [u64; 5], buffer: &mut Buffer) -> Answer<u64> {
        match number {
            HYPERVISOR_DOMCTL => {
                let mut call: XenDomctl = read(buffer, arguments[0])?;
                self.domctl(&mut call)?;
                write(buffer, arguments[0], &call)
            }
            HYPERVISOR_SYSCTL => {
                let mut call: XenSysctl = read(buffer, arguments[0])?;
                if call.cmd != XEN_SYSCTL_PHYSINFO {
                    return Err(libc::ENOSYS);
                }
                let mut info = XenSysctlPhysinfo::new_zeroed();
                info.total_pages = super::FRAMES;
                info.free_pages = self.free_frames();
                answer(&mut call.u, &info);
                write(buffer, arguments[0], &call)
            }
            HYPERVISOR_MEMORY_OP => self.memory_op(arguments, buffer),
            HYPERVISOR_MMUEXT_OP => self.domain(arguments[3] as u16).map(|_| 0),
            HYPERVISOR_EVENT_CHANNEL_OP if arguments[0] == u64::from(EVTCHNOP_ALLOC_UNBOUND) => {
                let mut call: EvtchnAllocUnbound = read(buffer, arguments[1])?;
                self.domain(call.dom)?;
                let port = self.channels.keep(DomId(call.dom), DomId(call.remote_dom));
                call.port = port.0;
                write(buffer, arguments[1], &call)
            }
            _ => Err(libc::ENOSYS),
        }
    }
}

fn read<T: FromBytes>(buffer: &mut Buffer, address: u64) -> Answer<T> {
    let bytes = buffer.at_mut(address, size_of::<T>());
    bytes
        .and_then(|bytes| T::read_from_bytes(bytes).ok())
        .ok_or(libc::EFAULT)
}

fn write<T: IntoBytes + Immutable>(buffer: &mut Buffer, address: u64, value: &T) -> Answer<u64> {
    let bytes = buffer.at_mut(address, size_of::<T>()).ok_or(libc::EFAULT)?;
    bytes.copy_from_slice(value.as_bytes());
    Ok(0)
}

/// A command's own struct.
fn argument<T: FromBytes>(payload: &[u64; 16]) -> T {
    let (value, _) = T::read_from_prefix(payload.as_bytes()).expect("no struct is larger");
    value
}

fn answer<T: IntoBytes + Immutable>(payload: &mut [u64; 16], value: &T) {
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
        let done = done.and_then(|()| state.hypercall(number, arguments, buffer));
        done.map_err(io::Error::from_raw_os_error)
    }

    fn map_foreign(&self, domain: DomId, frames: &[Mfn], access: Access) -> io::Result<Foreign> {
        let mut state = self.state();
        let owns = state.count().and_then(|()| {
            let domain = state.domain(domain.0)?;
            let owned = |mfn: &Mfn| *mfn == domain.shared_info || domain.frames.contains(mfn);
            Ok(frames.iter().take(4).all(owned))
        });
        let owns = owns.map_err(io::Error::from_raw_os_error)?;
        drop(state);
        Ok(Foreign {
            pages: self.0.ram.map(frames, access)?,
            failed: if owns {
                Vec::new()
            } else {
                vec![(0, libc::EINVAL)]
            },
        })
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
