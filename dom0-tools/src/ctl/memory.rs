//! Memory of domains, and what the hypervisor keeps beside it.

use xen_abi::domctl::{XEN_DOMCTL_HYPERCALL_INIT, XenDomctlHypercallInit};
use xen_abi::memory::{
    E820Entry, XENMEM_CLAIM_PAGES, XENMEM_DECREASE_RESERVATION, XENMEM_MACHPHYS_MFN_LIST,
    XENMEM_MAXIMUM_GPFN, XENMEM_POPULATE_PHYSMAP, XENMEM_RESOURCE_GRANT_TABLE,
    XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED, XENMEM_SET_MEMORY_MAP, XenForeignMemoryMap,
    XenMachphysMfnList, XenMemoryDomain, XenMemoryMap, XenMemoryReservation,
};
use zerocopy::FromZeros;

use super::call::{host, on};
use super::{Result, Xen};
use crate::sys::{Access, DomId, Foreign, Mfn, Pfn, Resource, SharedPages};

/// Extents passed in one call.
const EXTENTS_CHUNK: usize = 8192;

/// `struct xen_memory_reservation` of a list.
fn reservation(domain: DomId, list: u64, count: usize, order: u32) -> XenMemoryReservation {
    let mut reservation = XenMemoryReservation::new_zeroed();
    reservation.extent_start = list;
    reservation.nr_extents = count as u64;
    reservation.extent_order = order;
    reservation.domid = domain.0;
    reservation
}

impl Xen {
    /// Gives a domain memory: blocks of 2^`order` frames, each at a PFN. Returns the first frame
    /// of each block, of as many blocks as there was memory for.
    ///
    /// # Errors
    /// `ESRCH`. `ENOMEM` is an error only if there was memory for no block at all.
    pub fn populate(&self, domain: DomId, at: &[Pfn], order: u32) -> Result<Vec<Mfn>> {
        let subject = on("give memory to", domain);
        let mut frames = Vec::with_capacity(at.len());
        for chunk in at.chunks(EXTENTS_CHUNK) {
            let numbers: Vec<u64> = chunk.iter().map(|pfn| pfn.0).collect();
            let first = size_of::<XenMemoryReservation>();
            let mut buffer = self.buffer(subject, first, &[size_of_val(&*numbers)])?;
            let list = buffer.put_all(&numbers);
            let argument = reservation(domain, list.address(), chunk.len(), order);
            let command = XENMEM_POPULATE_PHYSMAP;
            let (done, _) = self.memory_op(subject, command, &mut buffer, &argument)?;
            let done = (done as usize).min(chunk.len());
            frames.extend(buffer.get_all(list)[..done].iter().map(|&mfn| Mfn(mfn)));
            if done < chunk.len() {
                break;
            }
        }
        Ok(frames)
    }

