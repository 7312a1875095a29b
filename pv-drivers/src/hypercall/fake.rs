//! A host with several domains, for tests: event channels, grant tables and mapped pages, as Xen
//! treats them. Sleeping is a condition variable.
#![allow(unsafe_code, reason = "tests' memory becomes pages")]

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use xen_abi::errno::{EINVAL, ENOENT, ENOSPC, ESRCH};
use xen_abi::grant_table::{
    GNTST_BAD_COPY_ARG, GNTST_BAD_DOMAIN, GNTST_BAD_GNTREF, GNTST_BAD_HANDLE,
    GNTST_PERMISSION_DENIED, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_TYPE_MASK,
    GTF_WRITING,
};

use super::{
    Access, CopySide, DomId, Errno, GrantError, GrantHandle, GrantRef, Hypervisor, Port,
    PortStatus, RawPage, Share, SharedFrame, Slot,
};
use crate::event::Bits;
use crate::grant::{ENTRIES_PER_FRAME, Entry, TableSource};
use crate::ring::Page;

/// Ports a domain may have.
const MOST_PORTS: usize = 64;
/// Frames of a grant table.
const TABLE_FRAMES: usize = 2;
/// A test sleeps no longer for an event that nobody sends.
const PATIENCE: Duration = Duration::from_secs(60);

/// The host.
#[derive(Clone, Default)]
pub struct Host(Arc<World>);

#[derive(Default)]
struct World {
    state: Mutex<State>,
    rang: Condvar,
}

#[derive(Default)]
struct State {
    domains: BTreeMap<DomId, DomainState>,
    frames: Vec<RawPage>,
    mappings: BTreeMap<u32, (DomId, GrantRef, Access)>,
    next_handle: u32,
}

struct DomainState {
    bits: Bits,
    pending: &'static [AtomicU64; 64],
    ports: [PortState; MOST_PORTS],
    /// How often it was restored.
    incarnation: u32,
    table: &'static [[Entry; ENTRIES_PER_FRAME]; TABLE_FRAMES],
}

#[derive(Clone, Copy, PartialEq)]
enum PortState {
    Closed,
    Unbound(DomId),
    Bound(DomId, Port),
    Own,
}

fn words() -> &'static [AtomicU64; 64] {
    Box::leak(Box::new(std::array::from_fn(|_| AtomicU64::new(0))))
}

impl Host {
    /// The hypervisor as a domain sees it, which is made if there is none of this number.
    pub fn domain(&self, number: u16) -> Domain {
        let id = DomId(number);
        let (pending, mask) = (words(), words());
        let mut state = self.state();
        let domain = state.domains.entry(id).or_insert_with(|| DomainState {
            bits: Bits::new(pending, mask),
            pending,
            ports: [PortState::Closed; MOST_PORTS],
            incarnation: 0,
            table: Box::leak(Box::new(std::array::from_fn(|_| {
                std::array::from_fn(|_| Entry::default())
            }))),
        });
        let (bits, table) = (domain.bits, domain.table);
        Domain {
            host: self.clone(),
            id,
            bits,
            table,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

impl State {
    fn port(&mut self, id: DomId, port: Port) -> Result<&mut PortState, Errno> {
        let domain = self.domains.get_mut(&id).ok_or(Errno(ESRCH))?;
        let slot = domain.ports.get_mut(port.0 as usize).ok_or(Errno(EINVAL))?;
        if port.0 == 0 || *slot == PortState::Closed {
            return Err(Errno(EINVAL));
        }
        Ok(slot)
    }

    fn open(&mut self, id: DomId, as_: PortState) -> Result<Port, Errno> {
        let domain = self.domains.get_mut(&id).ok_or(Errno(ESRCH))?;
        let free = (1..MOST_PORTS).find(|&n| domain.ports[n] == PortState::Closed);
        let port = free.ok_or(Errno(ENOSPC))?;
        domain.ports[port] = as_;
        Ok(Port(port as u32))
    }

    fn raise(&self, id: DomId, port: Port) {
        if let Some(domain) = self.domains.get(&id) {
            let word = &domain.pending[port.0 as usize / 64];
            word.fetch_or(1 << (port.0 % 64), Ordering::SeqCst);
        }
    }

    /// A valid grant to `to`: its entry and its page.
    fn granted(
        &self,
        from: DomId,
        reference: GrantRef,
        to: DomId,
        access: Access,
    ) -> Result<(&'static Entry, RawPage), GrantError> {
        let domain = self.domains.get(&from);
        let domain = domain.ok_or(GrantError::Status(GNTST_BAD_DOMAIN))?;
        let index = reference.0 as usize;
        let entry = domain
            .table
            .get(index / ENTRIES_PER_FRAME)
            .map(|frame| &frame[index % ENTRIES_PER_FRAME])
            .ok_or(GrantError::Status(GNTST_BAD_GNTREF))?;
        let (flags, domain, frame) = entry.get();
        if flags & GTF_TYPE_MASK != GTF_PERMIT_ACCESS || domain != to {
            return Err(GrantError::Status(GNTST_BAD_GNTREF));
        }
        if access == Access::Write && flags & GTF_READONLY != 0 {
            return Err(GrantError::Status(GNTST_PERMISSION_DENIED));
        }
        Ok((entry, self.frames[frame as usize]))
    }
}

/// The hypervisor as one domain sees it.
#[derive(Clone)]
pub struct Domain {
    host: Host,
    id: DomId,
    bits: Bits,
    table: &'static [[Entry; ENTRIES_PER_FRAME]; TABLE_FRAMES],
}

impl std::fmt::Debug for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "domain {}", self.id)
    }
}

