//! Event channels.
//!
//! Source: Xen `include/public/event_channel.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Connects to another domain's unbound port.
pub const EVTCHNOP_BIND_INTERDOMAIN: u32 = 0;
/// Binds a virtual interrupt.
pub const EVTCHNOP_BIND_VIRQ: u32 = 1;
/// Binds a physical interrupt.
pub const EVTCHNOP_BIND_PIRQ: u32 = 2;
/// Closes a port.
pub const EVTCHNOP_CLOSE: u32 = 3;
/// Sends an event.
pub const EVTCHNOP_SEND: u32 = 4;
/// State of a port.
pub const EVTCHNOP_STATUS: u32 = 5;
/// Allocates a port for another domain to bind.
pub const EVTCHNOP_ALLOC_UNBOUND: u32 = 6;
/// Binds an inter-vCPU interrupt.
pub const EVTCHNOP_BIND_IPI: u32 = 7;
/// Moves a port to another vCPU.
pub const EVTCHNOP_BIND_VCPU: u32 = 8;
/// Unmasks a port.
pub const EVTCHNOP_UNMASK: u32 = 9;
/// Closes all ports.
pub const EVTCHNOP_RESET: u32 = 10;
/// FIFO: a vCPU's control block.
pub const EVTCHNOP_INIT_CONTROL: u32 = 11;
/// FIFO: adds a page of event words.
pub const EVTCHNOP_EXPAND_ARRAY: u32 = 12;
/// FIFO: a port's priority.
pub const EVTCHNOP_SET_PRIORITY: u32 = 13;
/// Not in use.
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// Waits for a remote domain.
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// Connected to a remote domain.
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// Bound to a physical interrupt.
pub const EVTCHNSTAT_PIRQ: u32 = 3;
/// Bound to a virtual interrupt.
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// Bound to an inter-vCPU interrupt.
pub const EVTCHNSTAT_IPI: u32 = 5;
/// `evtchn_bind_pirq.flags`: the line may be shared.
pub const BIND_PIRQ__WILL_SHARE: u32 = 1;
/// Highest priority.
pub const EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
/// Priority of a new port.
pub const EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
/// Lowest priority.
pub const EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
/// Bit of an event word: pending.
pub const EVTCHN_FIFO_PENDING: u32 = 31;
/// Bit of an event word: masked.
pub const EVTCHN_FIFO_MASKED: u32 = 30;
/// Bit of an event word: in a queue.
pub const EVTCHN_FIFO_LINKED: u32 = 29;
/// Bit of an event word: being changed.
pub const EVTCHN_FIFO_BUSY: u32 = 28;
/// Low bits of an event word: next port.
pub const EVTCHN_FIFO_LINK_BITS: u32 = 17;
/// Ports of the FIFO interface.
pub const EVTCHN_FIFO_NR_CHANNELS: u32 = 131072;
/// Queues of a control block.
pub const EVTCHN_FIFO_MAX_QUEUES: usize = 16;

/// `struct evtchn_alloc_unbound`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnAllocUnbound {
    /// Domain of the new port.
    pub dom: u16,
    /// Domain that may bind it.
    pub remote_dom: u16,
    /// Out: the port.
    pub port: u32,
}
layout! { EvtchnAllocUnbound: 8 { dom: 0, remote_dom: 2, port: 4 } }

/// `struct evtchn_bind_interdomain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnBindInterdomain {
    /// Remote domain.
    pub remote_dom: u16,
    /// Padding.
    pub _pad: u16,
    /// Its unbound port.
    pub remote_port: u32,
    /// Out: the caller's port.
    pub local_port: u32,
}
layout! { EvtchnBindInterdomain: 12 { remote_dom: 0, _pad: 2, remote_port: 4, local_port: 8 } }

/// `struct evtchn_bind_virq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnBindVirq {
    /// `VIRQ_*`.
    pub virq: u32,
    /// vCPU.
    pub vcpu: u32,
    /// Out: the port.
    pub port: u32,
}
layout! { EvtchnBindVirq: 12 { virq: 0, vcpu: 4, port: 8 } }

/// `struct evtchn_bind_pirq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnBindPirq {
    /// Physical interrupt.
    pub pirq: u32,
    /// `BIND_PIRQ__*`.
    pub flags: u32,
    /// Out: the port.
    pub port: u32,
}
layout! { EvtchnBindPirq: 12 { pirq: 0, flags: 4, port: 8 } }

/// `struct evtchn_bind_ipi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnBindIpi {
    /// vCPU to notify.
    pub vcpu: u32,
    /// Out: the port.
    pub port: u32,
}
layout! { EvtchnBindIpi: 8 { vcpu: 0, port: 4 } }

/// `struct evtchn_close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnClose {
    /// Port.
    pub port: u32,
}
layout! { EvtchnClose: 4 { port: 0 } }

/// `struct evtchn_send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnSend {
    /// Port.
    pub port: u32,
}
layout! { EvtchnSend: 4 { port: 0 } }

/// `struct evtchn_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnStatus {
    /// Domain.
    pub dom: u16,
    /// Padding.
    pub _pad0: u16,
    /// Port.
    pub port: u32,
    /// Out: `EVTCHNSTAT_*`.
    pub status: u32,
    /// Out: vCPU the port notifies.
    pub vcpu: u32,
    /// Out, union: remote domain (low 16 bits; unbound, interdomain), pirq or virq.
    pub u0: u32,
    /// Out, union: remote port (interdomain).
    pub u1: u32,
}
layout! { EvtchnStatus: 24 { dom: 0, _pad0: 2, port: 4, status: 8, vcpu: 12, u0: 16, u1: 20 } }

/// `struct evtchn_bind_vcpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnBindVcpu {
    /// Port.
    pub port: u32,
    /// vCPU.
    pub vcpu: u32,
}
layout! { EvtchnBindVcpu: 8 { port: 0, vcpu: 4 } }

/// `struct evtchn_unmask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnUnmask {
    /// Port.
    pub port: u32,
}
layout! { EvtchnUnmask: 4 { port: 0 } }

/// `struct evtchn_reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnReset {
    /// Domain.
    pub dom: u16,
}
layout! { EvtchnReset: 2 { dom: 0 } }

/// `struct evtchn_init_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnInitControl {
    /// Frame of the control block.
    pub control_gfn: u64,
    /// Offset in it.
    pub offset: u32,
    /// vCPU.
    pub vcpu: u32,
    /// Out: bits of a link.
    pub link_bits: u8,
    /// Padding.
    pub _pad: [u8; 7],
}
layout! { EvtchnInitControl: 24 { control_gfn: 0, offset: 8, vcpu: 12, link_bits: 16, _pad: 17 } }

/// `struct evtchn_expand_array`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnExpandArray {
    /// Frame of event words.
    pub array_gfn: u64,
}
layout! { EvtchnExpandArray: 8 { array_gfn: 0 } }

/// `struct evtchn_set_priority`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnSetPriority {
    /// Port.
    pub port: u32,
    /// `EVTCHN_FIFO_PRIORITY_*`.
    pub priority: u32,
}
layout! { EvtchnSetPriority: 8 { port: 0, priority: 4 } }

/// `struct evtchn_fifo_control_block` (written concurrently by both sides).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnFifoControlBlock {
    /// One bit per queue that is not empty.
    pub ready: u32,
    /// Padding.
    pub _rsvd: u32,
    /// First port of each queue.
    pub head: [u32; EVTCHN_FIFO_MAX_QUEUES],
}
layout! { EvtchnFifoControlBlock: 72 { ready: 0, _rsvd: 4, head: 8 } }
