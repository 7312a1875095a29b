//! The hypervisor below this kernel, by the `syscall` instruction.
#![allow(unsafe_code, reason = "the hypercall instruction")]

use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use xen_abi::event_channel::{
    EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VCPU,
    EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_SEND, EVTCHNOP_STATUS, EvtchnAllocUnbound,
    EvtchnBindInterdomain, EvtchnBindIpi, EvtchnBindVcpu, EvtchnBindVirq, EvtchnClose, EvtchnSend,
    EvtchnStatus,
};
use xen_abi::grant_table::{
    GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTTABOP_COPY,
    GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GnttabCopy, GnttabCopyPtr, GnttabMapGrantRef,
    GnttabUnmapGrantRef,
};
use xen_abi::sched::{SCHEDOP_POLL, SCHEDOP_YIELD, SchedPoll};
use xen_abi::version::XENVER_VERSION;
use xen_abi::xen::{
    HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_GRANT_TABLE_OP, HYPERVISOR_SCHED_OP,
    HYPERVISOR_XEN_VERSION,
};

use crate::runtime::clock;

use super::{
    Access, CopySide, DomId, Errno, GrantError, GrantHandle, GrantRef, Hypervisor, Port,
    PortStatus, RawPage, Slot,
};

/// Issues a hypercall.
///
/// # Safety
/// What the hypervisor does with these arguments must leave Rust's memory sound: it writes only
/// through pointers whose memory the caller owns, and changes no mapping that is in use.
pub unsafe fn raw(number: u64, arguments: [u64; 5]) -> i64 {
    let result;
    let [rdi, rsi, rdx, r10, r8] = arguments;
    // SAFETY: the hypervisor preserves the other registers; for what it does to memory the caller
    // answers.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            inlateout("rdi") rdi => _,
            inlateout("rsi") rsi => _,
            inlateout("rdx") rdx => _,
            inlateout("r10") r10 => _,
            inlateout("r8") r8 => _,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// A command with one struct, which the hypervisor may write.
///
/// # Safety
/// As for [`raw`], of what the struct itself points to or asks for.
unsafe fn with<T>(number: u64, command: u32, argument: &mut T) -> Result<u64, Errno> {
    let pointer = &raw mut *argument as u64;
    // SAFETY: the pointer is to a struct of the caller's; the rest is the caller's duty.
    Errno::check(unsafe { raw(number, [u64::from(command), pointer, 0, 0, 0]) })
}

fn event<T>(command: u32, argument: &mut T) -> Result<u64, Errno> {
    // SAFETY: no event channel operation of this file writes memory beyond its struct and the
    // shared event bits, which are atomics.
    unsafe { with(HYPERVISOR_EVENT_CHANNEL_OP, command, argument) }
}

/// One grant operation.
///
/// # Safety
/// As for [`raw`], of what the struct asks for.
unsafe fn grant<T>(command: u32, argument: &mut T) -> Result<(), Errno> {
    let pointer = &raw mut *argument as u64;
    let arguments = [u64::from(command), pointer, 1, 0, 0];
    // SAFETY: the caller's duty.
    Errno::check(unsafe { raw(HYPERVISOR_GRANT_TABLE_OP, arguments) }).map(drop)
}

/// The hypervisor's version: major in the upper half, minor in the lower. The least that a hypercall
/// can do.
#[must_use]
pub fn version() -> u32 {
    let command = u64::from(XENVER_VERSION);
    // SAFETY: reads and writes no memory.
    unsafe { raw(HYPERVISOR_XEN_VERSION, [command, 0, 0, 0, 0]) as u32 }
}

/// How often this guest was restored.
static INCARNATION: AtomicU32 = AtomicU32::new(0);

/// The hypervisor below this kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Native {
    /// The guest is another domain from now on.
    pub(crate) fn restored() {
        INCARNATION.fetch_add(1, Ordering::SeqCst);
    }
}

impl Hypervisor for Native {
    fn incarnation(&self) -> u32 {
        INCARNATION.load(Ordering::SeqCst)
    }

    fn alloc_unbound(&self, remote: DomId) -> Result<Port, Errno> {
        let mut op = EvtchnAllocUnbound {
            dom: DomId::SELF.0,
            remote_dom: remote.0,
            port: 0,
        };
        event(EVTCHNOP_ALLOC_UNBOUND, &mut op).map(|_| Port(op.port))
    }

    fn bind_interdomain(&self, remote: DomId, port: Port) -> Result<Port, Errno> {
        let mut op = EvtchnBindInterdomain {
            remote_dom: remote.0,
            _pad: 0,
            remote_port: port.0,
            local_port: 0,
        };
        event(EVTCHNOP_BIND_INTERDOMAIN, &mut op).map(|_| Port(op.local_port))
    }

    fn bind_virq(&self, virq: u32, vcpu: u32) -> Result<Port, Errno> {
        let mut op = EvtchnBindVirq {
            virq,
            vcpu,
            port: 0,
        };
        event(EVTCHNOP_BIND_VIRQ, &mut op).map(|_| Port(op.port))
    }