#[repr(C, align(4096))]
struct Memory([u8; 4096]);

/// Memory of a domain.
#[derive(Debug)]
pub struct Frame {
    page: RawPage,
    number: u64,
    /// How many pages of the test are alive.
    alive: Arc<AtomicU64>,
}

impl Frame {
    /// The memory, which outlives this.
    pub fn raw(&self) -> RawPage {
        self.page
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Share for Frame {
    fn frame(&self) -> SharedFrame {
        // SAFETY: a frame of the fake host, reached as `RawPage` only.
        unsafe { SharedFrame::new(self.number) }
    }
}

impl Page for Frame {
    fn read(&self, offset: usize, into: &mut [u8]) {
        self.page.read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.page.write(offset, from);
    }

    fn load(&self, offset: usize) -> u32 {
        self.page.load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.page.store(offset, value);
    }
}

impl Domain {
    /// It is saved and restored: its ports and its grants are no more.
    pub fn restore(&self) {
        let mut state = self.host.state();
        let domain = state.domains.get_mut(&self.id).unwrap();
        domain.incarnation += 1;
        domain.ports = [PortState::Closed; MOST_PORTS];
        for word in domain.pending {
            word.store(0, Ordering::SeqCst);
        }
        for entry in self.table.iter().flatten() {
            entry.change(0, u16::MAX);
        }
    }

    /// Its event bits.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// An entry of its grant table.
    pub fn entry(&self, reference: GrantRef) -> &'static Entry {
        let index = reference.0 as usize;
        &self.table[index / ENTRIES_PER_FRAME][index % ENTRIES_PER_FRAME]
    }

    /// A page of zeros, counted in `alive` until it is dropped.
    pub fn page(&self, alive: &Arc<AtomicU64>) -> Frame {
        let memory = Box::leak(Box::new(Memory([0; 4096])));
        // SAFETY: leaked, so mapped for ever, and reached by this page alone.
        let page = unsafe { RawPage::new(NonNull::from(&mut memory.0).cast()) };
        let mut state = self.host.state();
        state.frames.push(page);
        alive.fetch_add(1, Ordering::SeqCst);
        Frame {
            page,
            number: state.frames.len() as u64 - 1,
            alive: alive.clone(),
        }
    }

    /// A slot; the fake maps nothing there.
    pub fn slot(&self, number: u64) -> Slot {
        // SAFETY: never dereferenced.
        unsafe { Slot::new(number << 12) }
    }
}

impl TableSource for Domain {
    fn frame(&self, index: usize) -> Option<&'static [Entry; ENTRIES_PER_FRAME]> {
        self.table.get(index)
    }
}

impl Hypervisor for Domain {
    fn incarnation(&self) -> u32 {
        self.host.state().domains[&self.id].incarnation
    }

    fn alloc_unbound(&self, remote: DomId) -> Result<Port, Errno> {
        self.host.state().open(self.id, PortState::Unbound(remote))
    }

    fn bind_interdomain(&self, remote: DomId, port: Port) -> Result<Port, Errno> {
        let mut state = self.host.state();
        if *state.port(remote, port)? != PortState::Unbound(self.id) {
            return Err(Errno(EINVAL));
        }
        let own = state.open(self.id, PortState::Bound(remote, port))?;
        *state.port(remote, port)? = PortState::Bound(self.id, own);
        // Xen notifies who binds, in case it missed something.
        state.raise(self.id, own);
        Ok(own)
    }

    fn bind_virq(&self, _: u32, vcpu: u32) -> Result<Port, Errno> {
        self.bind_ipi(vcpu)
    }

    fn bind_ipi(&self, vcpu: u32) -> Result<Port, Errno> {
        if vcpu != 0 {
            return Err(Errno(ENOENT));
        }
        self.host.state().open(self.id, PortState::Own)
    }

