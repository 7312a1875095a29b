//! The lock order. A lock may be taken only while every lock already held on this
//! CPU has a *lower* level; debug builds check it. One that is only tried for
//! ([`super::Lock::try_lock`]) needs no order. Two locks of one level: lower domain
//! id first, and by [`super::Lock::lock_same_level`] only.

/// Level of a lock, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// A vCPU's state; its CPU holds it for as long as the vCPU runs. Another
    /// vCPU's state is only ever tried for, never waited for.
    VcpuState = 0,
    /// A domain's life: creation, death, its vCPU table.
    DomainLife = 1,
    /// The list of domains: who takes a domain apart looks others up.
    Registry = 2,
    /// A domain's grant table.
    Grant = 3,
    /// A domain's event-channel table.
    Event = 4,
    /// Routing of host interrupts to domains.
    Irq = 5,
    /// One frame being promoted, demoted or updated as a page table.
    PageTable = 6,
    /// A domain's memory accounting.
    DomainPages = 7,
    /// The hypervisor heap, and the hypervisor's own page tables: both draw on the
    /// frame allocator, so they come before it; neither uses the other.
    Heap = 8,
    /// The frame allocator.
    FrameAlloc = 9,
    /// A domain's queues of pending events (FIFO interface): interrupt handlers take it.
    EventQueue = 10,
    /// A CPU's run queue.
    RunQueue = 11,
    /// A CPU's timer queue.
    Timer = 12,
    /// Device registers reached through index/data pairs (IOAPIC, PCI, RTC).
    Device = 13,
    /// TLB shoot-down requests.
    Tlb = 14,
    /// The record of privileged operations: may be taken anywhere.
    Audit = 15,
    /// Console ring and UART: may be taken anywhere.
    Console = 16,
}

impl Level {
    /// How many there are.
    pub const COUNT: usize = Self::Console as usize + 1;
}
