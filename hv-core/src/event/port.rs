//! Port records, and the directory that finds them without a lock.

use super::{EventError, boxed};
use crate::addr::{DomId, VcpuId};
use crate::arch::index;
use crate::sync::Once;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Number of an open event channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

impl Port {
    /// Reads a binding slot, in which 0 means none.
    pub(super) const fn bound(raw: u32) -> Option<Self> {
        if raw == 0 { None } else { Some(Self(raw)) }
    }
}

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nothing: the port is free.
    Closed,
    /// Waits for a domain to connect.
    Unbound {
        /// The only domain that may connect.
        remote: DomId,
    },
    /// Connected to another port.
    Interdomain {
        /// Domain of the peer.
        remote: DomId,
        /// The peer.
        port: Port,
    },
    /// A physical interrupt.
    Pirq(u32),
    /// A virtual interrupt.
    Virq(u32),
    /// Inter-vCPU interrupt.
    Ipi,
}

/// State of a port: its whole record, read at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// What it is bound to.
    pub binding: Binding,
    /// vCPU it notifies.
    pub vcpu: VcpuId,
    /// FIFO priority, 0 (first) to 15.
    pub priority: u8,
}

// Record layout: kind 0..3, priority 3..7, vCPU 8..24, domain 24..40, number 40..64.
pub(super) const KIND_MASK: u64 = 7;
const CLOSED: u64 = 0;
const UNBOUND: u64 = 1;
const INTERDOMAIN: u64 = 2;
const PIRQ: u64 = 3;
const VIRQ: u64 = 4;
const IPI: u64 = 5;

impl Channel {
    /// A free port.
    pub(super) const CLOSED: Self = Self {
        binding: Binding::Closed,
        vcpu: VcpuId(0),
        priority: 0,
    };

    #[inline]
    pub(super) fn pack(self) -> u64 {
        let (kind, domain, number) = match self.binding {
            Binding::Closed => return CLOSED,
            Binding::Unbound { remote } => (UNBOUND, remote.0, 0),
            Binding::Interdomain { remote, port } => (INTERDOMAIN, remote.0, port.0),
            Binding::Pirq(n) => (PIRQ, 0, n),
            Binding::Virq(n) => (VIRQ, 0, n),
            Binding::Ipi => (IPI, 0, 0),
        };
        debug_assert!(number < 1 << 24 && self.priority < 16);
        kind | u64::from(self.priority) << 3
            | u64::from(self.vcpu.0) << 8
            | u64::from(domain) << 24
            | u64::from(number) << 40
    }

    #[inline]
    pub(super) fn unpack(raw: u64) -> Self {
        let remote = DomId((raw >> 24) as u16);
        let number = (raw >> 40) as u32;
        let binding = match raw & KIND_MASK {
            UNBOUND => Binding::Unbound { remote },
            INTERDOMAIN => Binding::Interdomain {
                remote,
                port: Port(number),
            },
            PIRQ => Binding::Pirq(number),
            VIRQ => Binding::Virq(number),
            IPI => Binding::Ipi,
            _ => return Self::CLOSED,
        };
        Self {
            binding,
            vcpu: VcpuId((raw >> 8) as u16),
            priority: (raw >> 3 & 15) as u8,
        }
    }
}

/// One port.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// A packed [`Channel`].
    record: AtomicU64,
    /// Where the FIFO queued it last, and whether it was raised before its event
    /// word existed. Changes under the queue lock.
    pub(super) queued: AtomicU32,
}

impl Slot {
    #[inline]
    pub(super) fn channel(&self) -> Channel {
        Channel::unpack(self.record.load(Ordering::Acquire))
    }

    pub(super) fn set(&self, channel: Channel) {
        self.record.store(channel.pack(), Ordering::Release);
    }
}

/// Ports in a bucket; as many as Xen allocates at a time, since the end of the last
/// bucket is where a port number starts to be invalid and not only closed.
const BUCKET: u32 = 64;
/// Buckets in a group.
const GROUP: u32 = 64;
/// Groups beside the first, which is part of the directory.
const MORE_GROUPS: usize = (super::fifo::PORTS / (BUCKET * GROUP) - 1) as usize;

type Bucket = Once<Box<[Slot]>>;

/// Finds port records. Buckets never move and never go while the table lives.
#[derive(Debug)]
pub(super) struct Directory {
    first: [Bucket; GROUP as usize],
    more: [Once<Box<[Bucket]>>; MORE_GROUPS],
}

impl Directory {
    pub(super) fn new() -> Self {
        Self {
            first: [const { Once::new() }; GROUP as usize],
            more: [const { Once::new() }; MORE_GROUPS],
        }
    }

    /// The slot of `port`, if its bucket was ever needed.
    #[inline]
    pub(super) fn slot(&self, port: u32) -> Option<&Slot> {
        let bucket = (port / BUCKET) as usize;
        let cell = match index::get(&self.first, bucket) {
            Some(cell) => cell,
            None => {
                let group = index::get(&self.more, bucket / GROUP as usize - 1)?.get()?;
                group.get(bucket % GROUP as usize)?
            }
        };
        cell.get()?.get((port % BUCKET) as usize)
    }

    /// The slot of `port`, below [`super::fifo::PORTS`]; makes its bucket if needed.
    pub(super) fn ensure(&self, port: u32) -> Result<&Slot, EventError> {
        let bucket = (port / BUCKET) as usize;
        let cell = match self.first.get(bucket) {
            Some(cell) => cell,
            None => {
                let group = self
                    .more
                    .get(bucket / GROUP as usize - 1)
                    .ok_or(EventError::NoPort)?
                    .try_call_once(|| boxed(GROUP as usize, |_| Once::new()))?;
                &group[bucket % GROUP as usize]
            }
        };
        let slots = cell.try_call_once(|| boxed(BUCKET as usize, |_| Slot::default()))?;
        Ok(&slots[(port % BUCKET) as usize])
    }
}