    fn bind_vcpu(&self, port: Port, vcpu: u32) -> Result<(), Errno> {
        self.host.state().port(self.id, port)?;
        if vcpu == 0 {
            Ok(())
        } else {
            Err(Errno(ENOENT))
        }
    }

    fn close(&self, port: Port) -> Result<(), Errno> {
        let mut state = self.host.state();
        let slot = state.port(self.id, port)?;
        let was = std::mem::replace(slot, PortState::Closed);
        if let PortState::Bound(peer, remote) = was
            && let Ok(other) = state.port(peer, remote)
        {
            *other = PortState::Unbound(self.id);
        }
        // As Xen and Oxen do, before anybody can open the number again.
        let _ = self.bits.take(port);
        Ok(())
    }

    fn send(&self, port: Port) -> Result<(), Errno> {
        let mut state = self.host.state();
        match *state.port(self.id, port)? {
            PortState::Bound(peer, remote) => state.raise(peer, remote),
            PortState::Own => state.raise(self.id, port),
            PortState::Unbound(_) | PortState::Closed => {}
        }
        drop(state);
        self.host.0.rang.notify_all();
        Ok(())
    }

    fn status(&self, port: Port) -> Result<PortStatus, Errno> {
        Ok(match *self.host.state().port(self.id, port)? {
            PortState::Unbound(_) => PortStatus(1),
            PortState::Bound(..) => PortStatus(2),
            PortState::Own => PortStatus(5),
            PortState::Closed => PortStatus(0),
        })
    }

    fn yield_now(&self) {
        std::thread::yield_now();
    }

    fn poll(&self, ports: &[Port], deadline: Option<u64>) -> Result<(), Errno> {
        let mut state = self.host.state();
        for &port in ports {
            state.port(self.id, port)?;
        }
        while deadline.is_none() && !ports.iter().any(|&port| self.bits.is_pending(port)) {
            let waited = self.host.0.rang.wait_timeout(state, PATIENCE).unwrap();
            assert!(!waited.1.timed_out(), "nobody sends an event");
            state = waited.0;
        }
        Ok(())
    }

    fn map_grant(
        &self,
        _: &Slot,
        domain: DomId,
        reference: GrantRef,
        access: Access,
    ) -> Result<(GrantHandle, RawPage), GrantError> {
        let mut state = self.host.state();
        let (entry, page) = state.granted(domain, reference, self.id, access)?;
        entry.change(
            match access {
                Access::Read => GTF_READING,
                Access::Write => GTF_READING | GTF_WRITING,
            },
            0,
        );
        state.next_handle += 1;
        let handle = state.next_handle;
        state.mappings.insert(handle, (domain, reference, access));
        Ok((GrantHandle(handle), page))
    }

    fn unmap_grant(&self, _: &Slot, handle: GrantHandle) -> Result<(), GrantError> {
        let mut state = self.host.state();
        let (domain, reference, _) = state
            .mappings
            .remove(&handle.0)
            .ok_or(GrantError::Status(GNTST_BAD_HANDLE))?;
        let others = |access: Access| {
            let mapping = (domain, reference, access);
            state.mappings.values().any(|other| *other == mapping)
        };
        let mut clear = 0;
        if !others(Access::Write) {
            clear |= GTF_WRITING;
            if !others(Access::Read) {
                clear |= GTF_READING;
            }
        }
        let table = state.domains[&domain].table;
        let index = reference.0 as usize;
        table[index / ENTRIES_PER_FRAME][index % ENTRIES_PER_FRAME].change(0, clear);
        Ok(())
    }

    fn copy_grant(&self, from: CopySide, to: CopySide, bytes: u16) -> Result<(), GrantError> {
        let state = self.host.state();
        let side = |side: CopySide, access: Access| match side {
            CopySide::Granted {
                domain,
                reference,
                offset,
            } => {
                let (_, page) = state.granted(domain, reference, self.id, access)?;
                Ok::<_, GrantError>((page, usize::from(offset)))
            }
            CopySide::Own { frame, offset } => {
                Ok((state.frames[frame.number() as usize], usize::from(offset)))
            }
        };
        let (from, from_offset) = side(from, Access::Read)?;
        let (to, to_offset) = side(to, Access::Write)?;
        let bytes = usize::from(bytes);
        if from_offset + bytes > 4096 || to_offset + bytes > 4096 {
            return Err(GrantError::Status(GNTST_BAD_COPY_ARG));
        }
        let mut buffer = vec![0; bytes];
        from.read(from_offset, &mut buffer);
        to.write(to_offset, &buffer);
        Ok(())
    }
}