    fn bind_ipi(&self, vcpu: u32) -> Result<Port, Errno> {
        let mut op = EvtchnBindIpi { vcpu, port: 0 };
        event(EVTCHNOP_BIND_IPI, &mut op).map(|_| Port(op.port))
    }

    fn bind_vcpu(&self, port: Port, vcpu: u32) -> Result<(), Errno> {
        let mut op = EvtchnBindVcpu { port: port.0, vcpu };
        event(EVTCHNOP_BIND_VCPU, &mut op).map(drop)
    }

    fn close(&self, port: Port) -> Result<(), Errno> {
        event(EVTCHNOP_CLOSE, &mut EvtchnClose { port: port.0 }).map(drop)
    }

    fn send(&self, port: Port) -> Result<(), Errno> {
        event(EVTCHNOP_SEND, &mut EvtchnSend { port: port.0 }).map(drop)
    }

    fn status(&self, port: Port) -> Result<PortStatus, Errno> {
        let mut op = EvtchnStatus {
            dom: DomId::SELF.0,
            _pad0: 0,
            port: port.0,
            status: 0,
            vcpu: 0,
            u0: 0,
            u1: 0,
        };
        event(EVTCHNOP_STATUS, &mut op).map(|_| PortStatus(op.status))
    }

    fn yield_now(&self) {
        // SAFETY: touches no memory.
        unsafe { raw(HYPERVISOR_SCHED_OP, [u64::from(SCHEDOP_YIELD), 0, 0, 0, 0]) };
    }

    fn poll(&self, ports: &[Port], deadline: Option<u64>) -> Result<(), Errno> {
        let mut op = SchedPoll {
            ports: ports.as_ptr() as u64,
            nr_ports: u32::try_from(ports.len()).unwrap_or(u32::MAX),
            _pad: 0,
            // 0 is no deadline; the host's first nanosecond is past anyway. Times are signed there.
            timeout: deadline
                .filter(|&at| at <= i64::MAX.cast_unsigned())
                .map_or(0, |at| clock::system(at).max(1)),
        };
        // SAFETY: reads the ports, writes nothing.
        unsafe { with(HYPERVISOR_SCHED_OP, SCHEDOP_POLL, &mut op) }.map(drop)
    }

    fn map_grant(
        &self,
        slot: &Slot,
        domain: DomId,
        reference: GrantRef,
        access: Access,
    ) -> Result<(GrantHandle, RawPage), GrantError> {
        let read_only = match access {
            Access::Read => GNTMAP_READONLY,
            Access::Write => 0,
        };
        let mut op = GnttabMapGrantRef {
            host_addr: slot.address(),
            flags: GNTMAP_HOST_MAP | read_only,
            r#ref: reference.0,
            dom: domain.0,
            status: 0,
            handle: 0,
            dev_bus_addr: 0,
        };
        // SAFETY: a slot is an address where nothing is.
        unsafe { grant(GNTTABOP_MAP_GRANT_REF, &mut op) }?;
        GrantError::check(op.status)?;
        let start = NonNull::new(slot.address() as *mut u8).ok_or(GrantError::Call(Errno(14)))?;
        // SAFETY: just mapped, until the handle is given back; nothing else is at a slot.
        let page = unsafe { RawPage::new(start) };
        Ok((GrantHandle(op.handle), page))
    }

    fn unmap_grant(&self, slot: &Slot, handle: GrantHandle) -> Result<(), GrantError> {
        let mut op = GnttabUnmapGrantRef {
            host_addr: slot.address(),
            dev_bus_addr: 0,
            handle: handle.0,
            status: 0,
            _pad: 0,
        };
        // SAFETY: what was mapped there is used no more, as the trait says.
        unsafe { grant(GNTTABOP_UNMAP_GRANT_REF, &mut op) }?;
        GrantError::check(op.status)
    }

    fn copy_grant(&self, from: CopySide, to: CopySide, bytes: u16) -> Result<(), GrantError> {
        let side = |side: CopySide| {
            let (u, domid, offset) = match side {
                CopySide::Granted {
                    domain,
                    reference,
                    offset,
                } => (u64::from(reference.0), domain.0, offset),
                CopySide::Own { frame, offset } => (frame.number(), DomId::SELF.0, offset),
            };
            GnttabCopyPtr {
                u,
                domid,
                offset,
                _pad: 0,
            }
        };
        let flag = |side: CopySide, flag: u16| match side {
            CopySide::Granted { .. } => flag,
            CopySide::Own { .. } => 0,
        };
        let mut op = GnttabCopy {
            source: side(from),
            dest: side(to),
            len: bytes,
            flags: flag(from, GNTCOPY_SOURCE_GREF) | flag(to, GNTCOPY_DEST_GREF),
            status: 0,
            _pad: 0,
        };
        // SAFETY: writes a shared frame only, which is reached by atomics.
        unsafe { grant(GNTTABOP_COPY, &mut op) }?;
        GrantError::check(op.status)
    }
}