    /// Takes frames from a domain. Returns how many were taken.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn take_memory(&self, domain: DomId, frames: &[Mfn]) -> Result<usize> {
        let subject = on("take memory from", domain);
        let mut taken = 0;
        for chunk in frames.chunks(EXTENTS_CHUNK) {
            let numbers: Vec<u64> = chunk.iter().map(|mfn| mfn.0).collect();
            let first = size_of::<XenMemoryReservation>();
            let mut buffer = self.buffer(subject, first, &[size_of_val(&*numbers)])?;
            let list = buffer.put_all(&numbers);
            let argument = reservation(domain, list.address(), chunk.len(), 0);
            let command = XENMEM_DECREASE_RESERVATION;
            let (done, _) = self.memory_op(subject, command, &mut buffer, &argument)?;
            taken += (done as usize).min(chunk.len());
            if (done as usize) < chunk.len() {
                break;
            }
        }
        Ok(taken)
    }

    /// Promises a domain that many pages in all, so that no other domain gets them first; 0 ends
    /// the promise.
    ///
    /// # Errors
    /// `ENOMEM`: there are not so many.
    pub fn claim(&self, domain: DomId, pages: u64) -> Result<()> {
        let subject = on("claim memory for", domain);
        let mut buffer = self.buffer(subject, size_of::<XenMemoryReservation>(), &[])?;
        let mut argument = reservation(domain, 0, 0, 0);
        argument.nr_extents = pages;
        self.memory_op(subject, XENMEM_CLAIM_PAGES, &mut buffer, &argument)
            .map(drop)
    }

    /// Sets the memory map that a domain is told.
    ///
    /// # Errors
    /// `EINVAL`: too many entries.
    pub fn set_memory_map(&self, domain: DomId, map: &[E820Entry]) -> Result<()> {
        let subject = on("set the memory map of", domain);
        let first = size_of::<XenForeignMemoryMap>();
        let mut buffer = self.buffer(subject, first, &[size_of_val(map)])?;
        let entries = buffer.put_all(map);
        let argument = XenForeignMemoryMap {
            domid: domain.0,
            _pad: [0; 3],
            map: XenMemoryMap {
                nr_entries: u32::try_from(map.len()).unwrap_or(u32::MAX),
                _pad: 0,
                buffer: entries.address(),
            },
        };
        self.memory_op(subject, XENMEM_SET_MEMORY_MAP, &mut buffer, &argument)
            .map(drop)
    }

    /// The largest PFN a domain's kernel says it has.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn max_pfn(&self, domain: DomId) -> Result<Pfn> {
        let subject = on("ask for the memory of", domain);
        let mut buffer = self.buffer(subject, size_of::<XenMemoryDomain>(), &[])?;
        let argument = XenMemoryDomain { domid: domain.0 };
        let command = XENMEM_MAXIMUM_GPFN;
        let (pfn, _) = self.memory_op(subject, command, &mut buffer, &argument)?;
        Ok(Pfn(pfn))
    }

    /// Frames of the machine-to-physical table, one for each 2 MiB of it, at most `most`.
    ///
    /// # Errors
    /// Hardly any.
    pub fn machphys_frames(&self, most: u32) -> Result<Vec<Mfn>> {
        let subject = host("find the machine-to-physical table");
        let first = size_of::<XenMachphysMfnList>();
        let mut buffer = self.buffer(subject, first, &[most as usize * 8])?;
        let list = buffer.put_all(&vec![0_u64; most as usize]);
        let mut argument = XenMachphysMfnList::new_zeroed();
        argument.max_extents = most;
        argument.extent_start = list.address();
        let command = XENMEM_MACHPHYS_MFN_LIST;
        let (_, back) = self.memory_op(subject, command, &mut buffer, &argument)?;
        let found = (back.nr_extents as usize).min(most as usize);
        let frames = buffer.get_all(list);
        Ok(frames[..found].iter().map(|&mfn| Mfn(mfn)).collect())
    }

    /// Fills a page of a domain with hypercall stubs.
    ///
    /// # Errors
    /// `EACCES`: the frame is not the domain's.
    pub fn hypercall_page(&self, domain: DomId, frame: Mfn) -> Result<()> {
        let operation = "fill the hypercall page of";
        let mut call = self.domctl(operation, XEN_DOMCTL_HYPERCALL_INIT, domain, &[])?;
        call.run(&XenDomctlHypercallInit { gmfn: frame.0 })
            .map(drop)
    }

    /// Maps frames of a domain one after another; [`DomId::XEN`] has the hypervisor's tables.
    /// Frames that cannot be mapped are holes.
    ///
    /// # Errors
    /// If nothing can be mapped at all.
    pub fn map(&self, domain: DomId, frames: &[Mfn], access: Access) -> Result<Foreign> {
        self.privcmd
            .map_foreign(domain, frames, access)
            .map_err(|e| on("map memory of", domain).error(e))
    }

    /// Maps frames of a domain one after another, all of them or none.
    ///
    /// # Errors
    /// If one of them cannot be mapped.
    pub fn map_all(&self, domain: DomId, frames: &[Mfn], access: Access) -> Result<SharedPages> {
        self.map(domain, frames, access)?
            .whole()
            .map_err(|e| on("map memory of", domain).error(e))
    }

    /// Maps the first frame of a domain's grant table.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: the hypervisor cannot.
    pub fn map_grant_table(&self, domain: DomId) -> Result<SharedPages> {
        let resource = Resource {
            kind: XENMEM_RESOURCE_GRANT_TABLE,
            id: XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
            first: 0,
            frames: 1,
        };
        self.privcmd
            .map_resource(domain, resource)
            .map_err(|e| on("map the grant table of", domain).error(e))
    }
}
